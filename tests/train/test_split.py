"""Two processes that share out weights play as they do without, penalties and callbacks included."""

from pathlib import Path

import pytest
import torch
from test_processes import both, equal
from test_shards import ALONE, SHORT, TOGETHER, found, keep
from together import APART, TURN, exact, meet, played, refused, vae

import daguerre as dg

ALL = dg.train.Sharding(weights=True, least=1)
SOME = dg.train.Sharding(weights=True, least=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("split")
    played(vae, steps=5, out=found / "one, two", **SHORT)
    assert both(work, found) == [0, 0]
    return found


def work(rank: int, folder: Path) -> None:
    """Be one of two processes."""
    meet(rank, folder)
    for name, (make, options) in ALONE.items():
        keep(played(make, shard=ALL, **options), folder, name)
    for name, (make, options) in TOGETHER.items():
        keep(played(make, **options), folder, f"{name}, whole")
        keep(played(make, shard=ALL, **options), folder, name)
        keep(played(make, shard=SOME, **options), folder, f"{name}, some")


@pytest.mark.parametrize("name", ALONE)
def test_shares_play_as_one_process(name, folder):
    make, options = ALONE[name]
    assert equal(played(make, **options), found(folder, name))


@pytest.mark.parametrize("name", TOGETHER)
def test_shares_play_as_whole_parameters(name, folder):
    assert equal(found(folder, f"{name}, whole"), found(folder, name))
    assert equal(found(folder, f"{name}, whole"), found(folder, f"{name}, some"))
