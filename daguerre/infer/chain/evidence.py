"""Evidence over time, as a user writes it: values `[B, T, *event]`, with gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from daguerre.cpds import Tabular
from daguerre.graph import GraphError
from daguerre.infer.evidence import Given, Value, read_evidence
from daguerre.joint import Joint
from daguerre.queries import batch_size, declared_sizes, read_sizes
from daguerre.rows import is_missing
from daguerre.structure.recurrence import TIME

__all__ = ["check_marks", "ends", "missing_steps", "plates_over_time", "read_values"]


def read_values(joint: Joint, given: Given) -> dict[str, Tensor]:
    """Read evidence on a chain.

    Args:
        joint: A model with lags, or a product of some.
        given: Per variable, values `[B, T, *event]`; or one number or name of a state for all
            steps, or a list of names per sequence; or a pair (values, which steps have one,
            `[B, T]`). Steps that hold NaN, a negative integer or None lack the value; a list of
            names that is shorter than the others lacks its end. With plates, values are
            `[B, *plates, T, *event]`.

    Returns:
        Values `[B, T, *event]`, with plates `[B, *plates, T, *event]`.

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
    plates = plates_over_time(joint)
    found = {}
    for name, value in given.items():
        cpd = steps[joint.graph[name].name].cpd
        labels, own = cpd.states if isinstance(cpd, Tabular) else None, plates.get(name, (TIME,))
        found[name] = _values(name, value, labels, 1 + len(own))
    shapes = {name: list(value.shape) for name, value in found.items() if value.dim()}
    if not shapes:
        raise GraphError("a chain is as long as what is observed or given of it; nothing is")
    if plates:
        return _in_plates(joint, found)
    sizes = {tuple(shape[:2]) for shape in shapes.values()}
    if any(len(s) < 2 or 0 in s for s in sizes) or len(sizes) > 1:
        raise GraphError(f"observed values are [B, T, *event] with one B and T, not {shapes}")
    (size,) = sizes
    return {name: value if value.dim() else value.expand(size) for name, value in found.items()}


def plates_over_time(joint: Joint) -> Mapping[str, tuple[str, ...]]:
    """Return the plates of all variables, `TIME` last; nothing where all have time alone."""
    if not joint.graph.plates:
        return {}
    return joint.program.plates


def _in_plates(joint: Joint, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give what is known as one number to all members and steps.

    Raises:
        GraphError: Two sizes for a plate, or none; a value with too few dimensions; no rows.
    """
    plates, several = joint.program.plates, {n: v for n, v in found.items() if v.dim()}
    if not (rows := batch_size(several)):
        raise GraphError(f"the evidence is empty: {', '.join(several)} has no rows")
    sizes = read_sizes(plates, several, rows, declared_sizes(joint.graph))
    assert sizes is not None, "there is time"

    def whole(name: str) -> list[int]:
        return [rows, *(sizes.of[plate] for plate in plates[name])]

    return {n: v if v.dim() else v.expand(whole(n)) for n, v in found.items()}


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


def _values(
    name: str, value: Value | Sequence[object], labels: tuple[str, ...] | None, lead: int = 2
) -> Tensor:
    """Return values `[B, T, *event]`, or `[]` for all steps.

    Args:
        name: The variable.
        value: What a user wrote.
        labels: The names of its states, if they have any.
        lead: The number of dimensions before the event: rows, plates and time.
    """
    shape: Sequence[int] = ()
    match value:
        case Tensor() if value.dim():
            return value
        case (Tensor() as values, Tensor() as present) if values.dim() >= lead == present.dim():
            shape = values.shape[:lead]
            value = (values.flatten(0, lead - 1), present.flatten(0, lead - 1))
        case [*rows] if rows and lead == 2 and all(isinstance(row, list | tuple) for row in rows):
            longest = max(len(row) for row in rows)  # type: ignore[arg-type]
            shape = (len(rows), longest)
            value = [n for row in rows for n in (*row, *[None] * (longest - len(row)))]  # type: ignore[misc]
        case Tensor() | bool() | int() | float() | str():
            return read_evidence({name: labels}, {name: value}).values[name].squeeze(0)
        case [*_] if lead == 1:
            return read_evidence({name: labels}, {name: value}).values[name]  # type: ignore[dict-item]
        case _:
            what = "[B, T, *event]" if lead == 2 else "[B, *plates, T, *event]"
            raise GraphError(
                f"{name} must be a Tensor {what}, a number, the name of a state or a list"
                f" of names per sequence, not {value!r}"
            )
    return read_evidence({name: labels}, {name: value}).values[name].unflatten(0, shape)
