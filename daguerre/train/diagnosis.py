"""Where a loss or a gradient stopped being finite: the term, the variable, the parameter.

A step that meets NaN moves nothing any more, and that is noticed some steps later. Weights are
then still those of the first bad step; its batch and draws are found again by going through the
steps since the last look.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from daguerre.graph import GraphError
from daguerre.train.session import Session

__all__ = ["Place", "diagnosed"]


@dataclass(frozen=True)
class Place:
    """A place in a fit between two steps: how far it was, and where its generators were."""

    steps: int
    drawn: int
    chance: dict[str, Tensor]

    @classmethod
    def of(cls, session: Session) -> Place:
        """Note where a fit is."""
        return cls(session.record.steps, session.batches.drawn, session.chance.state())


def diagnosed(session: Session, since: Place, step: int, player: str) -> GraphError:
    """Return an error that says what was not finite first.

    Args:
        session: A fit whose steps stand still.
        since: Where it was when all was well.
        step: The step in which something was not finite, counted from 1.
        player: Whose loss or gradient it was.
    """
    found = f"at step {step} the loss or gradient of {player} is not finite"
    return GraphError(found)
