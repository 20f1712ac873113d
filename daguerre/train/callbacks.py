"""What is done between two steps: validation, early stopping, pictures; all plain functions.

A callback is called with the moment after each step. What it measures and returns, as
`{name: number}`, goes into the history. It sees the state of the fit through the moment alone, so
that a resumed fit goes on as if it had never ended. Of several processes each calls it, after
the same steps; what process 0 measures and decides then counts for all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from daguerre.devices import device_of
from daguerre.evaluate.images import grid, write_png
from daguerre.model import Model
from daguerre.modes import mode
from daguerre.objectives.objective import Objective
from daguerre.objectives.observations import Data, read_data
from daguerre.objectives.schedules import at_step
from daguerre.train.chance import seeded
from daguerre.train.checkpoint import save
from daguerre.train.record import Record
from daguerre.train.session import Session, modules_of
from daguerre.train.turns import check_positive

__all__ = [
    "Callback",
    "Moment",
    "Occasional",
    "early_stop",
    "every",
    "keep_best",
    "sample_grid",
    "sampled",
    "validation",
]


class Moment:
    """The moment after a step, as a callback sees it.

    Attributes:
        step: Steps done.
        total: Steps that the fit was asked for.
    """

    def __init__(self, session: Session, total: int) -> None:
        self.step, self.total = session.record.steps, total
        self._session = session

    @property
    def losses(self) -> dict[str, float]:
        """The losses of the last step, by player; to read them waits for the device."""
        record = self._session.record
        return {n: v.item() for n, v in zip(record.players, record.latest, strict=True)}

    @property
    def metrics(self) -> Mapping[str, list[tuple[int, float]]]:
        """What was measured until now: pairs of steps done and value, by name."""
        return self._session.record.metrics

    @property
    def is_main(self) -> bool:
        """Whether this is process 0 of several, whose measures and decisions count for all."""
        return self._session.peers.is_main

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates of the last step, by player."""
        steps = self._session.steps
        made = {step.player.name: max(int(step.made) - 1, 0) for step in steps}
        return {
            s.player.name: float(at_step(s.turn.optimizer.lr, made[s.player.name])) for s in steps
        }

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self._session.objective

    def stop(self, reason: str) -> None:
        """End the fit after this step; the reason is kept in the history."""
        self._session.record.stopped = reason

    @contextmanager
    def evaluation(self, seed: int = 0) -> Iterator[None]:
        """Set all modules to evaluation and averaged weights, and draw from a seed of its own."""
        modules = [m for player in self._session.objective.players for m in player.modules]
        with ExitStack() as stack:
            for step in self._session.steps:
                stack.enter_context(step.average.in_place())
            stack.enter_context(mode(modules, training=False))
            stack.enter_context(seeded(self._session.chance, seed))
            yield


Callback = Callable[[Moment], Mapping[str, float] | None]


@dataclass(frozen=True)
class Occasional:
    """A callback that has something to do after some steps only.

    A step after which nothing was called need not look whether anything was changed.

    Attributes:
        callback: What it does.
        is_due: Whether it has to, after a step of this record.
    """

    callback: Callback
    is_due: Callable[[Record], bool]

    def __call__(self, now: Moment) -> Mapping[str, float] | None:
        """Do it if it is due."""
        return self.callback(now) if self.is_due(now._session.record) else None


def every(steps: int, callback: Callback) -> Callback:
    """Return a callback that is called only after every so many steps.

    Raises:
        ValueError: Fewer than one step.
    """
    check_positive(steps=steps)
    return Occasional(callback, lambda record: record.steps % steps == 0)


def validation(data: Data, *, batch_size: int = 1024, name: str = "validation") -> Callback:
    """Return a callback that takes the mean losses on held-out data.

    Averaged weights are used where there are some, in evaluation mode, and the same draws each
    time, so that two looks differ by the weights alone. Several processes share the batches.

    Args:
        data: `{name: Tensor[N, *event]}`, or a Tensor where one variable is observed.
        batch_size: Rows that are looked at together.
        name: What the measures are called: `"validation model"` is the loss of the model.

    Raises:
        ValueError: A batch size out of range.

    Example:
        >>> import daguerre as dg
        >>> p = dg.model(x=dg.rv(lambda a: torch.distributions.Normal(a, 1.0)), a=dg.Input())
        >>> net = dg.replace(p, a=dg.deterministic(lambda net: net.bias[0], net=nn.Linear(1, 1)))
        >>> history = dg.fit(
        ...     dg.nll(net, observed=["x"]), torch.zeros(8), steps=4, progress=False,
        ...     callbacks=[every(2, validation(torch.zeros(3)))],
        ... )
        >>> history.metrics["validation model"].steps
        tensor([2, 4])
    """
    check_positive(batch_size=batch_size)

    def validate(now: Moment) -> Mapping[str, float]:
        objective = now._session.objective
        given = read_data(objective, data)
        count, modules = len(next(iter(given.values()))), modules_of(objective).values()
        device = device_of(modules) or now._session.batches.device
        sums = dict.fromkeys((p.name for p in objective.players), 0.0)
        peers = now._session.peers
        with now.evaluation(seed=peers.rank):
            for first in range(peers.rank * batch_size, count, peers.world * batch_size):
                rows = slice(first, first + batch_size)
                batch = {n: values[rows].to(device) for n, values in given.items()}
                share = min(batch_size, count - first) / count
                for player, loss in objective.losses(batch, step=now.step).items():
                    sums[player] += share * loss.item()
        totals = peers.sum(torch.tensor([*sums.values()], dtype=torch.float64)).tolist()
        return {f"{name} {player}": total for player, total in zip(sums, totals, strict=True)}

    return validate


def early_stop(metric: str, *, patience: int = 10, maximize: bool = False) -> Callback:
    """Return a callback that ends the fit when a measure has stopped getting better.

    Args:
        metric: The measure, which an earlier callback takes.
        patience: How many values without a new best one it waits for.
        maximize: Whether larger is better.

    Raises:
        ValueError: A patience out of range.
    """
    check_positive(patience=patience)

    def stop(now: Moment) -> None:
        values = _values(now, metric, maximize=maximize)
        if len(values) - 1 - values.index(min(values)) >= patience:
            now.stop(f"{metric} has not got better {patience} times in a row")

    return Occasional(stop, _after(metric))


def keep_best(
    metric: str,
    path: str | os.PathLike[str],
    modules: nn.Module | Mapping[str, nn.Module],
    *,
    maximize: bool = False,
) -> Callback:
    """Return a callback that saves modules whenever a measure is the best until then.

    Args:
        metric: The measure, which an earlier callback takes.
        path: The file, which `dg.load` reads; averaged weights where there are some.
        modules: What is saved, as in `dg.save`.
        maximize: Whether larger is better.
    """

    def keep(now: Moment) -> None:
        values = _values(now, metric, maximize=maximize)
        if now.is_main and values[-1] == min(values) and values.count(values[-1]) == 1:
            with now.evaluation():
                save(modules, path, notes={"step": now.step, metric: now.metrics[metric][-1][1]})

    return Occasional(keep, _after(metric))


def sample_grid(
    p: Model, folder: str | os.PathLike[str], *, variable: str | None = None, n: int = 64
) -> Callback:
    """Return a callback that draws pictures from the same noise each time, a PNG after each.

    Args:
        p: The model.
        folder: Where `000001000.png` and its like are written; made if it does not exist.
        variable: What is shown, of a square number of pixels or `[height, width]`; by default
            the first variable without children.
        n: How many.
    """
    check_positive(n=n)
    name = variable or p.graph.leaves[0]

    def draw(now: Moment) -> None:
        if not now.is_main:
            return
        picture = sampled(now, p, variable=name, n=n)
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_png(Path(folder) / f"{now.step:09d}.png", picture)

    return draw


def sampled(now: Moment, p: Model, *, variable: str | None = None, n: int = 64) -> Tensor:
    """Return a grid of samples as one picture, uint8 `[H, W]`, of the same noise each time."""
    with now.evaluation(), torch.no_grad():
        drawn = p.sample(n)[variable or p.graph.leaves[0]]
    return grid(_square(drawn), columns=16, scale=4)


def _square(values: Tensor) -> Tensor:
    """Leave out dimensions of size one, as that of the channel of a grey picture."""
    return values.reshape(len(values), *(size for size in values.shape[1:] if size > 1)).float()


def _after(metric: str) -> Callable[[Record], bool]:
    """Return whether a measure was taken after the last step."""

    def was_taken(record: Record) -> bool:
        taken = record.metrics.get(metric)
        return bool(taken) and taken[-1][0] == record.steps

    return was_taken


def _values(now: Moment, metric: str, *, maximize: bool) -> list[float]:
    """Return the values of a measure, the less the better."""
    sign = -1 if maximize else 1
    return [sign * v if math.isfinite(v) else math.inf for _, v in now.metrics[metric]]
