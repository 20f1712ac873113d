"""Several processes play as one: the same curve, shared rows, checkpoints for any number."""

import re
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from together import (
    ALIKE,
    APART,
    IN_ONE_GRAPH,
    TURN,
    compile_all,
    exact,
    played,
    vae,
    validated,
    work,
)
from torch import Tensor

import daguerre as dg
from daguerre.peers import Peers
from daguerre.train.batches import Batches, Members
from daguerre.train.processes import processes, seed_of

SHORT = {"batch_size": 8, "optimizer": TURN}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes left all that they found; the second one dies in the end."""
    found = tmp_path_factory.mktemp("together")
    played(vae, steps=5, out=found / "runs/one, two", **SHORT)
    assert both(work, found) == [0, 3]
    return found


def both(target, folder: Path) -> list[int | None]:
    """Run two processes to their end, and return how they ended."""
    context = get_context("spawn")
    workers = [context.Process(target=target, args=(rank, folder)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
    return [worker.exitcode for worker in workers]


def found(folder: Path, name: str, rank: int = 0) -> dict[str, Tensor]:
    return torch.load(folder / f"{name} {rank}.pt")


def equal(one, other, *, rtol=1e-9) -> bool:
    """Compare to the bit at rtol 0; losses are kept in single precision."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        single = value.dtype == torch.float32
        torch.testing.assert_close(
            value, other[name], rtol=max(rtol, 1e-6 * single) if rtol else 0, atol=rtol, msg=name
        )
    return True


# The same curve as one process


@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_play_as_one(name, folder):
    make, options = ALIKE[name]
    two = found(folder, name)
    assert equal(two, found(folder, name, 1), rtol=0)
    assert equal(played(make, **options), two)


@pytest.mark.parametrize("name", APART)
def test_with_noise_they_play_as_a_loop_over_the_shares(name, folder):
    two = found(folder, name)
    assert equal(two, found(folder, name, 1), rtol=0)
    assert equal(by_hand(name), two)


def by_hand(name: str) -> dict[str, Tensor]:
    """Average the gradients of the shares, each with a stream of draws of its own."""
    with exact():
        objective, given = APART[name]()
        movers = [player for player in objective.players if player.parameters()]
        states = {player.name: dg.Adam().start(player.parameters()) for player in movers}
        losses: dict[str, list[Tensor]] = {player.name: [] for player in movers}
        batches = Batches(given, 8, seed=3)
        streams = [torch.Generator().manual_seed(seed_of(3, rank)).get_state() for rank in (0, 1)]
        for _ in range(7):
            batch = next(batches)
            for player in movers:
                loss, gradients = 0.0, [0.0] * len(player.parameters())
                for rank in (0, 1):
                    torch.set_rng_state(streams[rank])
                    share = {k: v.chunk(2)[rank] for k, v in batch.items()}
                    one = objective.losses(share, players=[player.name])[player.name]
                    own = torch.autograd.grad(one, player.parameters())
                    streams[rank] = torch.get_rng_state()
                    loss += one.detach() / 2
                    gradients = [a + b / 2 for a, b in zip(gradients, own, strict=True)]
                with torch.no_grad():
                    state = states[player.name]
                    dg.Adam().update([*player.parameters()], gradients, state, 1e-3)
                losses[player.name].append(loss)
    weights = {
        f"{player.name}.{i}.{k}": v
        for player in objective.players
        for i, module in enumerate(player.modules)
        for k, v in module.state_dict().items()
    }
    curves = {k: torch.stack(v).float() for k, v in losses.items()}
    return curves | weights | {"steps": torch.tensor(7)}


# Rows


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_are_the_batches_of_one_process(world):
    given = {"x": torch.arange(20 * 5).view(20, 5)}
    members = {"n": Members(2, 5, {"x": 1})}
    whole = Batches(given, 6, 0, members)
    shares = [Batches(given, 6, 0, members, peers=Peers(rank, world)) for rank in range(world)]
    for _ in range(3 * whole.per_epoch):
        parts = [next(share)["x"] for share in shares]
        assert {part.shape for part in parts} == {(6 // world, 2)}
        assert torch.equal(torch.cat(parts), next(whole)["x"])


def test_an_epoch_holds_every_row_once():
    given = {"x": torch.arange(24)}
    shares = [Batches(given, 8, 1, None, peers=Peers(rank, 2)) for rank in range(2)]
    rows = [next(share)["x"] for _ in range(3) for share in shares]
    assert torch.equal(torch.cat(rows).sort().values, given["x"])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (9, r"a batch of 9 rows cannot be shared equally by 2 .*, such as 2 or 8$"),
        (99, r"a batch of 25 rows, as many as the data has rows \(batch_size=99\), cannot"),
        (1, r"a batch of 1 rows cannot be shared .* such as 2$"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(size, message):
    with pytest.raises(ValueError, match=message):
        Batches({"x": torch.zeros(25)}, size, 0, None, peers=Peers(0, 2))


# Checkpoints


def test_two_processes_resume_to_the_bit(folder):
    for rank in (0, 1):
        two = found(folder, "resumed", rank)
        whole = {k.removeprefix("whole "): v for k, v in two.items() if k.startswith("whole ")}
        assert equal(whole, {k: v for k, v in two.items() if not k.startswith("whole ")}, rtol=0)
    assert equal(found(folder, "resumed"), found(folder, "resumed", 1), rtol=0)


def test_what_two_processes_began_one_finishes(folder):
    out = folder / "runs/two, one"
    assert equal(
        played(vae, steps=9, out=out, resume=True, **SHORT), played(vae, steps=9, **SHORT)
    )


def test_what_one_process_began_two_finish(folder):
    assert equal(played(vae, steps=9, **SHORT), found(folder, "joined"))
    assert equal(found(folder, "joined"), found(folder, "joined", 1), rtol=0)


def test_process_0_alone_writes(folder):
    lines = (folder / "runs/two, two/history.jsonl").read_text().splitlines()
    assert len(lines) == 9
    names = sorted(path.name for path in (folder / "runs/two, two/checkpoints").iterdir())
    assert names == ["000000005.safetensors", "000000009.safetensors"]


# Decisions, errors, ends


def test_what_process_0_measures_and_decides_counts_for_all(folder):
    two = found(folder, "decided")
    assert two["steps"] == 4
    assert len(two["random"]) == 4
    assert equal(two, found(folder, "decided", 1), rtol=0)


def test_validation_is_that_of_one_process_and_stops_all(folder):
    two = found(folder, "validated")
    assert two["steps"] < 20
    assert equal(validated(), two)
    assert equal(two, found(folder, "validated", 1), rtol=0)


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        ("broken", r"GraphError: process [01]: step [1-3], player model: .* exp gave infinity"),
        ("unlike", r"ValueError: process 1 fits another data x than process 0: \[24, 3\] .* with"),
        ("uneven", r"ValueError: a batch of 9 rows cannot be shared equally by 2 processes"),
        ("occupied", r"FileExistsError: .*occupied holds a run already"),
    ],
)
def test_all_processes_raise_the_same_error(scene, message, folder):
    said = [[*found(folder, scene, rank)] for rank in (0, 1)]
    assert said[0] == said[1]
    assert re.match(message, said[0][0])


def test_ctrl_c_in_one_process_ends_all_after_the_same_step(folder):
    two = found(folder, "interrupted")
    assert two["steps"] == 4  # what is pressed in a step is heard with the next
    assert equal(two, found(folder, "interrupted", 1), rtol=0)
    out = folder / "runs/interrupted"
    assert [path.stem for path in (out / "checkpoints").iterdir()] == ["000000004"]
    assert equal(played(vae, steps=9, out=out, resume=True), played(vae, steps=9))


def test_a_process_that_dies_ends_the_others_with_what_to_do(folder):
    (said,) = found(folder, "deserted")
    assert re.match(
        r"ConnectionError: process 0 has lost another one after step 6: .*5\.safe", said
    )
    plan = dg.train.Checkpoints(folder / "runs/deserted", every=5)
    assert equal(played(vae, steps=9, out=plan, resume=True), played(vae, steps=9))


# Alone


def test_without_torchrun_a_process_is_alone(monkeypatch):
    assert processes() == Peers()
    monkeypatch.setenv("WORLD_SIZE", "2")  # of somebody else
    assert processes() == Peers()


def test_seeds_of_processes_differ():
    assert len({seed_of(seed, rank) for seed in range(20) for rank in range(5)}) == 100
    assert seed_of(7, 0) == 7
    assert seed_of(7, 1, steps=3) != seed_of(7, 1)


# Compiled, and from the command line


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_compiled_steps_hold_the_messages(tmp_path):
    assert both(compile_all, tmp_path) == [0, 0]
    for name, (make, options) in IN_ONE_GRAPH.items():
        assert equal(played(make, **options), found(tmp_path, name))


def torchrun(*words: str) -> subprocess.Popen[str]:
    """Start two processes as in the foreground, where Ctrl-C counts."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "daguerre"]
    return subprocess.Popen(
        [*start, *words],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.slow
@pytest.mark.parametrize("shares", ["shard=false", "shard=true", "shard_weights=true"])
def test_torchrun_fits_and_writes_once(shares, tmp_path):
    out = tmp_path / "run"
    settings = "--set", "steps=4", "--set", shares
    with torchrun("fit", "vae", "--out", str(out), *settings) as process:
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert said.count(f"wrote {out}") == 1
    assert len(dg.train.read_history(out / "history.jsonl")) == 4
    assert {"run.json", "graph.svg", "weights.safetensors"} <= {p.name for p in out.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_torchrun_leaves_a_checkpoint_of_the_last_step(number, tmp_path):
    out = tmp_path / "run"
    with torchrun(
        "fit", "vae", "--out", str(out), "--set", "steps=1000000", "--no-compile"
    ) as process:
        lines = out / "history.jsonl"
        while process.poll() is None and not (lines.exists() and lines.stat().st_size):
            time.sleep(0.1)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert said.count("interrupted; go on with daguerre resume") == 1
    (path,) = (out / "checkpoints").iterdir()
    assert int(path.stem) == len(dg.train.read_history(lines))
