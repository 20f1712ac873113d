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

from daguerre.evaluate.images import grid, write_png
from daguerre.model import Model
from daguerre.modes import mode
from daguerre.objectives.observations import Data, read_data
from daguerre.train.chance import seeded
from daguerre.train.checkpoint import save
from daguerre.train.session import Session
from daguerre.train.turns import check_positive

__all__ = [
    "Callback",
    "Moment",
    "Paced",
    "early_stop",
    "every",
    "is_due",
    "keep_best",
    "sample_grid",
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
class Paced:
    """A callback that has nothing to do after most steps.

    Attributes:
        callback: What it calls.
        steps: Steps between two calls; None where it acts on what others have just measured.
    """

    callback: Callback
    steps: int | None = None

    def __call__(self, now: Moment) -> Mapping[str, float] | None:
        """Call it, if it is time."""
        return self.callback(now) if self.steps is None or is_due(self, now.step) else None


def is_due(callback: Callback, step: int) -> bool:
    """Whether a callback may measure something or decide after a step, of itself."""
    if not isinstance(callback, Paced):
        return True
    return callback.steps is not None and step % callback.steps == 0


def every(steps: int, callback: Callback) -> Callback:
    """Return a callback that is called only after every so many steps.

    Raises:
        ValueError: Fewer than one step.
    """
    check_positive(steps=steps)
    return Paced(callback, steps)


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
        rows = len(next(iter(given.values())))
        sums = dict.fromkeys((p.name for p in objective.players), 0.0)
        peers = now._session.peers
        with now.evaluation(seed=peers.rank):
            for first in range(peers.rank * batch_size, rows, peers.world * batch_size):
                batch = {n: values[first : first + batch_size] for n, values in given.items()}
                count = min(batch_size, rows - first)
                for player, loss in objective.losses(batch, step=now.step).items():
                    sums[player] += count / rows * loss.item()
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
        if values and len(values) - 1 - values.index(min(values)) >= patience:
            now.stop(f"{metric} has not got better {patience} times in a row")

    return Paced(stop)


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
        values = _values(now, metric, maximize=maximize) if now.is_main else []
        if values and values[-1] == min(values) and values.count(values[-1]) == 1:
            with now.evaluation():
                save(modules, path, notes={"step": now.step, metric: now.metrics[metric][-1][1]})

    return Paced(keep)


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
        with now.evaluation(), torch.no_grad():
            drawn = p.sample(n)[name]
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_png(Path(folder) / f"{now.step:09d}.png", grid(_square(drawn), columns=16, scale=4))

    return draw


def _square(values: Tensor) -> Tensor:
    """Leave out dimensions of size one, as that of the channel of a grey picture."""
    return values.reshape(len(values), *(size for size in values.shape[1:] if size > 1)).float()


def _values(now: Moment, metric: str, *, maximize: bool) -> list[float]:
    """Return the values of a measure, the less the better, if it was taken after this step."""
    taken = now.metrics.get(metric, [])
    if not taken or taken[-1][0] != now.step:
        return []
    sign = -1 if maximize else 1
    return [sign * value if math.isfinite(value) else math.inf for _, value in taken]
