"""Questions of independence to chains: one answer for every t, in chains of every length.

The chain is written out, longer and longer, until nothing new can come. Where what is known, what
is open and what is reached repeat along it, longer chains only repeat them once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from math import lcm
from typing import NamedTuple

from daguerre.graph import Graph, HasGraph, InadmissibleError, Variable, graph_of
from daguerre.structure.moments import read_moments
from daguerre.structure.named import Named, Window
from daguerre.structure.names import Names
from daguerre.structure.query import Query, reached
from daguerre.structure.recurrence import temporal
from daguerre.structure.repetition import Slicing, blocks, covers, period
from daguerre.structure.unroll import at, slices, unroll

__all__ = ["LONGEST", "read_query"]

LONGEST = 300  # time slices that are tried


def read_query(
    g: Graph | HasGraph, xs: Names, ys: Names, given: Names = (), *, deterministic: bool = True
) -> Query:
    r"""Read a question of independence; that to a chain as one to the time slices that decide it.

    They are the first, in the order of t and of length, in which the sides depend on each other;
    if there are none, a few around what is named.

    What is independent in all chains is found from finitely many. Let a family span at most w
    slices beside its own. All that decides the answer is derived, by rules that touch at most
    w + 1 neighbouring slices and what holds for all time: what is known (given or determined),
    what is above that, and where open paths get to. Take two blocks of w slices with the same
    facts, by the same rules and in the same order, in a part of the chain where each slice is
    like the next: all lagged parents exist, and nothing begins or ends there that is named. Paste
    the chain up to the second block to the chain from the first one on, so that the two become
    one. No rule looks past that joint. So the pasted facts are closed under the rules; and each is
    derived: its rule lies on one side, and no derivation goes in a circle, since both sides have
    the facts at the joint in the same order. Hence the longer chain has these facts and the same
    answer, and so has any that repeats the part between the blocks more often. It remains to try
    chains until those that so repeat, with their periods, leave no longer chain out, neither
    before t nor after it.

    Args:
        g: The graph, or a model.
        xs: One variable or several.
        ys: One variable or several.
        given: Variables that are observed, perhaps none.
        deterministic: False for plain d-separation.

    Raises:
        GraphError: As for `independent`.
        InadmissibleError: No repetition within the longest chain that is tried.
    """
    graph = graph_of(g)
    if not graph.adjacency.lagged:
        return Query(graph, (xs, ys), given, deterministic=deterministic)
    roles = {"xs": xs, "ys": ys, "given": given}
    sides = [read_moments(graph, names, role) for role, names in roles.items()]
    return _Question(Named(graph, sides), deterministic).decisive()


class _Row(NamedTuple):
    """What chains of all lengths say for one t: where the sides meet, else the period before t."""

    dependent: Window | None
    period: int = 0


@dataclass(frozen=True)
class _Question:
    """A question to a chain, and whether it takes maps for such."""

    named: Named
    deterministic: bool

    def decisive(self) -> Query:
        """Return the question to the time slices that decide it."""
        named = self.named
        shown = self._shown(named.roomy)  # refuses what can be asked of no chain
        rows: list[tuple[int, int]] = []
        for t in count() if named.moves else [0]:
            row = self._row(t)
            if row.dependent is not None:
                return self._shown(row.dependent)
            rows += [(t, row.period)] if row.period else []
            if covers(rows) or (t >= named.roomy.t and named.is_barren(later=False)):
                break
        return shown

    def _row(self, t: int) -> _Row:
        """Try the lengths of a chain."""
        named = self.named
        before: list[int] = []
        after: list[tuple[int, int]] = []
        for steps in count(t + 1):
            window = Window(t, steps)
            query = self._query(window)
            if query is not None:
                came = reached(query)
                if not {*query.ys}.isdisjoint(i for i, _ in came):
                    return _Row(window)
                found = blocks(query, came, self._slicing(steps))
                before.append(period(found, named.alike(window, before=True)))
                again = period(found, named.alike(window, before=False))
                after += [(steps, again)] if again else []
            is_last = query is None or named.is_barren(later=True)
            if covers(after) or (is_last and steps > named.needed(t)):
                break
        return _Row(None, lcm(*before) if before else 0)

    def _slicing(self, steps: int) -> Slicing:
        graph = self.named.graph
        moving = len(temporal(graph))
        return Slicing(len(graph.names) - moving, moving, steps, self.named.width)

    def _query(self, window: Window) -> Query | None:
        """Return the question to one chain; None where it makes none, as not all is there.

        Raises:
            InadmissibleError: The chain is longer than any that is tried.
        """
        if window.steps > LONGEST:
            raise InadmissibleError(
                f"the chain does not repeat itself within {LONGEST} time slices, so no answer is"
                " known to hold for all t; ask about some slices of dg.structure.unroll(g, steps)"
            )
        names = self.named.names(window)
        if names is None or not (names[0] and names[1]) or not _are_apart(names):
            return None
        graph = _chain(self.named.graph, window.steps)
        return Query(graph, (names[0], names[1]), names[2], deterministic=self.deterministic)

    def _shown(self, window: Window) -> Query:
        """Return the question to one chain, its time slices named as seen from t."""
        names = self.named.names(window)
        assert names is not None, "what decides has all that is named"
        graph = _chain(self.named.graph, window.steps)
        where = f"{window.steps} time slice{'s' if window.steps > 1 else ''}"
        if self.named.moves:
            seen = {
                n: self._seen(*place, window.t)
                for n, place in slices(self.named.graph, window.steps).items()
            }
            names = [[seen.get(n, n) for n in side] for side in names]
            graph, where = _renamed(graph, seen), f"{where} and t = {window.t}"
        sides = names[0], names[1]
        return Query(graph, sides, names[2], deterministic=self.deterministic, where=where)

    def _seen(self, variable: str, time: int, t: int) -> str:
        low, high = self.named.around
        if time < self.named.first and not t + low <= time < t + high:
            return at(variable, time)
        return f"{variable}[t{time - t:+d}]" if time != t else f"{variable}[t]"


@lru_cache(maxsize=LONGEST)
def _chain(graph: Graph, steps: int) -> Graph:
    """Write a chain out; the order of parents, which equal graphs may not share, plays no part."""
    return unroll(graph, steps)


def _are_apart(sides: Sequence[Sequence[str]]) -> bool:
    return sum(len({*side}) for side in sides) == len({n for side in sides for n in side})


def _renamed(graph: Graph, new: Mapping[str, str]) -> Graph:
    def one(v: Variable) -> Variable:
        parents = tuple(new.get(p, p) for p in v.parents)
        inverts = None if v.inverts is None else new.get(v.inverts, v.inverts)
        return replace(v, name=new.get(v.name, v.name), parents=parents, inverts=inverts)

    return Graph(map(one, graph.variables), graph.plates)
