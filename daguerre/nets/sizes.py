"""Sizes as functions of the batch: which dimension of a value grows with it, and how fast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import SymInt, Tensor

from daguerre.nets.recording import Layout, Size

__all__ = ["Sizes"]


class Sizes:
    """Reads the symbolic sizes of one trace.

    Args:
        inputs: What stands for the inputs; the first size of each is the batch if it is a symbol.
        n: The batch size of the example.

    Attributes:
        symbols: The symbols for the batch; none if it was traced for one size alone.
    """

    def __init__(self, inputs: Iterable[Any], n: int) -> None:
        first = [v.shape[0] for v in inputs if isinstance(v, Tensor) and v.dim()]
        free = (s for v in first if isinstance(v, SymInt) for s in v.node.expr.free_symbols)
        self.symbols, self.n = frozenset(free), n

    def size(self, value: Any) -> Size | int | None:
        """Return a size as a function of the batch, or None if it is none, or not linear."""
        if not isinstance(value, SymInt):
            return value if isinstance(value, int) and not isinstance(value, bool) else None
        expression = value.node.expr
        if not expression.free_symbols <= self.symbols:
            return None
        at = {k: int(expression.xreplace(dict.fromkeys(self.symbols, k))) for k in (2, 3, 7)}
        factor = at[3] - at[2]
        if at[7] != at[2] + 5 * factor:
            return None
        offset = at[2] - 2 * factor
        return Size(factor, offset) if factor else offset

    def layout(self, value: Any) -> Layout | None:
        """Find the batch in a value: the first dimension that grows with it."""
        if not isinstance(value, Tensor):
            return None
        sizes = [self.size(s) for s in value.shape]
        dim, inner = self._batch(sizes)
        shape = tuple(
            s.factor * self.n + s.offset if isinstance(s, Size) else -1 if s is None else s
            for s in sizes
        )
        return Layout(shape, dim, inner, value.dtype)

    def _batch(self, sizes: list[Size | int | None]) -> tuple[int | None, int]:
        """Return the dimension of the batch, and how many of its entries belong to one row."""
        if self.symbols:
            grown = (
                (i, s.factor) for i, s in enumerate(sizes) if isinstance(s, Size) and not s.offset
            )
            return next(grown, (None, 1))
        # the only sign of the batch is its length
        whole = [
            (i, s // self.n)
            for i, s in enumerate(sizes)
            if isinstance(s, int) and s and s % self.n == 0
        ]
        return min(whole, key=lambda found: found[1] != 1, default=(None, 1))
