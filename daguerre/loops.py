"""Variables that feed each other through time: run slice by slice, or all slices at once.

A recursion always runs from its own first slice on, which is the last one of each sequence where
it looks ahead. In compiled code its body becomes one `scan`, so that the code, and the time to
compile it, do not grow with the number of slices; a training step that is not compiled records
one slice, and runs the others as its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.distributions import Distribution

from daguerre.families import combined, parameters_of
from daguerre.parts import Made, Part, Slices, Turn
from daguerre.program import Outcome, Realise, Step, Values
from daguerre.recorded import Line, Recorder, Source, Tape, recorder_for
from daguerre.repeats import Sizes
from daguerre.rows import tile
from daguerre.structure.recurrence import TIME

__all__ = ["Run", "recur"]

Known = Sequence[Sequence[Tensor]]


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
    made, later = _run(parts, sizes.of[TIME], value_of, keep=keep)
    found = {
        part.name: part.joined(Slices(_as_many(part, made.values), later.values.get(part.name)))
        for part in parts
    }
    laws = {
        part.name: part.law(Slices(made.outcomes[part.name], later.laws.get(part.name)))
        for part in parts
        if keep
    }
    return Run(found, {name: law for name, law in laws.items() if law is not None})


class _First(NamedTuple):
    """Slices that were made one by one, the first ones of a recursion.

    Attributes:
        values: Those of each variable, `[rows, *event]` each.
        outcomes: What they were made of.
    """

    values: dict[str, list[Tensor]]
    outcomes: dict[str, list[Outcome]]

    def add(
        self, parts: Sequence[Part], known: Sequence[Known], slices: range, value_of: Realise
    ) -> None:
        """Make some more, of what is known of them."""
        for i in slices:
            for part, of_known in zip(parts, known, strict=True):
                given = [one[i - slices.start] for one in of_known]
                value, outcome = part.value(i, given, self.values, value_of)
                self.values[part.name].append(value)
                self.outcomes[part.name].append(outcome)


class _Later(NamedTuple):
    """All other slices.

    Attributes:
        values: The rows of each variable in all of them, one slice after the other.
        laws: The distributions of these rows, as far as they are kept.
    """

    values: Mapping[str, Tensor] = {}
    laws: Mapping[str, Distribution] = {}


def _run(
    parts: Sequence[Part], count: int, value_of: Realise, *, keep: bool
) -> tuple[_First, _Later]:
    """Make so many slices: the first ones one by one, and the others as is fastest."""
    compiling, names = torch.compiler.is_compiling(), tuple(part.name for part in parts)
    head, records = min(max(part.reach for part in parts), count), None
    if not compiling:
        # the last one before those recorded is as they are: without a law, and of as many rows
        alone = head + (len(parts) > 1 or any(part.laws for part in parts))
        records = recorder_for(names, count - alone)
        head = count if records is None else alone
    apart = [[part.turn.apart(one, head) for one in part.known] for part in parts]
    made = _First({name: [] for name in names}, {name: [] for name in names})
    made.add(parts, [[first for first, _ in known] for known in apart], range(head), value_of)
    if head == count:
        return made, _Later()
    rest = [[later for _, later in known] for known in apart]
    if compiling:
        return made, _scanned(parts, made, rest, value_of)
    later = _recorded(parts, made, rest, records, value_of, keep=keep) if records else None
    if later is None:
        each = zip(parts, rest, strict=True)
        slices = [[part.turn.each(one, head) for one in known] for part, known in each]
        made.add(parts, slices, range(head, count), value_of)
    return made, later or _Later()


def _as_many(part: Part, made: Made) -> list[Tensor]:
    """Repeat slices for the copies that only later ones come in."""
    inner = part.repeat.inner
    rows = [part.turn.sizes.without_time(i).rows(inner) for i in range(len(made[part.name]))]
    copies = max(len(slices[-1]) // max(rows[-1], 1) for slices in made.values())
    return [tile(one, copies * own) for one, own in zip(made[part.name], rows, strict=True)]


def _scanned(parts: Sequence[Part], made: _First, rest: Known, value_of: Realise) -> _Later:
    """Make the slices after the first ones, each from as many before as any CPD looks back."""
    reach = len(made.values[parts[0].name])

    def body(
        recent: list[list[Tensor]], at: tuple[Tensor, list[list[Tensor]]]
    ) -> tuple[list[list[Tensor]], list[Tensor]]:
        slices = {part.name: [*found] for part, found in zip(parts, recent, strict=True)}
        for part, known in zip(parts, at[1], strict=True):
            slices[part.name].append(part.value(reach, known, slices, value_of)[0])
        kept = [[_own(one) for one in slices[part.name][1:]] for part in parts]
        return kept, [_own(slices[part.name][-1]) for part in parts]

    start = [[_own(one) for one in _as_many(part, made.values)] for part in parts]
    places = torch.arange(parts[0].turn.sizes.of[TIME] - reach, device=start[0][0].device)
    _, found = scan(body, start, (places, [[*known] for known in rest]))
    return _Later({part.name: one.flatten(0, 1) for part, one in zip(parts, found, strict=True)})


def _own(value: Tensor) -> Tensor:
    """Return a tensor that shares no memory, as what a scan hands on must not."""
    return value.clone(memory_format=torch.contiguous_format)


def _recorded(
    parts: Sequence[Part],
    made: _First,
    rest: Known,
    records: Recorder,
    value_of: Realise,
    *,
    keep: bool,
) -> _Later | None:
    """Make the slices after the first ones as the code of one; None where that is refused."""
    laws = {
        name: outcomes[-1]
        for name, outcomes in made.outcomes.items()
        if keep and isinstance(outcomes[-1], Distribution)
    }
    tape = _tape(parts, made.values, rest, laws)
    found = None if tape is None else records.run(tape, value_of)
    if tape is None or found is None:
        return None
    parameters = iter(found[len(parts) :])
    kept = {
        line.step.name: combined([laws[line.step.name]], lambda _: next(parameters))
        for line in tape.lines
        if line.parameters
    }
    return _Later(
        {part.name: value for part, value in zip(parts, found, strict=False)},
        {name: law for name, law in kept.items() if law is not None},
    )


def _tape(
    parts: Sequence[Part], made: Made, rest: Known, laws: Mapping[str, Distribution]
) -> Tape | None:
    """Say what is to be run after the first slices; None where variables differ in their rows."""
    names = [part.name for part in parts]
    turn, inner, head = parts[0].turn, parts[0].repeat.inner, len(made[names[0]])
    counts = [turn.sizes.without_time(i).n for i in range(turn.sizes.of[TIME])]
    rows = {len(slices[-1]) for slices in made.values()}
    if len(rows) > 1 or any(part.repeat.inner != inner for part in parts):
        return None
    copies = rows.pop() // max(counts[head - 1], 1)
    wanted = [copies * count for count in counts[head:]]

    def line(part: Part) -> Line:
        within = (one.known is None and one.still is None for one in part.arguments)
        sources = (
            Source(names.index(one.name), one.ago) if is_made else Source()
            for one, is_made in zip(part.arguments, within, strict=True)
        )
        law = laws.get(part.name)
        return Line(part.step, tuple(sources), () if law is None else parameters_of(law))

    def before(name: str) -> tuple[Tensor, ...]:
        latest = range(head - 1, head - 1 - max(part.reach for part in parts), -1)
        reaching = (turn.reaching(made[name][i], inner, i, head) for i in latest)
        return tuple(tile(one, wanted[0]) for one in reaching)

    return Tape(
        lines=tuple(map(line, parts)),
        before=tuple(map(before, names)),
        known=tuple(
            tuple(part.later(known, head, wanted)) for part, known in zip(parts, rest, strict=True)
        ),
        counts=tuple(wanted),
        chosen=(None, *(turn.left(i, copies) for i in range(head, len(counts) - 1))),
        within=turn.sizes.without_time().of,
        copies=copies,
    )
