"""Names with time: `z[t]`, `z[t-1]`, `z[0]`, `x[:t]`, `x[t:]`, and `x` for all time slices."""

from __future__ import annotations

import re
from typing import NamedTuple

from daguerre.graph import Graph, GraphError
from daguerre.structure.names import Names
from daguerre.structure.recurrence import temporal
from daguerre.structure.unroll import at

__all__ = ["Bound", "Moments", "read_moments", "written"]

_TIMED = re.compile(r"(.+)\[([^\[\]]*)\]", re.DOTALL)
_BOUND = re.compile(r"(t?)([+-]\d{1,6})?|(\d{1,6})")


class Bound(NamedTuple):
    """A point in time: counted from the first slice, or from t."""

    steps: int
    from_t: bool = False

    def of(self, t: int) -> int:
        """Return the slice that it is for one t."""
        return self.steps + t if self.from_t else self.steps


class Moments(NamedTuple):
    """Some time slices of a variable.

    Attributes:
        variable: The variable.
        first: The first slice; None for the first that there is.
        stop: The slice after the last; None where there is no last but that of the chain.
        is_one: Whether one slice is named, which must exist.
        is_still: Whether the variable holds for all time.
    """

    variable: str
    first: Bound | None = None
    stop: Bound | None = None
    is_one: bool = False
    is_still: bool = False

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """Both ends, where they are said."""
        return tuple(bound for bound in (self.first, self.stop) if bound is not None)

    def names(self, t: int, steps: int) -> tuple[str, ...] | None:
        """Return the names of the slices in a chain; None where the one named is not there.

        Args:
            t: The time slice t.
            steps: The number of slices of the chain.
        """
        if self.is_still:
            return (self.variable,)
        first = 0 if self.first is None else self.first.of(t)
        stop = steps if self.stop is None else self.stop.of(t)
        if self.is_one and not 0 <= first < steps:
            return None
        return tuple(at(self.variable, s) for s in range(max(first, 0), min(stop, steps)))


def written(names: Names) -> tuple[str, ...]:
    """Return names as they were written, each once."""
    return tuple(dict.fromkeys((names,) if isinstance(names, str) else names))


def read_moments(graph: Graph, names: Names, role: str) -> tuple[Moments, ...]:
    """Read names of time slices.

    Args:
        graph: A graph with lagged edges.
        names: A name, or several; perhaps none.
        role: What the message calls them.

    Raises:
        GraphError: A name that the graph has not, a time that cannot be read, a time for what has
            none.
        TypeError: Something that is no name.

    Example:
        >>> chain = Graph.from_edges([], lagged=[("z", "z", 1)])
        >>> read_moments(chain, "z[t-1:]", "xs")[0].first
        Bound(steps=-1, from_t=True)
    """
    for name in written(names):
        if not isinstance(name, str):
            raise TypeError(f"{role} holds names of variables, not {name!r}")
    return tuple(_read(graph, name) for name in written(names))


def _read(graph: Graph, name: str) -> Moments:
    timed = None if name in graph else _TIMED.fullmatch(name.strip())
    if timed is None:
        return Moments(graph[name].name, is_still=name not in temporal(graph))
    variable = graph[timed[1]].name
    if variable not in temporal(graph):
        raise GraphError(
            f"{name!r}: {variable} holds for all time, so it has no time slices; write {variable}"
        )
    first, colon, stop = timed[2].replace(" ", "").partition(":")
    if not colon:
        one = _bound(name, first)
        return Moments(variable, one, Bound(one.steps + 1, one.from_t), is_one=True)
    ends = [_bound(name, end) if end else None for end in (first, stop)]
    return Moments(variable, ends[0], ends[1])


def _bound(name: str, text: str) -> Bound:
    match = _BOUND.fullmatch(text)
    if match is not None and match[3]:
        return Bound(int(match[3]))
    if match is not None and match[1]:
        return Bound(int(match[2] or 0), from_t=True)
    raise GraphError(
        f"cannot read {name!r} as a time slice: write z[t], z[t-1] or z[t+1], z[0] for the first"
        " slice, z[:t] for those before t, z[t:] for those from t on, z for all of them"
    )
