"""What a recursion runs: its variables, and the slices of what they depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.families import combined
from daguerre.graph import GraphError
from daguerre.lags import Past, Start, spread_over
from daguerre.program import Outcome, Realise, Step, Values
from daguerre.ragged import Ragged
from daguerre.repeats import Repeat, Sizes, check_end, laws_of
from daguerre.rows import tile
from daguerre.structure.recurrence import TIME

__all__ = ["Made", "Part", "Slices", "Turn"]

Made = Mapping[str, Sequence[Tensor]]
T = TypeVar("T")


class Slices(NamedTuple, Generic[T]):
    """What there is of each slice.

    Attributes:
        first: That of the first ones.
        later: That of the rows of all others, one slice after the other; None where there are
            none.
    """

    first: Sequence[T]
    later: T | None = None

    @classmethod
    def of(cls, found: Sequence[T], head: int) -> Slices[T]:
        """Take the first so many apart from one for the others, if there is one."""
        return cls(found[:head], found[head] if len(found) > head else None)

    @property
    def every(self) -> list[T]:
        """All of it."""
        return [*self.first, *([] if self.later is None else [self.later])]


class Turn(NamedTuple):
    """The order of the slices in which a recursion runs; it is its own inverse.

    Attributes:
        sizes: How many there are of what repeats.
        back: Whether it runs from the last slice of each sequence to the first.
    """

    sizes: Sizes
    back: bool = False

    def cut(self, value: Tensor, plates: Sequence[str]) -> Tensor:
        """View rows as slices `[T, rows of one, *event]`, in the order of the recursion.

        Of ragged sequences, all slices after each other: `[copies, rows of all, *event]`.
        """
        if self.sizes.ragged is not None:
            flat = self.sizes.split(value, plates).flatten(0, len(plates) - 1)
            return flat.index_select(1, self.sizes.ragged.turned) if self.back else flat
        dim = len(plates)
        return self._turned(self.sizes.split(value, plates).movedim(dim, 0).flatten(1, dim + 1))

    def apart(self, slices: Tensor, head: int) -> tuple[list[Tensor], Tensor]:
        """Return the first slices of what was cut, `[rows, *event]` each, and the others."""
        ragged = self.sizes.ragged
        if ragged is None:
            first, later = slices.split([head, len(slices) - head])
            return [*first.unbind(0)], later
        counts = ragged.counts
        *found, later = slices.split([*counts[:head], sum(counts[head:])], 1)
        return [one.flatten(0, 1) for one in found], later

    def each(self, later: Tensor, head: int) -> list[Tensor]:
        """Return each of the others, `[rows, *event]`."""
        ragged = self.sizes.ragged
        if ragged is None:
            return [*later.unbind(0)]
        return [one.flatten(0, 1) for one in later.split(ragged.counts[head:], 1)]

    def joined(
        self, first: Sequence[Tensor], later: Tensor | None, plates: Sequence[str]
    ) -> Tensor:
        """Arrange slices in the order of the recursion as rows.

        Args:
            first: The first ones, `[rows, *event]` each.
            later: The rows of all others, one slice after the other; None where there are none.
            plates: Those that the variable is in.
        """
        inner = [plate for plate in plates if plate != TIME]
        if self.sizes.ragged is not None:
            return self._joined(self.sizes.ragged, first, later)
        slices = [] if not first else [torch.stack([*first])]
        if later is not None:
            slices.append(later.unflatten(0, (self.sizes.of[TIME] - len(first), -1)))
        whole = self._turned(slices[0] if len(slices) == 1 else torch.cat(slices))
        copies = whole.shape[1] // max(self.sizes.rows(inner), 1)
        shape = (copies, *(self.sizes.of[plate] for plate in inner), self.sizes.n)
        return self.sizes.joined(whole.unflatten(1, shape).movedim(0, len(plates)), plates)

    def _joined(self, ragged: Ragged, first: Sequence[Tensor], later: Tensor | None) -> Tensor:
        slices, counts = [*first], ragged.counts
        if later is not None:
            copies = len(later) // sum(counts[len(first) :])
            own = [copies * count for count in counts[len(first) :]]
            slices += [later] if copies == 1 else later.split(own)
            counts = (*counts[: len(first)], len(later)) if copies == 1 else counts
        split = zip(slices, counts, strict=True)
        whole = torch.cat([one.unflatten(0, (-1, count)) for one, count in split], 1)
        return (whole.index_select(1, ragged.turned) if self.back else whole).flatten(0, 1)

    def grid(self, slices: Tensor) -> Tensor:
        """Return what was cut as `[T, rows, *event]`, zeros where a step is not there."""
        ragged = self.sizes.ragged
        if ragged is None:
            return slices
        grid = ragged.cells.write(slices, 1).unflatten(1, (-1, self.sizes.n))
        return grid.transpose(0, 1).flatten(1, 2)

    def of_grid(self, slices: Tensor, plates: Sequence[str]) -> Tensor:
        """Arrange `[T, rows, *event]` of all steps, in the order of the recursion, as rows."""
        ragged = self.sizes.ragged
        if ragged is None:
            return self.joined([], slices.flatten(0, 1), plates)
        cells = ragged.cells.of_rows(ragged.turned) if self.back else ragged.cells
        grid = slices.unflatten(1, (-1, self.sizes.n)).transpose(0, 1).flatten(1, 2)
        return cells.read(grid, 1).flatten(0, 1)

    def reaching(self, value: Tensor, plates: Sequence[str], earlier: int, later: int) -> Tensor:
        """Return the rows of a slice, or those of all examples, that reach a later slice."""
        ragged = self.sizes.ragged
        if ragged is None or (left := ragged.left(earlier, later)) is None:
            return value
        sizes = self.sizes.without_time(earlier if earlier >= 0 else None)
        dim = 1 + len(plates)
        return sizes.split(value, plates).index_select(dim, left).flatten(0, dim)

    def left(self, i: int, copies: int) -> Tensor | None:
        """Return which rows of a slice reach the next one; None where all do."""
        ragged = self.sizes.ragged
        left = None if ragged is None else ragged.left(i, i + 1)
        if ragged is None or left is None or copies == 1:
            return left
        starts = torch.arange(copies, device=left.device)[:, None] * ragged.counts[i]
        return (starts + left).flatten()

    def _turned(self, slices: Tensor) -> Tensor:
        """Reorder slices `[T, rows, *event]`; those beyond the end of a sequence stay there."""
        if not self.back:
            return slices
        if self.sizes.active is None:
            return slices.flip(0)
        count, rows = slices.shape[:2]
        places = torch.arange(count, device=slices.device)[:, None]
        places = (tile(self.sizes.active.sum(0), rows) - 1 - places) % count
        places = places * rows + torch.arange(rows, device=slices.device)
        return slices.flatten(0, 1).index_select(0, places.flatten()).unflatten(0, (count, rows))


class _Argument(NamedTuple):
    """What a CPD takes of one parent.

    Attributes:
        name: The parent.
        ago: How many slices before, in the order of the recursion.
        plates: Its plates within a slice.
        known: Its rows in all slices, as `Turn.cut` returns them; None where they are made in the
            loop.
        still: Its rows, where they are the same in all slices.
        start: What stands in for it before the first slice.
    """

    name: str
    ago: int = 0
    plates: tuple[str, ...] = ()
    known: Tensor | None = None
    still: Tensor | None = None
    start: Start = 0.0


@dataclass(frozen=True, eq=False)
class Part:
    """One variable of a recursion.

    Attributes:
        step: Its step.
        arguments: What its CPD takes, in its order.
        laws: The law of each slice that has one instead of the CPD, the first slice first.
        turn: The order of the slices.
        repeat: How it repeats.
    """

    step: Step
    arguments: tuple[_Argument, ...]
    laws: tuple[Distribution, ...]
    turn: Turn
    repeat: Repeat

    @classmethod
    def of(cls, step: Step, values: Values, names: frozenset[str], turn: Turn) -> Part:
        """Cut what is known into slices, in the order of the recursion."""
        repeat, sizes = step.repeat, turn.sizes
        assert repeat is not None, "a program with time says how its variables repeat"
        starts = [past.start() for past in step.past]

        def inner(name: str) -> tuple[str, ...]:
            return tuple(plate for plate in repeat.taken[name] if plate != TIME)

        def same(name: str) -> _Argument:
            if name in names:
                return _Argument(name, 0, inner(name))
            if TIME not in repeat.taken[name]:
                return _Argument(
                    name, still=sizes.aligned(values[name], repeat.taken[name], repeat.inner)
                )
            rows = sizes.aligned(values[name], repeat.taken[name], repeat.plates)
            return _Argument(name, known=turn.cut(rows, repeat.plates))

        def other(past: Past, start: Start) -> _Argument:
            if past.variable not in names:
                rows = repeat.shifted(values[past.variable], past, start, sizes)
                return _Argument(past.variable, known=turn.cut(rows, repeat.plates))
            if past.steps < 0 and sizes.end_apart:
                check_end(past, start)
            return _Argument(past.variable, abs(past.steps), inner(past.variable), start=start)

        arguments = [same(name) for name in step.arguments]
        arguments += [other(past, start) for past, start in zip(step.past, starts, strict=True)]
        return cls(step, tuple(arguments), laws_of(step.past, starts), turn, repeat)

    @property
    def name(self) -> str:
        """The variable."""
        return self.step.name

    @property
    def known(self) -> list[Tensor]:
        """The slices of each argument that is known."""
        return [one.known for one in self.arguments if one.known is not None]

    @property
    def reach(self) -> int:
        """How many slices at the beginning are not like all later ones."""
        return max([len(self.laws), *(one.ago for one in self.arguments)])

    def value(
        self, i: int, known: Sequence[Tensor], made: Made, value_of: Realise
    ) -> tuple[Tensor, Outcome]:
        """Make rows of slice i, given slice i of what is known and all slices made before.

        Returns:
            The rows, and what they were made of.
        """
        within = self.turn.sizes.without_time(i)
        rows = within.rows(self.repeat.inner)
        if i < len(self.laws):
            law = self.laws[i].expand(torch.Size((rows, *self.laws[i].batch_shape)))
            return value_of(self.step, law, {}, rows, within), law
        of_known = iter(known)
        found = [self._found(i, one, of_known, made, within) for one in self.arguments]
        rows = max([rows, *map(len, found)])
        mapped = dict(zip(self.step.arguments, found, strict=False))
        outcome = self.step.called(found, {}, rows)
        return value_of(self.step, outcome, mapped, rows, within), outcome

    def _found(
        self, i: int, one: _Argument, known: Iterator[Tensor], made: Made, within: Sizes
    ) -> Tensor:
        inner = self.repeat.inner
        if one.still is not None:
            return self.turn.reaching(one.still, inner, -1, i)
        if one.known is not None:
            return next(known)
        if i < one.ago:
            event = made[one.name][0].shape[1:] if made[one.name] else ()
            return self._start(one, within.rows(inner), event)
        before = self.turn.reaching(made[one.name][i - one.ago], one.plates, i - one.ago, i)
        return within.aligned(before, one.plates, inner)

    def _start(self, one: _Argument, rows: int, event: Sequence[int] = ()) -> Tensor:
        start = spread_over(torch.as_tensor(one.start), event)
        return start.expand(rows, *start.shape)

    def later(self, known: Sequence[Tensor], head: int, rows: Sequence[int]) -> Iterator[Tensor]:
        """Yield what the CPD takes, beside what is made, of the slices after the first ones.

        Args:
            known: These slices, as they were cut.
            head: How many are before.
            rows: How many rows of each slice there shall be.

        Yields:
            The rows of all slices of one argument, one slice after the other.
        """
        of_known = iter(known)
        for one in self.arguments:
            if one.still is not None:
                slices = [
                    self.turn.reaching(one.still, self.repeat.inner, -1, i)
                    for i in range(head, head + len(rows))
                ]
            elif one.known is not None:
                later = next(of_known)
                flat = later.flatten(0, 1)
                if len(flat) == sum(rows) and (self.turn.sizes.ragged is None or len(later) == 1):
                    yield flat
                    continue
                slices = self.turn.each(later, head)
            else:
                continue
            yield torch.cat([tile(value, n) for value, n in zip(slices, rows, strict=True)])

    def at_once(self) -> Tensor:
        """Make rows of a map that says all its slices at once.

        Raises:
            GraphError: It returned something else than one value per row and slice.
        """
        step, count = self.step, self.turn.sizes.of[TIME]  # errors are located by the step
        own = self.turn.sizes.without_time().rows(self.repeat.inner)
        cut = [None if one.known is None else self.turn.grid(one.known) for one in self.arguments]
        rows = max([own, *(one.shape[1] for one in cut if one is not None)])

        def of(one: _Argument, known: Tensor | None) -> Tensor:
            if one.ago:
                return self._start(one, rows)
            if known is None:
                assert one.still is not None
                return tile(one.still, rows).unsqueeze(1).expand(-1, count, *one.still.shape[1:])
            return tile(known.transpose(0, 1), rows)

        ragged = self.turn.sizes.ragged
        lengths = None if ragged is None else tile(ragged.lengths, rows)
        made = step.at_once([*map(of, self.arguments, cut)], lengths)
        if not isinstance(made, Tensor) or made.shape[:2] != (rows, count):
            came = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise GraphError(
                f"{step}: its over_time returned {came}; expected one value for each row and"
                f" step, [{rows}, {count}, ...], as its CPD gives them step by step"
            )
        return self.turn.of_grid(made.transpose(0, 1), self.repeat.plates)

    def joined(self, slices: Slices[Tensor]) -> Tensor:
        """Arrange slices in the order of the recursion as rows."""
        return self.turn.joined(slices.first, slices.later, self.repeat.plates)

    def law(self, outcomes: Slices[Outcome]) -> Distribution | None:
        """Join the distributions of all slices; None where they are not of one kind and shape."""
        laws = [outcome for outcome in outcomes.every if isinstance(outcome, Distribution)]
        count, head = self.turn.sizes.of[TIME], len(outcomes.first)
        own = [self.turn.sizes.without_time(i).rows(self.repeat.inner) for i in range(count)]
        rows = own if outcomes.later is None else [*own[:head], sum(own[head:])]
        if len(laws) < len(rows):
            return None
        shapes = {
            (law.batch_shape[0] // max(own, 1), law.batch_shape[1:])
            for law, own in zip(laws, rows, strict=True)
        }
        if len(shapes) > 1:
            return None
        return combined(laws, lambda found: self.joined(Slices.of(found, head)))
