"""Evidence over time, as a user writes it: values `[B, T, *event]`, with gaps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from daguerre.cpds import Tabular
from daguerre.graph import GraphError
from daguerre.infer.evidence import Given, Value, read_evidence
from daguerre.joint import Joint
from daguerre.rows import is_missing

__all__ = ["check_marks", "ends", "missing_steps", "read_values"]


def read_values(joint: Joint, given: Given) -> dict[str, Tensor]:
    """Read evidence on a chain.

    Args:
        joint: A model with lags, or a product of some.
        given: Per variable, values `[B, T, *event]`; or one number or name of a state for all
            steps, or a list of names per sequence; or a pair (values, which steps have one,
            `[B, T]`). Steps that hold NaN, a negative integer or None lack the value; a list of
            names that is shorter than the others lacks its end.

    Returns:
        Values `[B, T, *event]`.

    Raises:
        GraphError: Unknown names and states, sizes that differ, nothing as long as the chain.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> walk = dg.model(z=lambda last=dg.lag("z", init=Normal(0.0, 1.0)): Normal(last, 1.0))
        >>> read_values(dg.data("x") * walk, {"x": torch.zeros(2, 3), "z": 1.0})["z"].shape
        torch.Size([2, 3])
    """
    steps = {s.name: s for f in joint.factors for s in f.steps()}
    found = {}
    for name, value in given.items():
        cpd = steps[joint.graph[name].name].cpd
        found[name] = _values(name, value, cpd.states if isinstance(cpd, Tabular) else None)
    shapes = {name: list(value.shape) for name, value in found.items() if value.dim()}
    if not shapes:
        raise GraphError("a chain is as long as what is observed or given of it; nothing is")
    sizes = {tuple(shape[:2]) for shape in shapes.values()}
    if any(len(s) < 2 or 0 in s for s in sizes) or len(sizes) > 1:
        raise GraphError(f"observed values are [B, T, *event] with one B and T, not {shapes}")
    (size,) = sizes
    return {name: value if value.dim() else value.expand(size) for name, value in found.items()}


def check_marks(name: str, values: Tensor) -> None:
    """Refuse to take negative integers for what is missing of a continuous variable.

    Raises:
        GraphError: There are some.
    """
    if not values.is_floating_point() and bool((values < 0).any()):
        raise GraphError(
            f"{name} is continuous, but its evidence holds negative integers, which mark what"
            " is missing; give floats, NaN where a step lacks it"
        )


def missing_steps(values: Tensor, *, partly: bool = True) -> Tensor:
    """Return which steps lack a value, `[B, T]`, for values `[B, T, *event]`.

    Args:
        values: The values.
        partly: Whether one missing component is enough; otherwise all must be.
    """
    return is_missing(values.flatten(0, 1), partly=partly).unflatten(0, values.shape[:2])


def ends(values: Iterable[Tensor]) -> Tensor | None:
    """Return the step after which each sequence has no more values, `[B]`; None if all are full.

    Args:
        values: Values `[B, T, *event]`.

    Example:
        >>> ends([torch.tensor([[1, -1, 1, -1], [1, 0, 0, 0]])])
        tensor([3, 4])
    """
    there = [~missing_steps(value, partly=False) for value in values]
    if not there or bool((seen := torch.stack(there).any(0))[:, -1].all()):
        return None
    time = torch.arange(1, seen.shape[1] + 1, device=seen.device)
    return (seen * time).amax(1).clamp(min=1)


def _values(name: str, value: Value | Sequence[object], labels: tuple[str, ...] | None) -> Tensor:
    """Return values `[B, T, *event]`, or `[]` for all steps."""
    match value:
        case Tensor() if value.dim():
            return value
        case (Tensor() as values, Tensor() as present) if values.dim() > 1 < present.dim():
            lead, value = values.shape[:2], (values.flatten(0, 1), present.flatten(0, 1))
        case [*rows] if rows and all(isinstance(row, list | tuple) for row in rows):
            longest = max(len(row) for row in rows)  # type: ignore[arg-type]
            lead = torch.Size((len(rows), longest))
            value = [n for row in rows for n in (*row, *[None] * (longest - len(row)))]  # type: ignore[misc]
        case Tensor() | bool() | int() | float() | str():
            return read_evidence({name: labels}, {name: value}).values[name].squeeze(0)
        case _:
            raise GraphError(
                f"{name} must be a Tensor [B, T, *event], a number, the name of a state or a list"
                f" of names per sequence, not {value!r}"
            )
    return read_evidence({name: labels}, {name: value}).values[name].unflatten(0, lead)
