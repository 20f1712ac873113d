"""One loop for all games."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from daguerre.devices import device_of
from daguerre.modes import mode
from daguerre.objectives.objective import Objective
from daguerre.objectives.observations import Data, read_data
from daguerre.objectives.schedules import Number
from daguerre.objectives.subsample import subsampled
from daguerre.train.batches import Batches, read_members
from daguerre.train.callbacks import Callback
from daguerre.train.chance import Chance, seeded
from daguerre.train.choice import choose
from daguerre.train.exchange import Exchange
from daguerre.train.history import History
from daguerre.train.loop import Loop
from daguerre.train.normalise import normalised_over
from daguerre.train.processes import processes, seed_of
from daguerre.train.record import Record
from daguerre.train.session import Session
from daguerre.train.step import Step
from daguerre.train.store import Checkpoints, released, store_of
from daguerre.train.turns import Moves, Turn, check_positive, turns_of
from daguerre.train.weights import Sharding, Weights, as_sharding, place_of

__all__ = ["fit"]


def fit(  # noqa: PLR0913 - options of one loop, all optional and by keyword
    objective: Objective,
    data: Data,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    subsample: Mapping[str, int] | None = None,
    lr: Number | Mapping[str, Number] | None = None,
    optimizer: Moves | Mapping[str, Moves] | None = None,
    callbacks: Sequence[Callback] = (),
    out: str | os.PathLike[str] | Checkpoints | None = None,
    resume: bool = False,
    compile: bool | None = None,  # noqa: A002 - torch's word for it
    precision: torch.dtype | None = None,
    shard: bool | Sharding = False,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Play a game on data until the given number of epochs or steps; parameters move in place.

    In each step every player that has something to learn moves, in the order of
    `objective.players` (critics first), on the same batch; where a player moves several times a
    step, or accumulates batches, it takes further ones. Batches are drawn without replacement,
    reshuffled every epoch, and all of one size; so are members of plates, where `subsample` asks
    for some of them. Afterwards the modules are in evaluation mode, and hold the averages of their
    weights where a player's turn asks for them. Where `torchrun` started several processes, all
    call this alike and share the rows of each batch; see "Several processes" in the documentation.

    Args:
        objective: What is minimised, such as `dg.elbo(p, q)`.
        data: `{name: Tensor[N, *event]}`, or a Tensor where one variable is observed.
        epochs: Passes through the data; 1 by default.
        steps: Passes through the players, instead of epochs.
        batch_size: Rows in a batch, of all processes together; at most N.
        subsample: Per plate, how many of its members a batch holds, instead of all: a Bayesian
            net of which a row is the whole data set, `{"y": y[None], "x": x[None]}`, learns from
            `subsample={"n": 64}`. What is in the plate then counts N / 64 times, so that losses
            and gradients are unbiased; see `dg.objectives.subsampled`.
        lr: Learning rate, for all players or by player, a number or a schedule over their updates
            such as `dg.train.cosine(1e-3, updates=10_000)`; that of the optimiser by default.
        optimizer: How players move, for all or by player: a rule, `dg.Adam()` by default, or a
            `dg.train.Turn`, which also says how often, and how it accumulates, clips, averages.
        callbacks: Functions of the moment after each step, in order: `dg.train.every`,
            `dg.train.validation`, `dg.train.early_stop` ..., or your own.
        out: The folder of the run, for checkpoints and losses, or a `dg.train.Checkpoints`.
        resume: Whether to go on from the newest checkpoint in the folder, if there is one: to the
            bit where the fit would be, had it not ended.
        compile: Whether each player's step is compiled into one graph; by default where the
            number of updates makes it worth while and the objective allows it. What is run
            slice by slice over time is not: there one slice is traced, and the others run as its
            code, unless this is False.
        precision: `torch.bfloat16` to let CPDs and critics compute in it, where losses stay in
            float32; see `dg.train.mixed_precision`.
        shard: Whether each of several processes keeps its share only of optimisers' state and of
            gradients, for large nets, or with `dg.train.Sharding(weights=True)` of weights too;
            one process has all. Such steps are not compiled.
        seed: Of the order of the data and of all draws; the global generators are left alone.
        progress: Whether to show a bar with the losses, where there is a terminal.

    Returns:
        The losses of every step, and what callbacks measured. After Ctrl-C, those until then; what
        was trained is kept, in a checkpoint too where there is a folder.

    Raises:
        BlockingIOError: Another fit is at work in the folder; says which process.
        FileExistsError: The folder holds a run, and is not resumed.
        ConnectionError: Another process has ended.
        GraphError: Data that lacks a variable or has a wrong shape; a plate in `subsample` that
            holds nothing of the data; a loss or gradient that is not finite, with its step, player
            and variable; a checkpoint of another model.
        InadmissibleError: The objective is no sum over the members of a plate in `subsample`.
        OSError: The folder cannot be written to; the last checkpoint is intact, and named.
        SystemExit: SIGTERM came and there is a folder: the step is finished, a checkpoint written,
            and the process is to end, with code 143.
        ValueError: Data with NaN or outside the support of a CPD; an option out of range;
            processes that are called with other options or data, or cannot share a batch equally;
            a checkpoint of a fit with other options.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> class Mean(dg.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mean = torch.nn.Parameter(torch.zeros(()))
        ...     @dg.rv
        ...     def x(self):
        ...         return Normal(self.mean, 1.0)
        >>> p = Mean()
        >>> history = fit(dg.nll(p), torch.full([64], 2.0), steps=200, lr=0.1, progress=False)
        >>> round(p.mean.item(), 2), len(history)
        (2.0, 200)
    """
    given = read_data(objective, data)
    check_positive(epochs=epochs, steps=steps, batch_size=batch_size)
    if epochs is not None and steps is not None:
        raise ValueError("say how long in epochs or in steps, not in both")
    if resume and out is None:
        raise ValueError("to resume a fit, say where its checkpoints are: out=...")
    plates = {n: own for _, part in objective.parts for n, own in part.plates.items()}
    members = read_members(plates, given, subsample or {})
    objective = subsampled(objective, **{plate: one.whole for plate, one in members.items()})
    modules = [m for p in objective.players for m in p.modules]
    plan = as_sharding(shard)
    peers = processes(place_of(plan, modules))
    weights = Weights(modules, peers, plan)
    device = weights.device or device_of(modules)
    batches = Batches(given, batch_size, seed, members, device, peers)
    total = steps or max(1, round((epochs or 1) * batches.per_epoch))
    turns = _turns(objective, optimizer, lr)
    exchange = Exchange(peers, device, shard=plan is not None, weights=weights)
    choice = choose(objective, turns, batches, steps=total, asked=compile, shard=exchange.shard)
    options = {"compile": choice.compiled, "precision": precision, "exchange": exchange}
    players = _steps(objective, turns, options)
    chance = Chance.on(device)
    session = Session(objective, players, batches, Record([*turns]), chance, exchange)
    if (store := store_of(out)) is not None:
        peers.once(partial(store.prepare, resume=resume))
    own, over_all = seeded(chance, seed_of(seed, peers.rank)), normalised_over(modules, peers)
    with released(store), mode(modules, training=True), own, over_all:
        history = Loop(session, total, callbacks, store).run(resume=resume, show=progress)
    history = replace(history, how=f"{choice.why}; {weights}" if weights.splits else choice.why)
    for module in modules:
        module.eval()
    return history


def _turns(
    objective: Objective,
    optimizer: Moves | Mapping[str, Moves] | None,
    lr: Number | Mapping[str, Number] | None,
) -> dict[str, Turn]:
    names = [p.name for p in objective.players if p.parameters()]
    if not names:
        raise ValueError("nothing can be trained: no player has parameters that require gradients")
    return turns_of(names, optimizer, lr)


def _steps(
    objective: Objective,
    turns: Mapping[str, Turn],
    options: Mapping[str, Any],
) -> list[Step]:
    """Make the players' steps, which stop together where one meets what is not finite."""
    steps = [Step(objective, name, optimizer=turn, **options) for name, turn in turns.items()]
    for step in steps[1:]:
        step.sound = steps[0].sound
    return steps
