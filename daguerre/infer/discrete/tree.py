"""Contraction trees: an order of elimination as a list of pairwise products.

Pairwise, so that the product over a variable that is being summed is never held: the largest
tensor of a tree is often ten times smaller than the largest clique table of the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from daguerre.infer.discrete.contraction import Axes, Contraction, contraction

__all__ = ["BATCH", "Tree", "contraction_tree"]

BATCH = -1  # the axis of the rows of evidence, which is never summed
FEW = 8  # so many factors of one variable are paired by trying all pairs


@dataclass(frozen=True)
class Tree:
    """Contractions that reduce factors to one number (or one per row) per component.

    Attributes:
        leaves: How many slots are factors; step i fills slot `leaves + i`.
        steps: The contractions; each slot is used once.
        axes: The axes of each slot.
        roots: The slots that are left, whose product is the total.
    """

    leaves: int
    steps: tuple[Contraction, ...]
    axes: tuple[Axes, ...]
    roots: tuple[int, ...]

    def work(self, sizes: Mapping[int, int]) -> int:
        """Return the number of multiplications."""
        return sum(step.work(sizes) for step in self.steps)

    def entries(self, sizes: Mapping[int, int]) -> int:
        """Return how many numbers all slots hold."""
        return sum(prod(sizes[a] for a in axes) for axes in self.axes)

    def largest(self, sizes: Mapping[int, int]) -> int:
        """Return the number of entries of the largest slot."""
        return max((prod(sizes[a] for a in axes) for axes in self.axes), default=0)


class _Pool:
    """The slots that are not used yet, and who holds which axis."""

    def __init__(
        self, leaves: Sequence[Axes], sizes: Mapping[int, int], held: Iterable[int]
    ) -> None:
        self.sizes, self.held = sizes, {BATCH, *held}
        self.axes = list(leaves)
        self.steps: list[Contraction] = []
        self.live = dict.fromkeys(range(len(leaves)))
        self.holders: dict[int, set[int]] = {}
        for slot, axes in enumerate(leaves):
            for axis in axes:
                self.holders.setdefault(axis, set()).add(slot)

    def eliminate(self, v: int) -> None:
        """Multiply all slots that hold a variable, two at a time."""
        if v in self.held:
            self.held = {BATCH}
        while len(group := self.holders[v]) > 1:
            self._merge(*self._pair(group))

    def reduce(self) -> None:
        """Sum what is left in slots that nothing shares an axis with."""
        for slot in list(self.live):
            if any(axis != BATCH for axis in self.axes[slot]):
                self._push(contraction((slot, self.axes[slot]), None, {BATCH}), slot)

    def _pair(self, group: set[int]) -> tuple[int, int]:
        slots = sorted(group, key=lambda slot: (self._size(self.axes[slot]), slot))
        if len(slots) > FEW or len(slots) == 2:
            return slots[0], slots[1]
        pairs = [(a, b) for i, a in enumerate(slots) for b in slots[i + 1 :]]
        return min(pairs, key=lambda pair: self._size(self._kept(*pair)))

    def _merge(self, a: int, b: int) -> None:
        keep = self._kept(a, b)
        self._push(contraction((a, self.axes[a]), (b, self.axes[b]), keep), a, b)

    def _push(self, step: Contraction, *used: int) -> None:
        for slot in used:
            del self.live[slot]
            for axis in self.axes[slot]:
                self.holders[axis].discard(slot)
        slot = len(self.axes)
        self.axes.append(step.axes)
        self.steps.append(step)
        self.live[slot] = None
        for axis in step.axes:
            self.holders[axis].add(slot)

    def _kept(self, a: int, b: int) -> set[int]:
        """Return the axes of two slots that others hold as well."""
        both = {a, b}
        axes = {*self.axes[a], *self.axes[b]}
        return {v for v in axes if v in self.held or not self.holders[v] <= both}

    def _size(self, axes: Iterable[int]) -> int:
        return prod(self.sizes[axis] for axis in axes)


def contraction_tree(
    leaves: Sequence[Axes],
    order: Iterable[int],
    sizes: Mapping[int, int],
    *,
    held: Iterable[int] = (),
) -> Tree:
    """Build the tree of an order of elimination.

    Args:
        leaves: The axes of each factor.
        order: All variables of the factors, without the batch.
        sizes: The size of each axis.
        held: Variables that stay until the first of them is reached in the order, though nothing
            else shares them: those that are maximised after others were summed.

    Example:
        >>> tree = contraction_tree([(0,), (0, 1), (1, 2)], [0, 1, 2], {0: 2, 1: 3, 2: 5})
        >>> tree.axes[3:], tree.roots
        (((1,), ()), (4,))
    """
    pool = _Pool(leaves, sizes, held)
    for v in order:
        pool.eliminate(v)
    pool.reduce()
    return Tree(len(leaves), tuple(pool.steps), tuple(pool.axes), tuple(pool.live))
