"""Damaged, foreign and hostile files; disks that fail in the middle."""

import json
import os
import pickle
import random
import struct
from pathlib import Path

import pytest
import torch
from players import snapshot, vae
from safetensors.torch import save as to_bytes
from torch import nn

import daguerre as dg
from daguerre.train.checkpoint import Saved, read, write


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(t, before[k]) for k, t in module.state_dict().items())


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.safetensors"
    dg.save(net(), path, notes={"a": 1})
    return path.read_bytes()


def test_a_file_cut_anywhere_is_refused_and_changes_nothing(whole, tmp_path):
    target, path = net(), tmp_path / "cut.safetensors"
    before = state(target)
    for i in range(60):
        path.write_bytes(whole[: len(whole) * i // 60])
        with pytest.raises(ValueError, match=r"cut\.safetensors is truncated or no safetensors"):
            dg.load(path, into=target)
        assert unchanged(target, before)
        assert path.read_bytes() == whole[: len(whole) * i // 60]


def test_bytes_too_many_are_refused(whole, tmp_path):
    path = tmp_path / "long.safetensors"
    path.write_bytes(whole + b"more")
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        dg.load(path)


class Payload:
    """Executes on unpickling."""

    def __reduce__(self):
        return (Path.touch, (Path(os.environ["PLANTED"]),))


@pytest.fixture
def planted(tmp_path, monkeypatch):
    path = tmp_path / "executed"
    monkeypatch.setenv("PLANTED", str(path))
    return path


def test_the_payload_of_the_next_tests_does_execute(planted):
    pickle.loads(pickle.dumps(Payload()))
    assert planted.exists()


@pytest.mark.parametrize("write", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_executed(write, planted, tmp_path):
    path, target = tmp_path / "evil.safetensors", net()
    before = state(target)
    if write == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    else:
        torch.save({"model": Payload()}, path)
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        dg.load(path, into=target)
    assert not planted.exists()
    assert unchanged(target, before)


def test_a_pickle_in_the_header_is_only_text(planted, tmp_path):
    text = pickle.dumps(Payload(), protocol=0).decode("latin-1")
    path = tmp_path / "evil.safetensors"
    path.write_bytes(to_bytes({"model/a": torch.zeros(1)}, {"daguerre": text}))
    with pytest.raises(ValueError, match=r"was not written by daguerre\.save"):
        dg.load(path)
    dg.save(nn.Identity(), path, notes={"a": text})
    assert dg.load(path).notes == {"a": text}
    assert not planted.exists()


GOOD = {"format": 1, "modules": ["model"], "graphs": {}, "notes": {}}
VARIABLE = {
    "name": "z",
    "parents": [],
    "map": "stochastic",
    "inverts": None,
    "plates": [],
    "lags": [],
}


def graph(**changes):
    return {**GOOD, "graphs": {"model": {"variables": [{**VARIABLE, **changes}], "plates": []}}}


FOREIGN = {
    "no header": None,
    "no JSON": "{",
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "no fields": "{}",
    "no modules": json.dumps({**GOOD, "modules": None}),
    "another module": json.dumps({**GOOD, "modules": ["other"]}),
    "graphs of another kind": json.dumps({**GOOD, "graphs": ["z"]}),
    "an empty graph entry": json.dumps({**GOOD, "graphs": {"model": {}}}),
    "a variable with a field too many": json.dumps(graph(color="red")),
    "a variable without a name": json.dumps({
        **GOOD, "graphs": {"model": {"variables": [{}], "plates": []}}
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_refused(name, tmp_path):
    path, text = tmp_path / "foreign.safetensors", FOREIGN[name]
    header = {"format": "pt"} if text is None else {"daguerre": text}
    path.write_bytes(to_bytes({"model/a": torch.zeros(1)}, header))
    with pytest.raises(ValueError, match=r"foreign\.safetensors was not written by daguerre\.sa"):
        dg.load(path)


def test_a_graph_that_cannot_be_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(
        to_bytes({"model/a": torch.zeros(1)}, {"daguerre": json.dumps(graph(parents=["y"]))})
    )
    with pytest.raises(ValueError, match="unknown parent 'y'"):
        dg.load(path)


def test_a_later_format_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(
        to_bytes({"model/a": torch.zeros(1)}, {"daguerre": json.dumps({**GOOD, "format": 2})})
    )
    with pytest.raises(ValueError, match="has format 2; this version reads 1"):
        dg.load(path)


def test_a_missing_file_or_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent\.safetensors"):
        dg.load(tmp_path / "absent.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is no file"):
        dg.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere to write m"):
        dg.save(net(), tmp_path / "nowhere" / "m.safetensors")
    assert not [*tmp_path.iterdir()]


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


CALLS = ["os.fsync", "pathlib.Path.chmod", "pathlib.Path.replace"]


@pytest.mark.parametrize("broken", CALLS)
@pytest.mark.parametrize("error", [full_disk, KeyboardInterrupt], ids=["disk", "ctrl-c"])
def test_saving_that_fails_leaves_the_old_file_and_nothing_else(
    broken, error, whole, tmp_path, monkeypatch
):
    path = tmp_path / "whole.safetensors"

    def fail(*args, **kwargs):
        if error is full_disk:
            full_disk()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises((OSError, KeyboardInterrupt)):
            dg.save(net(), path)
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["whole.safetensors"]


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "m.safetensors").mkdir()
    with pytest.raises(OSError, match=r"m\.safetensors"):
        dg.save(net(), tmp_path / "m.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


# Checkpoints


@pytest.fixture
def run(tmp_path):
    """The folder of a run of three steps."""
    game = vae()
    dg.fit(game.objective, game.x, steps=3, batch_size=8, out=tmp_path / "run")
    return tmp_path / "run"


def checkpoint_of(run):
    return run / "checkpoints/000000003.safetensors"


def resumed(run):
    """Resume it into other weights; return them before and after, and what was raised."""
    game = vae()
    before = snapshot(game.modules["p"])
    with pytest.raises(ValueError, match=r"000000003\.safetensors") as error:
        dg.fit(game.objective, game.x, steps=5, batch_size=8, out=run, resume=True)
    assert all(map(torch.equal, before, game.modules["p"].parameters()))
    return str(error.value)


@pytest.mark.parametrize("region", ["length", "header", "data"])
def test_bytes_changed_anywhere_are_refused_or_are_words_alone(region, run):
    path = checkpoint_of(run)
    good, whole = path.read_bytes(), read(path)
    data = 8 + struct.unpack("<Q", good[:8])[0]
    first, end = {"length": (0, 8), "header": (8, data), "data": (data, len(good))}[region]
    chance, accepted = random.Random(0), 0
    for _ in range(150):
        content = bytearray(good)
        for _ in range(chance.choice((1, 1, 3, 20))):
            content[chance.randrange(first, end)] ^= chance.randrange(1, 256)
        path.write_bytes(content)
        try:
            found = read(path)
        except ValueError:
            continue
        accepted += 1
        for module, tensors in found.tensors.items():
            assert all(torch.equal(t, whole.tensors[module][k]) for k, t in tensors.items())
    assert accepted == 0 or region == "header"


@pytest.mark.parametrize("length", [0, 10**9, 2**63, 2**64 - 1])
def test_a_header_of_impossible_length_is_refused(length, run):
    path = checkpoint_of(run)
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    assert "truncated or no safetensors file" in resumed(run)


NOTES = {
    "metrics that are no table": {"metrics": 5},
    "metrics that are no numbers": {"metrics": {"a": ["b", {}]}},
    "time that is no number": {"seconds": {}},
}
TENSORS = {
    "generators of another kind": ("chance", "torch", torch.zeros(3, dtype=torch.uint8)),
    "generators of too few words": ("chance", "numpy", torch.zeros(3, dtype=torch.long)),
    "a place that is none": ("batches", "drawn", torch.zeros(3, dtype=torch.long)),
    "a shuffle that is none": ("batches", "generator", torch.zeros(3, dtype=torch.uint8)),
}


@pytest.mark.parametrize("name", NOTES)
def test_notes_that_a_stranger_wrote_are_refused_and_nothing_is_set(name, run):
    path = checkpoint_of(run)
    found = read(path)
    write(path, Saved(found.tensors, found.graphs, found.notes | NOTES[name]))
    assert "holds no state of a fit" in resumed(run)


@pytest.mark.parametrize("name", TENSORS)
def test_states_that_a_stranger_wrote_are_refused_and_nothing_is_set(name, run):
    path, (part, key, tensor) = checkpoint_of(run), TENSORS[name]
    found = read(path)
    found.tensors[part][key] = tensor
    write(path, found)
    assert "holds no state of a fit" in resumed(run)


def test_a_checkpoint_that_is_a_link_is_read_and_never_written_through(run, tmp_path):
    path, elsewhere = checkpoint_of(run), tmp_path / "elsewhere.safetensors"
    path.rename(elsewhere)
    content = elsewhere.read_bytes()
    path.symlink_to(elsewhere)
    game = vae()
    plan = dg.train.Checkpoints(run, every=1, keep=1)
    assert len(dg.fit(game.objective, game.x, steps=5, batch_size=8, out=plan, resume=True)) == 5
    assert elsewhere.read_bytes() == content
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["000000005.safetensors"]
