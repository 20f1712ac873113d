"""Where a loss or a gradient stopped being finite: the term, the variable, the parameter.

A step that meets NaN moves nothing any more, and that is noticed some steps later. Weights are
then still those of the first bad step; its batch and draws are found again by going through the
steps since the last look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from daguerre.devices import device_of
from daguerre.graph import GraphError
from daguerre.locate import located
from daguerre.objectives.objective import Objective, Round
from daguerre.objectives.schedules import at_step
from daguerre.program import validation
from daguerre.train.session import Session, modules_of
from daguerre.train.step import Step

__all__ = ["Place", "diagnosed"]


@dataclass(frozen=True)
class Place:
    """A place in a fit between two steps: how far it was, and where its generators were."""

    steps: int
    batches: dict[str, Tensor]
    chance: dict[str, Tensor]

    @classmethod
    def of(cls, session: Session) -> Place:
        """Note where a fit is."""
        return cls(session.record.steps, session.batches.state(), session.chance.state())


def diagnosed(session: Session, since: Place, step: int, player: str) -> GraphError:
    """Return an error that says what was not finite first.

    Args:
        session: A fit whose steps stand still.
        since: Where it was when all was well.
        step: The step in which something was not finite, counted from 1.
        player: Whose loss or gradient it was.
    """
    start = f"step {step}, player {player}: "
    for name, module in modules_of(session.objective).items():
        for key, parameter in module.named_parameters():
            if _is_broken(parameter):
                return GraphError(f"{start}parameter {key} of {name} was not finite before it")
    with validation(enabled=False):
        for at, update in _updates(session, since, step):
            before = session.chance.state()
            if (found := _first(session.objective, update, at)) and update.player.name == player:
                session.chance.set(before)
                return GraphError(start + _explained(session.objective, update, at, found))
    return GraphError(f"{start}the loss or a gradient was not finite, but is where it is repeated")


@dataclass(frozen=True)
class _Fault:
    """What was not finite: a part of the cost, and the parameters, if it is their gradient."""

    part: int
    loss: float
    parameters: Sequence[str] = ()


def _updates(session: Session, since: Place, step: int) -> Iterator[tuple[Round, Step]]:
    """Go through the rounds that were played since a place, up to a step."""
    session.chance.set(since.chance)
    session.batches.set(since.batches)
    device = device_of(modules_of(session.objective).values())  # that of whole weights
    for _ in range(since.steps, step):
        shared = next(session.batches)
        for update in session.steps:
            for i in range(update.turn.batches):
                n, given = session.objective.read(next(session.batches) if i else shared)
                given = {name: values.to(device) for name, values in given.items()}
                yield Round(n, given, update.made.to(device)), update


def _losses(objective: Objective, player: str, at: Round) -> Iterator[tuple[int, Tensor]]:
    """Evaluate the parts of a player's loss one by one, in their order."""
    for i, (weight, part) in enumerate(objective.parts):
        if any(p.name == player for p in part.players):
            own = part.weight_for(player, weight)
            yield i, at_step(own, at.step) * part.loss(player, at)


def _first(objective: Objective, step: Step, at: Round) -> _Fault | None:
    """Find the first part whose loss or gradient is not finite."""
    found = None
    for i, loss in _losses(objective, step.player.name, at):
        if found is not None:
            continue  # on, so that the generators are where they were
        gradients = torch.autograd.grad(loss, step.parameters, allow_unused=True)
        names = _names(objective, step.parameters, gradients)
        if _is_broken(loss) or names:
            found = _Fault(i, loss.item(), () if _is_broken(loss) else names)
    return found


def _names(
    objective: Objective, parameters: Iterable[Tensor], gradients: Iterable[Tensor | None]
) -> list[str]:
    """Name the parameters whose gradient is not finite."""
    named = {
        parameter: f"{key} of {name}"
        for name, module in modules_of(objective).items()
        for key, parameter in module.named_parameters()
    }
    pairs = zip(parameters, gradients, strict=True)
    return [named[p] for p, gradient in pairs if gradient is not None and _is_broken(gradient)]  # type: ignore[index]


def _explained(objective: Objective, step: Step, at: Round, fault: _Fault) -> str:
    title = objective.parts[fault.part][1].title
    if fault.parameters:
        shown = ", ".join(fault.parameters[:3]) + ", ..." * (len(fault.parameters) > 3)
        return f"the gradient of {title} by {shown} is not finite, though the loss is"
    rest = Round(at.n, at.given, at.step)
    cause = _caught(lambda: [*_losses(objective, step.player.name, rest)])
    return f"{title} is {fault.loss}" + (f"; {cause}" if cause else "")


def _caught(run: Callable[[], object]) -> str:
    """Return where the first number appears that is not finite, of numbers that are."""
    try:
        with located(), _Watch():
            run()
    except (FloatingPointError, GraphError) as error:
        return str(error)
    return ""


class _Watch(TorchFunctionMode):
    """Raise where a function of finite numbers gives one that is not."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        found = func(*args, **(kwargs or {}))
        if _is_broken(found) and not any(map(_is_broken, tree_leaves((args, kwargs)))):
            assert isinstance(found, Tensor)
            what = "NaN" if found.isnan().any() else "infinity"
            raise FloatingPointError(f"{func.__name__} gave {what}")
        return found


def _is_broken(value: object) -> bool:
    if isinstance(value, float):
        value = torch.tensor(value)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    return not bool(value.isfinite().all())
