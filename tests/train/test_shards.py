"""Two processes that share out the optimiser's work play as they do without."""

import re
from pathlib import Path

import pytest
import torch
from test_processes import both, equal
from together import (
    ALIKE,
    APART,
    ROWS,
    TURN,
    WIDTH,
    NoisyGenerator,
    Steep,
    data,
    gan,
    meet,
    played,
    refused,
    vae,
)
from torch import Tensor

import daguerre as dg
from daguerre.peers import Peers
from daguerre.train.exchange import Exchange
from daguerre.train.shards import Shards

SHORT = {"batch_size": 8, "optimizer": TURN}
MOMENTUM = dg.SGD(lr=0.05, momentum=0.9, weight_decay=0.1)


def clipped():
    """Hold the critic's weights between bounds; its updates are several a pass."""
    critic, p = dg.nn.mlp(WIDTH, 4, 1), NoisyGenerator()
    return dg.Wasserstein(dg.data("x"), p["x"], critic=critic, clip=0.3), data()


def frozen():
    objective, given = vae()
    next(objective.players[0].modules[0].parameters()).requires_grad = False
    return objective, given


ALONE = {
    "turn": ALIKE["accumulated, clipped, averaged"],
    "batch norm": ALIKE["batch norm"],
    "labels for some": ALIKE["labels for some"],
    "descent": (vae, {"optimizer": dg.train.Turn(MOMENTUM, clip=0.2)}),
    "RMSprop": (vae, {"optimizer": dg.RMSprop()}),
    "frozen": (frozen, {}),
}
"""What one process plays as well."""

TOGETHER = {
    **{name: (APART[name], {}) for name in ("elbo", "gan", "wgan_gp")},
    "critic's turns": (gan, {"optimizer": {"critic": dg.train.Turn(updates=3, clip=0.1)}}),
    "clipped weights": (clipped, {"optimizer": {"critic": dg.train.Turn(updates=2)}}),
}
"""What two processes play with and without shares."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("shards")
    played(vae, steps=5, out=found / "one, two", **SHORT)
    assert both(work, found) == [0, 0]
    return found


def work(rank: int, folder: Path) -> None:
    """Be one of two processes."""
    meet(rank, folder)
    for name, (make, options) in ALONE.items():
        keep(played(make, shard=True, **options), folder, name)
    for name, (make, options) in TOGETHER.items():
        keep(played(make, **options), folder, f"{name}, whole")
        keep(played(make, shard=True, **options), folder, name)
    noisy = {**SHORT, "shard": True}
    plan = dg.train.Checkpoints(folder / "two, two", every=5)
    keep(played(APART["elbo"], steps=9, **noisy), folder, "uninterrupted")
    played(APART["elbo"], steps=5, out=plan, **noisy)
    keep(played(APART["elbo"], steps=9, out=plan, resume=True, **noisy), folder, "resumed")
    played(vae, steps=5, out=folder / "two, one", shard=True, **SHORT)
    joined = played(vae, steps=9, out=folder / "one, two", resume=True, shard=True, **SHORT)
    keep(joined, folder, "joined")
    keep(refused(vae, shard=True, compile=True), folder, "compiled")
    keep(refused(vae, shard=rank == 0), folder, "unlike")
    keep(refused(steep, shard=True), folder, "broken")
    keep(kept(), folder, "state")


def keep(found: dict[str, Tensor], folder: Path, name: str) -> None:
    torch.save(found, folder / f"{name} {torch.distributed.get_rank()}.pt")


def steep():
    """Overflow in a row that one of the processes has."""
    x = torch.zeros(ROWS)
    x[7] = 1000.0
    return dg.nll(Steep(), observed=["y"]), {"x": x, "y": torch.zeros(ROWS)}


def kept() -> dict[str, Tensor]:
    """Count what a process keeps for Adam."""
    exchange = Exchange(Peers.of_group(), shard=True)
    turn = dg.train.Turn(accumulate=2)
    step = dg.train.Step(vae()[0], optimizer=turn, compile=False, exchange=exchange)
    moments = [t for name in ("first", "second") for t in step.state[name]]
    return {"kept": torch.tensor([t.numel() for t in (*moments, *step._gathered.sums)])}


def found(folder: Path, name: str) -> dict[str, Tensor]:
    """Return what both processes found alike, to the bit."""
    one, two = (torch.load(folder / f"{name} {rank}.pt") for rank in (0, 1))
    assert equal(one, two, rtol=0)
    return one


@pytest.mark.parametrize("name", ALONE)
def test_shares_play_as_one_process(name, folder):
    make, options = ALONE[name]
    assert equal(played(make, **options), found(folder, name))


@pytest.mark.parametrize("name", TOGETHER)
def test_shares_play_as_whole_parameters(name, folder):
    assert equal(found(folder, f"{name}, whole"), found(folder, name))


def test_a_process_keeps_its_share_of_state_and_sums(folder):
    one, two = (torch.load(folder / f"state {rank}.pt")["kept"] for rank in (0, 1))
    whole = torch.tensor([p.numel() for p in vae()[0].players[0].parameters()] * 3)
    assert torch.equal(one + two, whole)
    assert torch.equal(one, (whole + 1) // 2)


# Checkpoints


def test_shares_resume_to_the_bit(folder):
    assert equal(found(folder, "uninterrupted"), found(folder, "resumed"), rtol=0)


def test_what_shares_began_one_process_finishes(folder):
    out = folder / "two, one"
    assert equal(
        played(vae, steps=9, out=out, resume=True, **SHORT), played(vae, steps=9, **SHORT)
    )


def test_what_one_process_began_shares_finish(folder):
    assert equal(played(vae, steps=9, **SHORT), found(folder, "joined"))


# Errors


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        ("compiled", r"ValueError: steps on shares of parameters run eagerly; .* compile=True"),
        ("unlike", r"ValueError: process 1 fits another shard than process 0: False, not True"),
        ("broken", r"GraphError: process [01]: step [1-3], player model: .* exp gave infinity"),
    ],
)
def test_all_processes_raise_the_same_error(scene, message, folder):
    (said,) = found(folder, scene)
    assert re.match(message, said)


def test_parameters_without_a_flat_view_are_refused():
    with pytest.raises(ValueError, match=r"contiguous parameters, not one of \[3, 2\] with stri"):
        Shards([torch.zeros(2, 3).t()], Peers(0, 2))


# Shares


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_shares_are_all_of_a_parameter_once(world, shape):
    weight = torch.rand(shape)
    shares = [Shards([weight], Peers(rank, world)).own[0] for rank in range(world)]
    assert torch.equal(torch.cat([s.reshape(-1) for s in shares]), weight.reshape(-1))
