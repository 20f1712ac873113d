"""A fit on several processes: how they start, and how all of them come to be at one place.

`torchrun --nproc-per-node=2 script.py` starts the script twice; where it calls `fit`, both work
on one game. Torch's process group is set up by `lightning-fabric` (the extra `distributed`)
unless the script has set up one of its own.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from daguerre.graph import GraphError
from daguerre.peers import ALONE, Peers
from daguerre.train.session import Session, modules_of
from daguerre.train.store import Store

__all__ = ["agreed", "check_alike", "join", "others", "processes", "seed_of"]

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def processes(device: torch.device | None = None) -> Peers:
    """Return this process among those that `torchrun` started, or alone.

    Args:
        device: Where the modules are: messages go by NCCL from CUDA devices, by gloo otherwise.

    Raises:
        ImportError: There are several, but lightning-fabric is not installed.
        ValueError: The modules are on the GPU of another process.

    Example:
        >>> processes()
        Peers(rank=0, world=1, group='')
    """
    if not (dist.is_available() and dist.is_initialized()):
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not {*LAUNCHED} <= os.environ.keys():
            return ALONE
        _start(device or torch.device("cpu"))
    return Peers.of_group() if dist.get_world_size() > 1 else ALONE


def _start(device: torch.device) -> None:
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise ImportError(
            "a fit on several processes needs lightning-fabric: pip install"
            " 'daguerre[distributed]', or call torch.distributed.init_process_group before"
        ) from error
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    if device.type == "cuda" and device.index not in (None, local):
        raise ValueError(
            f"the modules of process {os.environ['RANK']} are on {device}, which is that of"
            f" another process; move them to cuda:{local}, which is LOCAL_RANK"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    Fabric(
        accelerator=device.type,
        strategy=DDPStrategy(process_group_backend=backend),
        devices=here,
        num_nodes=world // here,
        plugins=[TorchElasticEnvironment()],
    ).launch()
    atexit.register(_leave)


def _leave() -> None:
    """End torch's process group, whose threads abort a process that exits while they run."""
    if dist.is_initialized():
        dist.destroy_process_group()


def seed_of(seed: int, rank: int, steps: int = 0) -> int:
    """Return the seed of a process's own draws: that of the fit in process 0.

    Args:
        seed: Of the fit.
        rank: Of the process.
        steps: Where it joined, if it was not there from the start.

    Example:
        >>> seed_of(7, 0), seed_of(7, 1) == seed_of(7, 2)
        (7, False)
    """
    if rank == 0:
        return seed
    return int(np.random.SeedSequence([seed % 2**64, rank, steps]).generate_state(1)[0])


def check_alike(session: Session, total: int) -> None:
    """Check that all processes were called alike.

    Raises:
        ValueError: One was not; says which, and in what.
    """
    peers = session.peers
    if peers.world == 1:
        return
    modules = {
        name: [(k, list(t.shape), str(t.dtype)) for k, t in module.state_dict().items()]
        for name, module in modules_of(session.objective).items()
    }
    shares = {"shard": session.exchange.shard, "split": str(session.exchange.weights)}
    own = {"steps": total, **shares, "modules": modules}
    calls = peers.gather({**session.call(), **own})
    for rank, call in enumerate(calls):
        for key in dict.fromkeys((*calls[0], *call)):
            if call.get(key) != calls[0].get(key):
                raise ValueError(
                    f"process {rank} fits another {key} than process 0: {call.get(key, 'none')},"
                    f" not {calls[0].get(key, 'none')}; all processes call fit alike, with all of"
                    " the data, which it shares out by itself"
                )


def join(session: Session, chances: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Bring all processes to where process 0 is.

    Args:
        session: The fit.
        chances: Where the generators of the others were, in a fit that goes on; one that was not
            there starts from a seed that depends on the step.
    """
    peers, record = session.peers, session.record
    if peers.world == 1:
        return
    peers.broadcast(session.moving())
    place = session.batches.state(), record.losses(), record.metrics, record.stopped
    batches, losses, metrics, stopped = peers.once(lambda: place)
    if peers.is_main:
        return
    session.batches.set(batches)
    record.restore(losses, metrics)
    record.stopped = stopped
    if (name := f"chance {peers.rank}") in chances:
        session.chance.set(chances[name])
    elif record.steps:
        session.chance.seed(seed_of(session.batches.seed, peers.rank, record.steps))


def agreed(peers: Peers, error: GraphError) -> GraphError:
    """Return the error of the process that found a cause."""
    if peers.world == 1:
        return error
    texts = peers.gather(str(error))
    rank = next((i for i, text in enumerate(texts) if "where it is repeated" not in text), 0)
    return GraphError(f"process {rank}: {texts[rank]}")


@contextmanager
def others(session: Session, store: Store | None) -> Iterator[None]:
    """Say so where another process has ended, in place of what torch says.

    Raises:
        ConnectionError: Another process is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if session.peers.world == 1 or not _is_lost(error):
            raise
        kept = store.last if store is not None else None
        last = f" from the last checkpoint, {kept}" if kept else ""
        raise ConnectionError(
            f"process {session.peers.rank} has lost another one after step"
            f" {session.record.steps}: it has ended, or was not heard of for long; its own error"
            f" is above or in its log. Start all again with resume=True to go on{last}"
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    said = str(error)
    return isinstance(error, dist.DistError) or "gloo" in said or "Connection" in said
