"""The log for TensorBoard: what is in it, and that a resumed fit writes nothing twice."""

import struct
import sys

import pytest
import torch
from players import Mean, gan, vae
from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]
from tensorboardX.record_writer import masked_crc32c

import daguerre as dg
from daguerre.train import every, tensorboard, validation


def events(folder):
    """All events, in the order in which TensorBoard reads files; checksums hold."""
    found = []
    for path in sorted(folder.iterdir()):
        assert "tfevents" in path.name
        content, first = path.read_bytes(), 0
        while first < len(content):
            (length,) = struct.unpack_from("<Q", content, first)
            data = content[first + 12 : first + 12 + length]
            checks = [struct.pack("<I", masked_crc32c(x)) for x in (content[first:][:8], data)]
            assert content[first + 8 : first + 12] == checks[0]
            assert content[first + 12 + length : first + 16 + length] == checks[1]
            found.append(Event.FromString(data))
            first += 16 + length
    return found


def scalars(folder):
    return [
        (v.tag, e.step, v.simple_value)
        for e in events(folder)
        for v in e.summary.value
        if v.WhichOneof("value") == "simple_value"
    ]


def play(folder, out, *, steps=12, resume=False, extra=()):
    game = vae()
    return dg.fit(
        game.objective, game.x, steps=steps, batch_size=8, out=dg.train.Checkpoints(out, every=5),
        lr=dg.train.warm_up(0.01, updates=4), resume=resume, progress=False,
        callbacks=[every(4, validation(game.x)), *extra, tensorboard(folder, every=3)],
    )  # fmt: skip


def test_losses_rates_and_measures_are_those_of_the_history(tmp_path):
    history = play(tmp_path / "log", tmp_path / "run")
    found = scalars(tmp_path / "log")
    losses = {step: value for tag, step, value in found if tag == "loss/model"}
    assert [*losses] == [3, 6, 9, 12]
    for step, value in losses.items():
        assert value == history.losses["model"][step - 1].item()
    rates = [value for tag, _, value in found if tag == "rate/model"]
    assert rates == pytest.approx([0.0075, 0.01, 0.01, 0.01])
    measures = [(step, value) for tag, step, value in found if tag == "validation model"]
    series = history.metrics["validation model"]
    assert [step for step, _ in measures] == series.steps.tolist() == [4, 8, 12]
    assert [value for _, value in measures] == series.values.tolist()


def test_the_first_step_shows_the_graph_and_says_the_objective(tmp_path):
    play(tmp_path / "log", tmp_path / "run", steps=1)
    head, start, *_ = events(tmp_path / "log")
    assert head.file_version == "brain.Event:2"
    assert start.session_log.status == 1
    values = {v.tag: v for e in events(tmp_path / "log") for v in e.summary.value}
    png = values["graph"].image.encoded_image_string
    assert png.startswith(b"\x89PNG")
    assert (values["graph"].image.width, values["graph"].image.height) > (50, 50)
    (text,) = values["objective/text_summary"].tensor.string_val
    assert vae().objective.latex() in text.decode()
    assert "closed form" in text.decode()


def test_samples_are_shown_where_a_model_is_named(tmp_path):
    game = gan()
    p = game.modules["p"]
    assert isinstance(p, dg.Model)
    log = tensorboard(tmp_path, p=p, grids=2)
    dg.fit(game.objective, game.x, steps=5, progress=False, callbacks=[log])
    shown = [
        (e.step, v.image.encoded_image_string)
        for e in events(tmp_path)
        for v in e.summary.value
        if v.tag == "samples"
    ]
    assert [step for step, _ in shown] == [2, 4]
    assert all(png.startswith(b"\x89PNG") for _, png in shown)


class KilledError(Exception):
    pass


def test_a_resumed_fit_writes_no_step_twice(tmp_path):
    def kill(now):
        if now.step == 8:  # the checkpoint is of step 5
            raise KilledError

    play(tmp_path / "whole", tmp_path / "a")
    with pytest.raises(KilledError):
        play(tmp_path / "broken", tmp_path / "b", extra=[kill])
    (first,) = (tmp_path / "broken").iterdir()
    first.write_bytes(first.read_bytes() + b"torn")  # as kill -9 may leave it
    assert ("loss/model", 6) in [(tag, step) for tag, step, _ in scalars_of_whole(first)]
    play(tmp_path / "broken", tmp_path / "b", resume=True)
    assert scalars(tmp_path / "broken") == scalars(tmp_path / "whole")
    purges = [e.step for e in events(tmp_path / "broken") if e.HasField("session_log")]
    assert purges == [1, 6]  # for those who had read on already


def scalars_of_whole(path):
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    found = scalars(path.parent)
    path.write_bytes(content)
    return found


def test_files_of_others_are_left_alone_and_a_second_fit_takes_nothing_back(tmp_path):
    other = tmp_path / "events.out.tfevents.1.other"
    other.write_bytes(b"not ours")
    log = tensorboard(tmp_path, every=1)
    for _ in range(2):
        dg.fit(dg.nll(Mean()), torch.zeros(4), steps=2, progress=False, callbacks=[log])
    assert other.read_bytes() == b"not ours"
    other.unlink()
    steps = [step for tag, step, _ in scalars(tmp_path) if tag == "loss/model"]
    assert steps == [1, 2, 1, 2]


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.summary", None)
    with pytest.raises(ImportError, match=r"pip install daguerre\[tensorboard\]"):
        tensorboard(tmp_path)


def test_numbers_of_steps_are_positive(tmp_path):
    with pytest.raises(ValueError, match="every must be a whole number, 1 or more"):
        tensorboard(tmp_path, every=0)
    with pytest.raises(ValueError, match="grids must be a whole number, 1 or more"):
        tensorboard(tmp_path, grids=-1)
