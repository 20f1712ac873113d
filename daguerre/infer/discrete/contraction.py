"""One step of elimination: multiply two tensors and sum out what nobody else needs.

Axes are numbers. A contraction is laid out once as a batched matrix product: axes that both
sides keep are shared, the rest is rows, sums and columns. Running it is then a permutation, a
reshape and a product.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

__all__ = ["Axes", "Contraction", "Kernel", "Permute", "contract", "contraction", "kernel"]

Axes = tuple[int, ...]
Array = Any  # a Tensor, or the array of numpy that it shares its memory with
Permute = Callable[[Array, tuple[int, ...]], Array]


@dataclass(frozen=True, slots=True)
class Contraction:
    """A product of two slots, or the reduction of one, by axes.

    Attributes:
        left: The slot of the first tensor.
        right: The slot of the second tensor; -1 where there is none.
        shared: Axes of both that are kept.
        rows: Axes of the first alone that are kept.
        sums: Axes of both that are summed.
        columns: Axes of the second alone that are kept.
        alone: Axes of the first, and of the second, that are summed beforehand.
    """

    left: int
    right: int
    shared: Axes
    rows: Axes
    sums: Axes
    columns: Axes
    alone: tuple[Axes, Axes]

    @property
    def axes(self) -> Axes:
        """The axes of the result."""
        return (*self.shared, *self.rows, *self.columns)

    def entries(self, sizes: Mapping[int, int]) -> int:
        """Return the number of entries of the result."""
        return prod(sizes[a] for a in self.axes)

    def work(self, sizes: Mapping[int, int]) -> int:
        """Return the number of multiplications."""
        return self.entries(sizes) * prod(sizes[a] for a in self.sums)


def contraction(
    left: tuple[int, Axes], right: tuple[int, Axes] | None, keep: Collection[int]
) -> Contraction:
    """Plan the product of two slots, each with its axes, that keeps the axes in `keep`.

    Example:
        >>> c = contraction((0, (1, 2)), (1, (2, 3)), {1, 3})
        >>> c.rows, c.sums, c.columns
        ((1,), (2,), (3,))
    """
    one, first = left
    two, second = right if right is not None else (-1, ())
    a, b = set(first), set(second)
    return Contraction(
        one,
        two,
        shared=tuple(v for v in first if v in b and v in keep),
        rows=tuple(v for v in first if v not in b and v in keep),
        sums=tuple(v for v in first if v in b and v not in keep),
        columns=tuple(v for v in second if v not in a and v in keep),
        alone=(
            tuple(v for v in first if v not in b and v not in keep),
            tuple(v for v in second if v not in a and v not in keep),
        ),
    )


@dataclass(frozen=True, slots=True)
class Side:
    """How one tensor is brought into the form of a product: sum, permute, reshape."""

    alone: tuple[int, ...]
    permute: tuple[int, ...] | None
    shape: tuple[int, ...]

    def of(self, value: Array, permute: Permute) -> Array:
        """Return the tensor in that form."""
        if self.alone:
            value = value.sum(self.alone)
        if self.permute is not None:
            value = permute(value, self.permute)
        return value.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A contraction for tensors of known sizes."""

    left: int
    right: int
    one: Side
    two: Side | None
    shape: tuple[int, ...]
    is_product: bool = False


def _side(axes: Axes, alone: Axes, order: Sequence[int], shape: tuple[int, ...]) -> Side:
    left = [a for a in axes if a not in alone]
    permute = tuple(left.index(a) for a in order)
    is_sorted = permute == tuple(range(len(permute)))
    return Side(tuple(axes.index(a) for a in alone), None if is_sorted else permute, shape)


def kernel(c: Contraction, axes: tuple[Axes, Axes], sizes: Mapping[int, int]) -> Kernel:
    """Lay out a contraction of tensors with these axes for known sizes."""

    def size(names: Axes) -> int:
        return prod(sizes[a] for a in names)

    s, m, k, n = size(c.shared), size(c.rows), size(c.sums), size(c.columns)
    shape = tuple(sizes[a] for a in c.axes)
    if c.right < 0:
        return Kernel(c.left, -1, _side(axes[0], c.alone[0], c.rows, shape), None, shape)
    is_product = bool(c.sums)
    lead = (s,) if s > 1 or not is_product else ()
    one = _side(axes[0], c.alone[0], (*c.shared, *c.rows, *c.sums), (*lead, m, k))
    two = _side(axes[1], c.alone[1], (*c.shared, *c.sums, *c.columns), (*lead, k, n))
    return Kernel(c.left, c.right, one, two, shape, is_product)


def contract(k: Kernel, slots: Sequence[Array], permute: Permute) -> Array:
    """Run one contraction of torch's or numpy's arrays, whose own `permute` is passed."""
    value = k.one.of(slots[k.left], permute)
    if k.two is None:
        return value
    other = k.two.of(slots[k.right], permute)
    return (value @ other if k.is_product else value * other).reshape(k.shape)
