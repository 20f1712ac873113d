"""Plans of exact elimination: the best of several trees, and one backward pass for marginals.

The derivative of the total with respect to a factor, times the factor, is the joint of its
variables with the evidence (Darwiche 2003). Each derivative is a contraction as well, so that a
plan is one straight list of contractions, forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import log, prod

from daguerre.infer.discrete.contraction import Axes, Contraction, Kernel, contraction, kernel
from daguerre.infer.discrete.orders import RULES, elimination_order, interaction_graph
from daguerre.infer.discrete.tree import BATCH, Tree, contraction_tree

__all__ = ["Marginal", "Sum", "bind", "plan_sum"]

ENOUGH = 20_000  # multiplications below which no further order is tried
RESTARTS = 4


@dataclass(frozen=True)
class Marginal:
    """Where a marginal stands.

    Attributes:
        slot: Its slot.
        has_batch: Whether it has an axis of rows; if not, one of size one is put in front.
        order: The permutation of its dimensions to rows and then the axes of the target.
    """

    slot: int
    has_batch: bool
    order: tuple[int, ...]

    @classmethod
    def of(cls, slot: int, axes: Axes, target: Axes) -> Marginal:
        """Say where a target stands in a slot that holds its axes, and perhaps the batch."""
        has_batch = BATCH in axes
        axes = axes if has_batch else (BATCH, *axes)
        return cls(slot, has_batch, tuple(axes.index(axis) for axis in (BATCH, *target)))

    def lead(self, shape: Sequence[int]) -> Sequence[int]:
        """Return a shape with a dimension of rows."""
        return shape if self.has_batch else (1, *shape)


@dataclass(frozen=True, eq=False)
class Sum:
    """A planned sum over all states: contractions, and where to read what.

    Attributes:
        rule: The rule that gave the order.
        tree: The forward pass.
        backward: What follows it: derivatives, then marginals.
        marginals: Where the marginal of each target stands.
        axes: The axes of all slots.
        sizes: The sizes of the axes; that of the batch is nominal.
    """

    rule: str
    tree: Tree
    backward: tuple[Contraction, ...]
    marginals: tuple[Marginal, ...]
    axes: tuple[Axes, ...]
    sizes: Mapping[int, int]

    @cached_property
    def steps(self) -> tuple[Contraction, ...]:
        """All contractions, in the order in which they run."""
        return (*self.tree.steps, *self.backward)

    @cached_property
    def spent(self) -> tuple[tuple[int, ...], ...]:
        """Per step, the slots that nothing reads after it: their memory serves again."""
        read = {-1, *self.tree.roots, *(marginal.slot for marginal in self.marginals)}
        found: list[tuple[int, ...]] = []
        for step in reversed(self.steps):
            found.append(tuple({step.left, step.right} - read))
            read |= {step.left, step.right}
        return tuple(reversed(found))

    @cached_property
    def work(self) -> int:
        """The number of multiplications, for the nominal batch."""
        return sum(step.work(self.sizes) for step in self.steps)

    @cached_property
    def entries(self) -> tuple[int, int]:
        """How many numbers are held at the end: whatever the rows, and more per row."""
        common = row = 0
        for axes in self.axes:
            size = prod(self.sizes[a] for a in axes if a != BATCH)
            common, row = (common, row + size) if BATCH in axes else (common + size, row)
        return common, row


@lru_cache(maxsize=512)
def plan_sum(
    leaves: tuple[Axes, ...],
    sizes: tuple[tuple[int, int], ...],
    targets: tuple[Axes, ...] = (),
    held: frozenset[int] = frozenset(),
) -> Sum:
    """Plan the total of a product of factors, and the marginals of some targets.

    Args:
        leaves: The axes of each factor; `BATCH` stands for rows of evidence.
        sizes: Pairs (axis, size) of all axes, the nominal size of the batch included.
        targets: Sets of axes whose marginal is wanted; each within some factor.
        held: Variables that are eliminated after all others.
    """
    size = dict(sizes)
    last = targets[0] if len(targets) == 1 else ()
    rule, tree = _best(leaves, size, last, held)
    passes = _Backward(tree, size)
    marginals = passes.marginals(targets)
    return Sum(rule, tree, tuple(passes.steps), marginals, tuple(passes.axes), size)


def _best(
    leaves: Sequence[Axes], size: Mapping[int, int], last: Axes, held: frozenset[int]
) -> tuple[str, Tree]:
    """Return the cheapest tree of all rules, each tried with ties broken at random if it pays."""
    graph = interaction_graph([[a for a in axes if a != BATCH] for axes in leaves])
    weights = {v: log(size[v]) for v in graph}
    found: list[tuple[int, str, Tree]] = []

    def attempt(name: str, seed: int | None) -> None:
        order = elimination_order(graph, weights, RULES[name], last=held or last, seed=seed)
        tree = contraction_tree(leaves, order, size, held=held)
        found.append((tree.work(size), name, tree))

    for name in RULES:
        attempt(name, None)
        if found[-1][0] < ENOUGH:
            break
    work, name, _ = min(found, key=lambda entry: entry[0])
    if work > ENOUGH:
        for seed in range(RESTARTS):
            attempt(name, seed)
    _, name, tree = min(found, key=lambda entry: entry[0])
    return name, tree


class _Backward:
    """Derivatives of the total with respect to slots, made when they are asked for.

    A marginal can be read off any slot that holds its target. To differentiate down to the
    smallest may be dearer than to multiply a larger one, whose derivative others need anyway.
    """

    def __init__(self, tree: Tree, size: Mapping[int, int]) -> None:
        self.tree, self.size = tree, size
        self.axes = list(tree.axes)
        self.steps: list[Contraction] = []
        self.known: dict[int, int | None] = dict.fromkeys(tree.roots)  # None: one
        self.consumer = {
            slot: i + tree.leaves
            for i, step in enumerate(tree.steps)
            for slot in (step.left, step.right)
            if slot >= 0
        }
        self.holders: dict[int, list[int]] = {}
        for slot, axes in enumerate(tree.axes):
            for axis in axes:
                self.holders.setdefault(axis, []).append(slot)
        self.prices, self.products = self._prices()

    def _prices(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return what the derivative of a slot costs once that of its consumer is known.

        And what their product costs.
        """
        tree, scopes = self.tree, dict.fromkeys(self.tree.roots, frozenset[int]())
        prices = dict.fromkeys(tree.roots, 0)
        for above, step in reversed([*enumerate(tree.steps, tree.leaves)]):
            for below, other in ((step.left, step.right), (step.right, step.left)):
                if below >= 0:
                    both = scopes[above].union(tree.axes[other] if other >= 0 else ())
                    scopes[below] = both & {*tree.axes[below], BATCH}
                    prices[below] = self._entries(both) if other >= 0 else 0
        products = {s: self._entries(scope.union(tree.axes[s])) for s, scope in scopes.items()}
        return prices, products

    def marginals(self, targets: Sequence[Axes]) -> tuple[Marginal, ...]:
        """Plan the dearest marginal first: the derivatives that it needs serve the others."""
        dear = sorted(targets, key=lambda target: self._cost(self._slot(target)), reverse=True)
        found = {target: self._marginal(target) for target in dear}
        return tuple(found[target] for target in targets)

    def _marginal(self, target: Axes) -> Marginal:
        """Multiply a slot that holds the target by the derivative of the total."""
        slot = self._slot(target)
        adjoint, keep = self._adjoint(slot), {*target, BATCH}
        if adjoint is not None or not {*self.axes[slot]} <= keep:
            slot = self._product(slot, adjoint, keep)
        return Marginal.of(slot, self.axes[slot], target)

    def _slot(self, target: Axes) -> int:
        candidates = (s for s in self.holders[target[0]] if {*target} <= {*self.axes[s]})
        return min(candidates, key=lambda s: (self._cost(s), -s))

    def _cost(self, slot: int) -> int:
        """Return the number of multiplications that the marginal of a slot takes now."""
        cost = self.products[slot]
        while slot not in self.known:
            cost, slot = cost + self.prices[slot], self.consumer[slot]
        return cost

    def _adjoint(self, slot: int) -> int | None:
        """Return the slot of the derivative with respect to a slot; None where it is one."""
        path = [slot]
        while path[-1] not in self.known:
            path.append(self.consumer[path[-1]])
        while len(path) > 1:
            above, below = path.pop(), path[-1]
            step = self.tree.steps[above - self.tree.leaves]
            other = step.right if step.left == below else step.left
            keep = {*self.axes[below], BATCH}
            self.known[below] = self._chain(self.known[above], other, keep)
        return self.known[slot]

    def _chain(self, outer: int | None, other: int, keep: set[int]) -> int | None:
        if other < 0:
            return outer
        if outer is None and {*self.axes[other]} <= keep:
            return other
        return self._product(other, outer, keep)

    def _product(self, slot: int, other: int | None, keep: set[int]) -> int:
        right = None if other is None else (other, self.axes[other])
        step = contraction((slot, self.axes[slot]), right, keep)
        self.steps.append(step)
        self.axes.append(step.axes)
        return len(self.axes) - 1

    def _entries(self, axes: Iterable[int]) -> int:
        return prod(self.size[a] for a in axes)


@lru_cache(maxsize=512)
def bind(plan: Sum, rows: int) -> tuple[Kernel, ...]:
    """Lay out all contractions of a plan for so many rows of evidence."""
    sizes = {**plan.sizes, BATCH: rows}
    return tuple(
        kernel(step, (plan.axes[step.left], plan.axes[step.right]), sizes) for step in plan.steps
    )
