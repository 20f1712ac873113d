"""Whether a model does what the net does, to the bit: on the example, and on another input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from daguerre.graph import GraphError
from daguerre.nets.checks import OtherPathError
from daguerre.nets.examples import batch_size, copied, map_rows
from daguerre.nets.ladder import SEED
from daguerre.nets.noise import is_random
from daguerre.nets.recording import Recording

__all__ = ["DiffersError", "agrees_on_one_row", "verify"]


class Replayed(Protocol):
    """A model of a net that can be run with the net's own random draws."""

    recording: Recording

    @property
    def outputs(self) -> Any:
        """What the net returns, by names."""
        ...

    def replay(self, inputs: tuple[Any, ...], draws: Mapping[int, Tensor]) -> Any:
        """Run the model."""
        ...


class DiffersError(GraphError):
    """The model gives something else than the net."""


def verify(model: Replayed, net: nn.Module, example: tuple[Any, ...]) -> None:
    """Run net and model on the example, and on an input made of it, and compare to the bit.

    Raises:
        DiffersError: An output differs; says which, and on which of the two.
    """
    _compare(model, net, example, "on the example")
    n = batch_size(example)
    more = 1 if model.recording.fits(n + 1) else 0

    def other(rows: Tensor) -> Tensor:
        """Return the rows in another order, and one more; numbers a little smaller."""
        rows = torch.cat([rows.flip(0), rows[:more]])
        return rows * 0.9 if rows.is_floating_point() else rows

    where = "on another input: it computes something outside of torch"
    with suppress(_NoInputError, OtherPathError):
        _compare(model, net, map_rows(other, example, n=n), where)


def agrees_on_one_row(model: Replayed, net: nn.Module, example: tuple[Any, ...]) -> bool:
    """Whether net and model do the same on the first row of the example alone."""
    first = map_rows(lambda rows: rows[:1], example, n=batch_size(example))
    try:
        _compare(model, net, first, "on one row")
    except Exception:  # noqa: BLE001 - that net or model cannot do it is an answer
        return False
    return True


class _NoInputError(Exception):
    """The net itself fails on an input."""


def _compare(model: Replayed, net: nn.Module, inputs: tuple[Any, ...], where: str) -> None:
    with torch.random.fork_rng(devices=[]), _plainly(), _Draws() as seen:
        torch.manual_seed(SEED)
        try:
            expected = pytree.tree_leaves(net(*copied(inputs)))
        except Exception as error:
            raise _NoInputError(str(error)) from error
    noise = [i for i, op in enumerate(model.recording.ops) if op.role == "noise"]
    if len(noise) != len(seen.draws):
        model.replay(copied(inputs), {})  # which says so if it is another path
        raise DiffersError(f"the net draws {len(seen.draws)} times, not {len(noise)}, {where}")
    n, draws = batch_size(inputs), dict(zip(noise, seen.draws, strict=True))
    for number, draw in draws.items():  # a draw from a Categorical has a dimension less here
        if (layout := model.recording.ops[number].layout) is not None:
            draws[number] = draw.reshape(layout.sized(n))
    found = pytree.tree_leaves(model.replay(copied(inputs), draws))
    for name, a, b in zip(pytree.tree_leaves(model.outputs), expected, found, strict=True):
        if not _same(a, b):
            raise DiffersError(f"the net gives another {name} {where}")


@contextmanager
def _plainly() -> Iterator[None]:
    """Keep torch's Transformers off their fast path without gradients, which nobody can watch."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return bool(a == b)
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())


class _Draws(TorchDispatchMode):
    """Keeps what every random operation draws."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and is_random(func, args, kwargs or {}):
            self.draws.append(result.detach().clone())
        return result
