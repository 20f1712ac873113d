"""Variables that feed each other through time: run slice by slice, or all slices at once.

A recursion always runs from its own first slice on, which is the last one of each sequence where
it looks ahead. In compiled code its body becomes one `scan`, so that the code, and the time to
compile it, do not grow with the number of slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.distributions import Distribution

from daguerre.families import combined
from daguerre.graph import GraphError
from daguerre.lags import Past, Start, spread_over
from daguerre.program import Outcome, Step, Values
from daguerre.repeats import Repeat, Sizes, check_end, laws_of
from daguerre.rows import tile
from daguerre.structure.recurrence import TIME

__all__ = ["Part", "Realise", "Run", "Turn", "recur"]

Realise = Callable[[Step, Outcome, Values, int, Sizes], Tensor]
Made = Mapping[str, Sequence[Tensor]]
Slices = Sequence[Tensor] | Tensor


class Run(NamedTuple):
    """What a recursion made.

    Attributes:
        values: Rows of each variable.
        laws: The distribution of all slices of a stochastic one, as far as it has been kept.
    """

    values: dict[str, Tensor]
    laws: dict[str, Distribution]


def recur(
    steps: Sequence[Step],
    direction: int,
    values: Values,
    sizes: Sizes,
    value_of: Realise,
    *,
    keep: bool = False,
) -> Run:
    """Run variables that feed each other through time.

    Args:
        steps: Their steps, parents of the same slice first.
        direction: 1 from the first slice on, -1 from the last one back.
        values: Rows of what they depend on beside each other.
        sizes: How many there are of what repeats.
        value_of: Makes rows of one slice of what a CPD gave, told how much repeats within it.
        keep: Whether to keep the distributions that the slices were drawn from, where that costs
            no second look at them.
    """
    names = frozenset(step.name for step in steps)
    turn = Turn(sizes, back=direction < 0)
    parts = [Part.of(step, values, names, turn) for step in steps]
    if len(parts) == 1 and steps[0].whole is not None and not torch.compiler.is_compiling():
        return Run({steps[0].name: parts[0].at_once()}, {})
    made, outcomes = _run(parts, sizes.of[TIME], value_of)
    laws = {part.name: part.law(outcomes[part.name]) for part in parts if keep}
    return Run(
        {part.name: part.joined(made[part.name]) for part in parts},
        {name: law for name, law in laws.items() if law is not None},
    )


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

    def apart(self, slices: Tensor, head: int) -> list[Tensor]:
        """Return the first slices of what was cut, `[rows, *event]` each."""
        ragged = self.sizes.ragged
        if ragged is None:
            return [*slices[:head].unbind(0)]
        return [one.flatten(0, 1) for one in slices.split(ragged.counts, 1)]

    def joined(self, slices: Slices, plates: Sequence[str]) -> Tensor:
        """Arrange slices in the order of the recursion as rows."""
        ragged, inner = self.sizes.ragged, [plate for plate in plates if plate != TIME]
        if ragged is not None:
            split = zip(slices, ragged.counts, strict=True)
            whole = torch.cat([one.unflatten(0, (-1, count)) for one, count in split], 1)
            return (whole.index_select(1, ragged.turned) if self.back else whole).flatten(0, 1)
        whole = self._turned(slices if isinstance(slices, Tensor) else torch.stack([*slices]))
        copies = whole.shape[1] // max(self.sizes.rows(inner), 1)
        shape = (copies, *(self.sizes.of[plate] for plate in inner), self.sizes.n)
        return self.sizes.joined(whole.unflatten(1, shape).movedim(0, len(plates)), plates)

    def grid(self, slices: Tensor) -> Tensor:
        """Return what was cut as `[T, rows, *event]`, zeros where a step is not there."""
        ragged = self.sizes.ragged
        if ragged is None:
            return slices
        copies, n = len(slices), self.sizes.n
        empty = slices.new_zeros(copies, self.sizes.of[TIME] * n, *slices.shape[2:])
        grid = empty.index_copy(1, ragged.places, slices).unflatten(1, (-1, n))
        return grid.transpose(0, 1).flatten(1, 2)

    def of_grid(self, slices: Tensor, plates: Sequence[str]) -> Tensor:
        """Arrange `[T, rows, *event]` of all steps, in the order of the recursion, as rows."""
        ragged = self.sizes.ragged
        if ragged is None:
            return self.joined(slices, plates)
        places = ragged.places[ragged.turned] if self.back else ragged.places
        grid = slices.unflatten(1, (-1, self.sizes.n)).transpose(0, 1).flatten(1, 2)
        return grid.index_select(1, places).flatten(0, 1)

    def reaching(self, value: Tensor, plates: Sequence[str], earlier: int, later: int) -> Tensor:
        """Return the rows of a slice, or those of all examples, that reach a later slice."""
        ragged = self.sizes.ragged
        if ragged is None or (left := ragged.left(earlier, later)) is None:
            return value
        sizes = self.sizes.without_time(earlier if earlier >= 0 else None)
        dim = 1 + len(plates)
        return sizes.split(value, plates).index_select(dim, left).flatten(0, dim)

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

    def joined(self, slices: Slices) -> Tensor:
        """Arrange slices in the order of the recursion as rows."""
        return self.turn.joined(slices, self.repeat.plates)

    def law(self, outcomes: Sequence[Outcome]) -> Distribution | None:
        """Join the distributions of all slices; None where they are not of one kind and shape."""
        laws = [outcome for outcome in outcomes if isinstance(outcome, Distribution)]
        if len(laws) < self.turn.sizes.of[TIME]:
            return None
        rows = (self.turn.sizes.without_time(i).rows(self.repeat.inner) for i in range(len(laws)))
        shapes = {
            (law.batch_shape[0] // max(own, 1), law.batch_shape[1:])
            for law, own in zip(laws, rows, strict=True)
        }
        return combined(laws, self.joined) if len(shapes) == 1 else None


def _run(
    parts: Sequence[Part], count: int, value_of: Realise
) -> tuple[Mapping[str, Slices], Mapping[str, Sequence[Outcome]]]:
    """Make the slices of each variable, in the order of the recursion.

    Returns:
        Their values `[rows, *event]`, and what they were made of, as far as that is kept.
    """
    reach = max(part.reach for part in parts)
    head = min(reach, count) if torch.compiler.is_compiling() else count
    known = [[part.turn.apart(slices, head) for slices in part.known] for part in parts]
    made: dict[str, list[Tensor]] = {part.name: [] for part in parts}
    outcomes: dict[str, list[Outcome]] = {part.name: [] for part in parts}
    for i in range(head):
        for part, slices in zip(parts, known, strict=True):
            value, outcome = part.value(i, [one[i] for one in slices], made, value_of)
            made[part.name].append(value)
            outcomes[part.name].append(outcome)
    first = {part.name: _as_many(part, made) for part in parts}
    if head == count:
        return first, outcomes
    later = _scanned(parts, first, reach, value_of)
    return {n: torch.cat((torch.stack(first[n]), later[n])) for n in later}, outcomes


def _as_many(part: Part, made: Made) -> list[Tensor]:
    """Repeat slices for the copies that only later ones come in."""
    inner = part.repeat.inner
    rows = [part.turn.sizes.without_time(i).rows(inner) for i in range(len(made[part.name]))]
    copies = max(len(slices[-1]) // max(rows[-1], 1) for slices in made.values())
    return [tile(one, copies * own) for one, own in zip(made[part.name], rows, strict=True)]


def _scanned(
    parts: Sequence[Part], first: Made, reach: int, value_of: Realise
) -> dict[str, Tensor]:
    """Make the slices after the first ones, each from as many before as any CPD looks back."""

    def body(
        recent: list[list[Tensor]], at: tuple[Tensor, list[list[Tensor]]]
    ) -> tuple[list[list[Tensor]], list[Tensor]]:
        made = {part.name: [*slices] for part, slices in zip(parts, recent, strict=True)}
        for part, known in zip(parts, at[1], strict=True):
            made[part.name].append(part.value(reach, known, made, value_of)[0])
        kept = [[_own(one) for one in made[part.name][1:]] for part in parts]
        return kept, [_own(made[part.name][-1]) for part in parts]

    start = [[_own(one) for one in first[part.name]] for part in parts]
    known = [[slices[reach:] for slices in part.known] for part in parts]
    count = parts[0].turn.sizes.of[TIME] - reach
    places = torch.arange(count, device=start[0][0].device)
    _, made = scan(body, start, (places, known))
    return {part.name: slices for part, slices in zip(parts, made, strict=True)}


def _own(value: Tensor) -> Tensor:
    """Return a tensor that shares no memory, as what a scan hands on must not."""
    return value.clone(memory_format=torch.contiguous_format)
