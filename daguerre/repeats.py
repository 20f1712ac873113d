"""Repeated variables as rows: plates and time are factors of the number of rows.

A value of a variable in the plates I and J, of n examples of which c copies were drawn, has
c * I * J * n rows: copies slowest, examples fastest. So a CPD is called once for all that
repeats, on rows like any others, and row i belongs to example i mod n. Time is one more plate,
the innermost, whose slices may look at each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.families import combined
from daguerre.graph import Graph, GraphError, InadmissibleError
from daguerre.lags import Past
from daguerre.ragged import Ragged
from daguerre.structure.recurrence import TIME, temporal

__all__ = ["Repeat", "Sizes", "Taken", "check_end", "laws_of", "repeats_of"]


class Sizes(NamedTuple):
    """How many there are of what repeats.

    Attributes:
        n: Examples.
        of: The size of each plate; that of `TIME` is the number of steps.
        active: Which steps a sequence has, `[T, n]`; None where all have all of them, or where
            there are rows of no others.
        whole: The size of each plate of which these are some members only, drawn at random.
        ragged: Which steps there are rows of; None where there are some of all.
    """

    n: int
    of: Mapping[str, int]
    active: Tensor | None = None
    whole: Mapping[str, int] = MappingProxyType({})
    ragged: Ragged | None = None

    @classmethod
    def met(
        cls, values: Mapping[str, Tensor], plates: Mapping[str, Sequence[str]], n: int
    ) -> Sizes:
        """Read sizes off values `[n, *plates, *event]` that have been checked."""
        of: dict[str, int] = {}
        for name, value in values.items():
            of.update(zip(plates.get(name, ()), value.shape[1:], strict=False))
        return cls(n, of)

    def rows(self, plates: Sequence[str]) -> int:
        """Return the rows of a variable in some plates, for one copy."""
        return prod(self._shape(plates))

    def split(self, value: Tensor, plates: Sequence[str]) -> Tensor:
        """View rows as `[copies, *plates, n, *event]`; ragged steps and n are one dimension."""
        shape = self._shape(plates)
        return value.unflatten(0, (value.shape[0] // max(prod(shape), 1), *shape))

    def joined(self, split: Tensor, plates: Sequence[str]) -> Tensor:
        """View `[copies, *plates, n, *event]` as rows; the inverse of `split`."""
        return split.flatten(0, len(self._shape(plates)))

    def _shape(self, plates: Sequence[str]) -> tuple[int, ...]:
        """Return the sizes of the dimensions of rows."""
        if self.ragged is None or TIME not in plates:
            return (*(self.of[plate] for plate in plates), self.n)
        return (*(self.of[plate] for plate in plates if plate != TIME), self.ragged.rows)

    def aligned(self, value: Tensor, have: Sequence[str], want: Sequence[str]) -> Tensor:
        """Repeat the rows of a variable for the plates that it is not in.

        Example:
            >>> sizes = Sizes(1, {"i": 2, "j": 3})
            >>> sizes.aligned(torch.tensor([5, 7]), ["i"], ["i", "j"])
            tensor([5, 5, 5, 7, 7, 7])
            >>> sizes.aligned(torch.tensor([1, 2, 3]), ["j"], ["i", "j"])
            tensor([1, 2, 3, 1, 2, 3])
        """
        if tuple(have) == tuple(want):
            return value
        split, merged = self.split(value, have), want
        if self.ragged is not None and TIME in want:
            merged = [plate for plate in want if plate != TIME]
            if TIME not in have:
                split = split.index_select(1 + len(have), self.ragged.examples)
        for i, plate in enumerate(merged, 1):
            if plate not in have:
                split = split.unsqueeze(i)
        shape = self._shape(want)
        whole = split.expand(split.shape[0], *shape, *split.shape[1 + len(shape) :])
        return self.joined(whole, want)

    def fold(self, term: Tensor, plates: Sequence[str]) -> Tensor:
        """Sum `[rows, ...]` over plates, `[copies * n, ...]`; no step counts beyond the end.

        Where some members stand for all of a plate, each counts as many times as that takes.
        """
        if not plates:
            return term
        split = self.split(term, plates)
        if self.active is not None and TIME in plates:
            inside = self.active.reshape(*self.active.shape, *[1] * (term.dim() - 1))
            split = torch.where(inside, split, 0.0)
        outer = [*range(1, len(self._shape(plates)))]
        total = split.sum(outer) if outer else split
        if self.ragged is not None and TIME in plates:
            empty = total.new_zeros(total.shape[0], self.n, *total.shape[2:])
            total = empty.index_add(1, self.ragged.examples, total)
        total = total.flatten(0, 1)
        return total if (scale := self.scale(plates)) == 1 else scale * total

    def scale(self, plates: Sequence[str]) -> float:
        """Return how many members of some plates each one here stands for.

        Example:
            >>> Sizes(1, {"i": 2, "j": 3}, whole={"i": 10}).scale(["i", "j"])
            5.0
        """
        scale = 1.0
        for plate in plates:
            if plate in self.whole:
                scale *= self.whole[plate] / self.of[plate]
        return scale

    def enter(self, value: Tensor, plates: Sequence[str]) -> Tensor:
        """Arrange a value `[n, *plates, *event]` as rows."""
        return value.movedim(0, len(plates)).flatten(0, len(plates)) if plates else value

    def leave(self, value: Tensor, plates: Sequence[str]) -> Tensor:
        """Arrange rows of one copy as `[n, *plates, *event]`."""
        return self.split(value, plates)[0].movedim(len(plates), 0) if plates else value

    def without_time(self, reached: int | None = None) -> Sizes:
        """Return the sizes within a time slice, perhaps of the examples that reach one alone."""
        of = {plate: size for plate, size in self.of.items() if plate != TIME}
        if self.ragged is None or reached is None:
            return Sizes(self.n, of)
        return Sizes(self.ragged.counts[reached], of)

    def window(self, first: int, steps: int) -> Sizes:
        """Return the sizes of some slices in a row."""
        ragged = None if self.ragged is None else self.ragged.window(first, steps)
        return Sizes(self.n, {**self.of, TIME: steps}, ragged=ragged)

    @property
    def end_apart(self) -> bool:
        """Whether sequences may end at different steps."""
        return self.active is not None or self.ragged is not None

    def until_the_end(self, there: Sequence[Tensor], plates: Sequence[Sequence[str]]) -> Sizes:
        """Let each sequence end with the last step that holds something.

        Args:
            there: Whether rows of some variables hold something, `[rows]` each.
            plates: Their plates, `TIME` last.
        """
        held = [
            self.split(one, own)[0].reshape(-1, self.of[TIME], self.n).any(0)
            for one, own in zip(there, plates, strict=True)
        ]
        later = torch.stack(held).any(0).flip(0).cumsum(0).flip(0) > 0
        first = torch.arange(self.of[TIME], device=later.device)[:, None] == 0
        return self._replace(active=later | first)

    def without_ends(self) -> Sizes:
        """Leave out the rows of steps that are beyond an end: those that `there` does not pick."""
        if self.active is None or (active := self.active.cpu()).all():
            return self
        active = active[active.any(1)]
        ragged = Ragged(active, self.active.device)
        return self._replace(active=None, ragged=ragged, of={**self.of, TIME: len(active)})

    def there(self, value: Tensor, plates: Sequence[str]) -> Tensor:
        """Pick the rows of steps that there are from those of all steps."""
        if self.ragged is None or TIME not in plates:
            return value
        outer = self.rows([plate for plate in plates if plate != TIME]) // self.n
        grid = value.unflatten(0, (outer, value.shape[0] // outer))
        return self.ragged.cells.read(grid, 1).flatten(0, 1)


class Taken(NamedTuple):
    """What a CPD takes in all time slices, but for those that have a law of their own.

    Attributes:
        found: The values of its parents, then of its lagged parents.
        laws: The law of each slice that the CPD does not hold for.
        ahead: Whether these slices are the last ones, not the first.
    """

    found: list[Tensor]
    laws: tuple[Distribution, ...] = ()
    ahead: bool = False


@dataclass(frozen=True, eq=False)
class Repeat:
    """How a variable repeats.

    Attributes:
        plates: Its plates, outermost first, `TIME` last.
        taken: The plates of each variable that its CPD takes.
    """

    plates: tuple[str, ...]
    taken: Mapping[str, tuple[str, ...]]

    @property
    def inner(self) -> tuple[str, ...]:
        """The plates that it is in within one time slice."""
        return tuple(plate for plate in self.plates if plate != TIME)

    def take(
        self,
        names: Sequence[str],
        past: Sequence[Past],
        values: Mapping[str, Tensor],
        sizes: Sizes,
    ) -> Taken:
        """Return what a CPD takes of values that are all known.

        Args:
            names: Its parents.
            past: Its lagged parents.
            values: Rows of all of them.
            sizes: How many there are of what repeats.
        """
        starts = [one.start() for one in past]
        laws = laws_of(past, starts)[: sizes.of.get(TIME, 0)]
        ahead = any(one.steps < 0 for one in past)
        found = [sizes.aligned(values[n], self.taken[n], self.plates) for n in names]
        found += [
            self.shifted(values[one.variable], one, start, sizes)
            for one, start in zip(past, starts, strict=True)
        ]
        if laws:
            first = 0 if ahead else len(laws)
            found = [self._window(v, first, sizes.of[TIME] - len(laws), sizes) for v in found]
        return Taken(found, laws, ahead)

    def completed(
        self, rest: Distribution | None, taken: Taken, sizes: Sizes
    ) -> Distribution | None:
        """Return the distribution of all slices: laws of their own, and what the CPD gave.

        Args:
            rest: What the CPD gave for the other slices; None where there are none.
            taken: What it took.
            sizes: How many there are of what repeats.

        Returns:
            None where they are of different families.
        """
        count = len(taken.laws)
        own = [sizes.window(i, 1) for i in range(count)]
        others = sizes.window(count, sizes.of[TIME] - count)
        copies = 1 if rest is None else rest.batch_shape[0] // max(others.rows(self.plates), 1)
        laws = [
            law.expand(torch.Size((copies * one.rows(self.plates), *law.batch_shape)))
            for law, one in zip(taken.laws, own, strict=True)
        ]

        def join(parameters: list[Tensor]) -> Tensor:
            parts = zip((*own, others), parameters, strict=False)
            split = [part.split(p, self.plates) for part, p in parts]
            if taken.ahead:
                split = [*split[count:], *reversed(split[:count])]
            return sizes.joined(torch.cat(split, len(self.plates)), self.plates)

        return combined([*laws, *([] if rest is None else [rest])], join)

    def shifted(self, value: Tensor, past: Past, start: object, sizes: Sizes) -> Tensor:
        """Return the rows of a lagged parent for all slices; `start` where there is none."""
        rows = sizes.aligned(value, self.taken[past.variable], self.plates)
        split, dim = sizes.split(rows, self.plates), len(self.plates)
        if past.steps < 0 and sizes.end_apart:
            check_end(past, start)
        start = split.new_zeros(()) if isinstance(start, Distribution) else start
        start = torch.as_tensor(start, dtype=split.dtype, device=split.device)
        if sizes.ragged is not None:
            row = start.expand(*split.shape[:dim], 1, *split.shape[dim + 1 :])
            found = torch.cat((split, row), dim)
            found = found.index_select(dim, sizes.ragged.shifted(past.steps))
            return sizes.joined(found, self.plates)
        steps = sizes.of[TIME]
        shift = min(abs(past.steps), steps)
        kept = split.narrow(dim, 0 if past.steps > 0 else shift, steps - shift)
        filled = start.expand(*split.shape[:dim], shift, *split.shape[dim + 1 :])
        if past.steps > 0:
            return sizes.joined(torch.cat((filled, kept), dim), self.plates)
        if sizes.active is not None:  # what is to come ends where the sequence does
            inside = sizes.active[shift:].reshape(-1, sizes.n, *[1] * (value.dim() - 1))
            kept = torch.where(inside, kept, filled.narrow(dim, 0, 1))
        return sizes.joined(torch.cat((kept, filled), dim), self.plates)

    def _window(self, value: Tensor, first: int, steps: int, sizes: Sizes) -> Tensor:
        if sizes.ragged is not None:
            first, last = sizes.ragged.start(first), sizes.ragged.start(first + steps)
            steps = last - first
        dim = len(self.plates)
        rows = sizes.split(value, self.plates).narrow(dim, first, steps)
        return sizes.joined(rows, self.plates)


def check_end(past: Past, start: object) -> None:
    """Refuse a law of the last slice where sequences end at different ones.

    Raises:
        InadmissibleError: The start of a lag that looks ahead is a Distribution.
    """
    if isinstance(start, Distribution):
        raise InadmissibleError(
            f"{past.variable} at t + {-past.steps} starts with a {type(start).__name__}, the law"
            " of the last step, but sequences that may lack steps end at different ones; give the"
            " lag a value for init, or leave out partial where all are of one length"
        )


def laws_of(past: Sequence[Past], starts: Sequence[object]) -> tuple[Distribution, ...]:
    """Return the law of each slice that has one instead of a CPD, the first slice first."""
    laws: list[Distribution] = []
    for i in sorted(range(len(past)), key=lambda i: abs(past[i].steps)):
        law = starts[i]
        if isinstance(law, Distribution):
            laws += [law] * (abs(past[i].steps) - len(laws))
    return tuple(laws)


def repeats_of(graph: Graph, also: frozenset[str] = frozenset()) -> dict[str, Repeat]:
    """Say of each variable how it repeats; nothing where nothing does.

    Args:
        graph: The graph.
        also: Variables that have time slices in another graph, which this one meets.
    """
    in_time = temporal(graph, also)
    plates = {
        v.name: (*(p for p in v.plates if p != TIME), *[TIME] * (v.name in in_time))
        for v in graph.variables
    }

    if not any(plates.values()):
        return {}

    def repeat(name: str) -> Repeat:
        taken = (*graph.parents(name), *(lag.variable for lag in graph[name].lags))
        for parent in taken:
            if beyond := [plate for plate in plates[parent] if plate not in plates[name]]:
                raise GraphError(
                    f"{name} is outside the plate {beyond[0]} of its parent {parent}, so it would"
                    f" see all of its members; reduce {parent} first, or make its members a"
                    f" dimension of its event, or put {name} into the plate"
                )
        return Repeat(plates[name], {t: plates[t] for t in taken})

    return {name: repeat(name) for name in graph.names}
