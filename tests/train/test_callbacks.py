"""Callbacks and the history: what is measured, when a fit ends, what is kept."""

import json

import pytest
import torch
from players import Mean, gan, snapshot, vae

import daguerre as dg
from daguerre.train import early_stop, every, keep_best, sample_grid, validation


def test_validation_is_the_loss_in_evaluation_mode_with_averaged_weights():
    game = vae()
    held_out = torch.rand(30, 1).round().repeat(1, 4)
    turn = dg.train.Turn(dg.Adam(lr=0.05), average=0.9)
    history = dg.fit(
        game.objective, game.x, steps=12, batch_size=8, optimizer=turn,
        callbacks=[every(4, validation(held_out, batch_size=30))],
    )  # fmt: skip
    assert history.metrics["validation model"].steps.tolist() == [4, 8, 12]
    torch.manual_seed(0)
    loss = game.objective.losses(held_out, step=12)["model"]  # the averages are in place now
    assert history["validation model"][-1].item() == pytest.approx(loss.item(), rel=1e-5)


def test_validation_in_parts_is_that_of_the_whole():
    p, x = Mean(0.3), torch.arange(7.0)
    whole, parts = (
        dg.fit(dg.nll(p), x, steps=1, lr=1e-9, callbacks=[validation(x, batch_size=size)])
        for size in (7, 3)
    )
    one, other = whole["validation model"].item(), parts["validation model"].item()
    assert one == pytest.approx(other, rel=1e-5)
    assert one == pytest.approx(dg.nll(p).losses(x)["model"].item(), rel=1e-5)


def test_looking_changes_nothing_of_the_fit():
    def weights(callbacks):
        game = gan()
        p = game.modules["p"]
        assert isinstance(p, dg.Model)
        dg.fit(game.objective, game.x, steps=6, optimizer=dg.train.Turn(average=0.9),
               callbacks=callbacks(p))  # fmt: skip
        return snapshot(p)

    plain = weights(lambda p: [])
    looked = weights(
        lambda p: [validation(torch.rand(9, 4)), lambda now: {"a": now.losses["model"]}]
    )
    assert all(map(torch.equal, plain, looked))


@pytest.mark.parametrize("maximize", [False, True])
def test_a_fit_ends_when_a_measure_gets_better_no_more(maximize):
    values = [3.0, 2.0, 1.0, 1.5, float("nan"), 1.2, 0.5]
    sign = -1 if maximize else 1
    history = dg.fit(
        dg.nll(Mean()), torch.ones(4), steps=50,
        callbacks=[
            every(2, lambda now: {"score": sign * values[now.step // 2 - 1]}),
            early_stop("score", patience=3, maximize=maximize),
        ],
    )  # fmt: skip
    assert len(history) == 12
    assert history.stopped == "score has not got better 3 times in a row"
    assert "score has not got better" in repr(history)
    assert not history.interrupted


def test_a_fit_that_was_stopped_stays_so_when_resumed(tmp_path):
    def fit(**options):
        callbacks = [lambda now: {"score": 1.0}, early_stop("score", patience=4)]
        return dg.fit(dg.nll(Mean()), torch.ones(4), steps=50, out=tmp_path,
                      callbacks=callbacks, **options)  # fmt: skip

    assert len(fit()) == 5
    again = fit(resume=True)
    assert len(again) == 5
    assert again.stopped == "score has not got better 4 times in a row"


def test_the_best_weights_are_kept(tmp_path):
    p, means = Mean(), {}
    scores = [5.0, 2.0, 3.0, 2.0, 4.0]

    def score(now):
        means[now.step] = p.mean.item()
        return {"score": scores[now.step - 1]}

    best = tmp_path / "best.safetensors"
    dg.fit(dg.nll(p), torch.ones(4), steps=5, lr=0.1,
           callbacks=[score, keep_best("score", best, p)])  # fmt: skip
    saved = dg.load(best)
    assert saved.tensors["model"]["mean"].item() == means[2]
    assert saved.notes == {"step": 2, "score": 2.0}


def test_grids_come_from_the_same_noise(tmp_path):
    game = gan()
    p = game.modules["p"]
    assert isinstance(p, dg.Model)
    callbacks = [every(2, sample_grid(p, tmp_path / "samples", n=8))]
    dg.fit(game.objective, game.x, steps=4, lr={"model": 1e-12}, callbacks=callbacks)
    one, two = (tmp_path / "samples" / f"00000000{step}.png" for step in (2, 4))
    assert one.read_bytes()[:4] == b"\x89PNG"
    assert one.read_bytes() == two.read_bytes()


def test_the_moment_tells_where_the_fit_is():
    seen = []
    history = dg.fit(
        dg.nll(Mean()), torch.ones(4), steps=3,
        callbacks=[lambda now: seen.append((now.step, now.total, now.losses["model"]))],
    )  # fmt: skip
    assert [(step, total) for step, total, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert [loss for _, _, loss in seen] == pytest.approx(history["model"].tolist())


def test_the_file_of_losses_is_the_history_to_the_bit(tmp_path):
    game = gan()
    callbacks = [every(3, lambda now: {"score": now.step / 3})]
    history = dg.fit(game.objective, game.x, steps=70, out=tmp_path, callbacks=callbacks)
    read = dg.train.read_history(tmp_path / "history.jsonl")
    assert all(torch.equal(read[name], history[name]) for name in ("critic", "model", "score"))
    assert torch.equal(read.metrics["score"].steps, history.metrics["score"].steps)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert json.loads(lines[2])["metrics"] == {"score": 1.0}


def test_the_file_is_read_while_it_grows_and_after_a_crash(tmp_path):
    seen = []

    def look(now):
        if now.step == 90:
            seen.append(len(dg.train.read_history(tmp_path / "history.jsonl")))

    dg.fit(dg.nll(Mean()), torch.ones(4), steps=100, out=tmp_path, callbacks=[look])
    assert 64 <= seen[0] <= 90
    path = tmp_path / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert len(dg.train.read_history(path)) == 99
    path.write_text('{"step": 1, "losses": {"model": 1.0}}\nnonsense\n')
    with pytest.raises(ValueError, match=r"history\.jsonl is damaged in line 2: 'nonsense'"):
        dg.train.read_history(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        dg.train.read_history(tmp_path / "none.jsonl")


def test_the_history_is_a_table_and_a_picture():
    history = dg.fit(dg.nll(Mean()), torch.ones(4), steps=10,
                     callbacks=[every(5, lambda now: {"score": now.step})])  # fmt: skip
    rows = [*history.table(rows=2)]
    assert [row["step"] for row in rows] == ["5", "10"]
    assert [row["score"] for row in rows] == ["5", "10"]
    assert float(rows[1]["model"]) == pytest.approx(history["model"][5:].mean().item(), rel=1e-3)
    assert history.svg.startswith("<svg")
    assert history.svg.count("<polyline") == 2
    assert history._repr_svg_() == history.svg


@pytest.mark.parametrize(
    "make",
    [lambda: every(0, print), lambda: validation(torch.ones(1), batch_size=0),
     lambda: early_stop("a", patience=0), lambda: dg.train.Checkpoints("x", keep=0)],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(make):
    with pytest.raises(ValueError, match="must be a whole number, 1 or more, not 0"):
        make()
