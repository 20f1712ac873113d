"""What a net read out of tensors while it ran: a run that reads other values is another path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Never

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.families import pathwise_draw
from daguerre.graph import GraphError
from daguerre.nets.ladder import SEED
from daguerre.nets.recording import Recording, Scene, run

__all__ = ["Expect", "OtherPathError", "hold", "settle"]


class OtherPathError(GraphError):
    """An input takes another path through a net than the one that was read."""


def hold(condition: bool, place: str) -> None:  # noqa: FBT001 - a value
    """Refuse a run in which what the path depends on, read at some place, is not so."""
    if not condition:
        _refuse("a value that the path depends on is not what it was", place)


class Expect:
    """Remembers the first value it sees and refuses any other."""

    def __init__(self) -> None:
        self.value: float | bool | None = None

    def __call__(self, value: float | bool, place: str) -> None:  # noqa: FBT001 - a value
        """Compare a value that was read at some place."""
        if self.value is None:
            self.value = value
        if value != self.value:
            _refuse(f"the net reads {value} out of a tensor, and {self.value} then", place)


def _refuse(what: str, place: str) -> Never:
    raise OtherPathError(
        f"this input may take another path through the net than the example did when it was read:"
        f" {what}{f' ({place})' if place else ''}; import the net with such an example"
    )


def settle(recording: Recording, held: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> None:
    """Replay a recording on the example, so that what it expects is known."""
    given = iter(inputs)
    n = recording.least
    scene = Scene({}, held, n, torch.get_default_device())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        for number, op in enumerate(recording.ops):
            if op.role == "input":
                scene.results[number] = next(given)
                continue
            run(recording.ops, (number,), scene)
            outcome = scene.results[number]
            if isinstance(outcome, Distribution) and op.layout is not None:
                rooted = outcome.expand((n, *outcome.batch_shape)) if not op.arguments else outcome
                rows = pathwise_draw(rooted) if rooted.has_rsample else rooted.sample()
                scene.results[number] = op.layout.value(rows)
