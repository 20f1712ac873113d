"""A directed graphical model as a value: variables, parents, maps. No tensor in sight.

A [Graph][daguerre.Graph] is immutable and hashable. Every structural question (kinds, separation,
drawing, factorisation) is asked of a Graph, never of the code that made it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import takewhile
from typing import Any, Literal, NamedTuple, Protocol

__all__ = [
    "Adjacency",
    "Graph",
    "GraphError",
    "HasGraph",
    "InadmissibleError",
    "Kind",
    "Lag",
    "Map",
    "Plate",
    "Plated",
    "Variable",
    "did_you_mean",
    "graph_of",
]

Map = Literal["stochastic", "deterministic", "input"]
Kind = Literal["input", "prescribed", "deterministic", "implicit"]


class GraphError(ValueError):
    """A graph, a model or a pair of models that cannot exist: the message says where and why."""


class InadmissibleError(GraphError):
    """A question that the graph cannot answer, such as the density of an implicit variable."""


LISTED = 20  # names that an error spells out at most


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'z'?"` when `name` resembles a known name, else list them."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if not close:  # short names: Z for z and zz for z score low, yet are the likely slips
        low = name.lower()
        close = [n for n in names if n and (low.startswith(n.lower()) or n.startswith(name))]
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"; known: {', '.join(names[:LISTED])}{more}" if names else "; there are none"


@dataclass(frozen=True, slots=True)
class Plate:
    """A repeated dimension: its name and, where it is known beforehand, its size.

    Calling a plate puts a declaration into it: as a decorator, `@school` above `@dg.rv`, or in
    `dg.model(theta=school(dg.rv(...)))`. Plates nest, outermost first, and cross.
    """

    name: str
    size: int | None = None

    def __call__(self, declared: Any) -> Any:
        """Put what declares a variable into this plate, around the plates that it is in."""
        inner = declared.plates if isinstance(declared, Plated) else ()
        bare = declared.declared if isinstance(declared, Plated) else declared
        return Plated(bare, (self, *inner))


@dataclass(frozen=True, slots=True)
class Plated:
    """A declaration of a variable, and its plates, outermost first."""

    declared: Any
    plates: tuple[Plate, ...]

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else self.declared.__get__(instance, owner)


@dataclass(frozen=True, slots=True)
class Lag:
    """A parent from an earlier time slice: `Lag("z", 1)` is z at t - 1."""

    variable: str
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Variable:
    """One node of a graph: a name, its parents, and how it follows from them.

    Attributes:
        name: The variable.
        parents: Names of the parents in the same time slice, in the order of the CPD.
        map: `"stochastic"`, `"deterministic"` or `"input"`.
        inverts: The parent that a declared bijection can recover from this variable, or None.
        plates: Names of the plates that hold the variable, outermost first.
        lags: Parents in earlier time slices.
    """

    name: str
    parents: tuple[str, ...] = ()
    map: Map = "stochastic"
    inverts: str | None = None
    plates: tuple[str, ...] = ()
    lags: tuple[Lag, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two variables equal: parents and lags count as sets."""
        return (
            self.name,
            frozenset(self.parents),
            self.map,
            self.inverts,
            self.plates,
            frozenset(self.lags),
        )


class Adjacency(NamedTuple):
    """A graph by numbers, for algorithms that walk it: variables count in order of declaration.

    Attributes:
        number: The number of each variable.
        parents: Per variable, the numbers of its parents in the same time slice.
        children: Per variable, the numbers of its children in the same time slice.
        maps: Per variable, whether it is deterministic.
        inverts: Of each declared bijection, the number of the variable that it recovers.
        constants: Numbers of the deterministic variables without parents.
        lagged: Numbers of the variables with a parent in an earlier time slice.
    """

    number: dict[str, int]
    parents: list[list[int]]
    children: list[list[int]]
    maps: list[bool]
    inverts: dict[int, int]
    constants: list[int]
    lagged: list[int]


class Graph:
    r"""An immutable directed acyclic graph of random, deterministic and input variables.

    It stands for the factorisation $p(v) = \prod_i p(v_i \mid \mathrm{pa}(v_i))$, in which the
    CPD of a deterministic variable is a Dirac.

    Args:
        variables: The nodes, in any order; each names its parents.
        plates: The plates that the variables may name.

    Raises:
        GraphError: A duplicate or unknown name, a cycle, an input with parents.

    Example:
        >>> g = Graph.from_edges([("z", "x")], deterministic=["x"])
        >>> g.order, g.kind("x")
        (('z', 'x'), 'implicit')
    """

    __slots__ = ("__dict__", "plates", "variables")
    variables: tuple[Variable, ...]
    plates: tuple[Plate, ...]

    def __init__(self, variables: Iterable[Variable], plates: Iterable[Plate] = ()) -> None:
        object.__setattr__(self, "variables", tuple(variables))
        object.__setattr__(self, "plates", tuple(plates))
        self._check_names()
        self._check_variables()
        _ = self.order  # a cycle is found now, not at the first query

    @classmethod
    def from_edges(  # noqa: PLR0913 - each keyword is one optional mark of the notation
        cls,
        edges: Iterable[tuple[str, str]],
        *,
        deterministic: Iterable[str] = (),
        inputs: Iterable[str] = (),
        bijective: Iterable[tuple[str, str]] = (),
        lagged: Iterable[tuple[str, str, int]] = (),
        plates: Mapping[str, Sequence[str]] | None = None,
        nodes: Iterable[str] = (),
    ) -> Graph:
        """Build a graph by hand.

        Args:
            edges: Pairs (parent, child); variables appear in the order of their first mention.
            deterministic: Variables whose CPD is a Dirac.
            inputs: Variables that are always given and have no CPD.
            bijective: Pairs (parent, child): child is a declared bijection of that parent.
            lagged: Triples (parent, child, steps): an edge from `steps` slices earlier.
            plates: `{plate: members}`, outer plates first.
            nodes: Variables without edges, or an order for all of them.

        Raises:
            GraphError: As for `Graph`, or a name in a keyword that no edge or node mentions.
        """
        edges, lagged, bijective = list(edges), list(lagged), list(bijective)
        pairs = [*edges, *bijective, *((a, b) for a, b, _ in lagged)]
        names = list(dict.fromkeys([*nodes, *(n for pair in pairs for n in pair)]))
        deterministic, inputs, plates = set(deterministic), set(inputs), plates or {}
        inverts = {child: parent for parent, child in bijective}
        mentioned = [*deterministic, *inputs, *(m for members in plates.values() for m in members)]
        for name in sorted(set(mentioned) - set(names)):
            raise GraphError(f"no edge or node mentions {name!r}{did_you_mean(name, names)}")
        parents: dict[str, dict[str, None]] = {name: {} for name in names}
        lags: dict[str, list[Lag]] = {name: [] for name in names}
        for parent, child in (*edges, *bijective):
            parents[child][parent] = None
        for parent, child, steps in lagged:
            lags[child].append(Lag(parent, steps))

        def variable(name: str) -> Variable:
            is_map = name in deterministic or name in inverts
            kind: Map = "input" if name in inputs else "deterministic" if is_map else "stochastic"
            held = tuple(p for p, members in plates.items() if name in members)
            inverse = inverts.get(name)
            return Variable(name, tuple(parents[name]), kind, inverse, held, tuple(lags[name]))

        return cls(map(variable, names), map(Plate, plates))

    # Reading

    def __getitem__(self, name: str) -> Variable:
        """Return one variable by name; an unknown name is a GraphError with a suggestion."""
        if name not in self._by_name:
            raise GraphError(f"no variable {name!r} in the graph{did_you_mean(name, self.names)}")
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All variables, in the order of declaration."""
        return tuple(v.name for v in self.variables)

    @cached_property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs (parent, child) within a time slice."""
        return tuple((p, v.name) for v in self.variables for p in v.parents)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """A topological order: the order of declaration, each variable just after its parents.

        Depth first, so that substituting a variable into its children keeps the rest in place.
        """
        order: dict[str, None] = {}
        for name in self.names:
            path = {} if name in order else {name: iter(self._by_name[name].parents)}
            while path:
                last = next(reversed(path))
                parent = next(path[last], None)
                if parent is None:
                    order[last] = None
                    del path[last]
                elif parent in path:
                    cycle = " -> ".join(
                        [parent, *takewhile(parent.__ne__, reversed(path)), parent]
                    )
                    raise GraphError(f"the graph has a cycle: {cycle}; remove an edge")
                elif parent not in order:
                    path[parent] = iter(self._by_name[parent].parents)
        return tuple(order)

    @cached_property
    def adjacency(self) -> Adjacency:
        """The graph by numbers, made once for all questions."""
        number = {name: i for i, name in enumerate(self.names)}
        parents = [[number[p] for p in v.parents] for v in self.variables]
        children: list[list[int]] = [[] for _ in parents]
        for child, above in enumerate(parents):
            for parent in above:
                children[parent].append(child)
        maps = [v.map == "deterministic" for v in self.variables]
        inverts = {number[v.name]: number[v.inverts] for v in self.variables if v.inverts}
        constants = [i for i, is_map in enumerate(maps) if is_map and not parents[i]]
        lagged = [i for i, v in enumerate(self.variables) if v.lags]
        return Adjacency(number, parents, children, maps, inverts, constants, lagged)

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the parents of a variable, in the order of its CPD."""
        return self[name].parents

    def children(self, name: str) -> tuple[str, ...]:
        """Return the children of a variable, in the order of declaration."""
        return self._children[self[name].name]

    def ancestors(self, names: Iterable[str]) -> frozenset[str]:
        """Return all proper ancestors of the given variables."""
        return self._reach(names, self.parents)

    def descendants(self, names: Iterable[str]) -> frozenset[str]:
        """Return all proper descendants of the given variables."""
        return self._reach(names, self.children)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Variables that are always given."""
        return tuple(v.name for v in self.variables if v.map == "input")

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Variables without children: what the model puts out. Inputs never count."""
        return tuple(n for n in self.names if not self._children[n] and n not in self.inputs)

    def kind(self, name: str) -> Kind:
        """Say what a variable offers, derived from the graph.

        `"prescribed"` has a density given its parents (also a declared bijection of a prescribed
        variable, by change of variables); `"implicit"` can only be sampled: a deterministic
        function of something random (Mohamed and Lakshminarayanan 2016, arXiv 1610.03483);
        `"deterministic"` is a function of inputs and constants alone.
        """
        variable = self[name]
        if variable.map == "input":
            return "input"
        if variable.map == "stochastic":
            return "prescribed"
        if not any(self[a].map == "stochastic" for a in self.ancestors([name])):
            return "deterministic"
        if variable.inverts is None:
            return "implicit"
        return "prescribed" if self._keeps_density(variable) else "implicit"

    # Rewriting: each returns a new graph

    def join(self, other: Graph) -> Graph:
        """Multiply two factorisations: an input of one may be a variable of the other.

        Raises:
            GraphError: A variable that both define, or a cycle between the two.
        """
        both = [n for n in self.names if n in other and n not in (*self.inputs, *other.inputs)]
        if both:
            raise GraphError(f"both factors define {', '.join(map(repr, both))}; one must not")
        defined = {v.name: v for g in (other, self) for v in g.variables if v.map != "input"}
        names = dict.fromkeys((*self.names, *other.names))
        plates = dict.fromkeys((*self.plates, *other.plates))
        return Graph((defined.get(n) or self._by_name.get(n) or other[n] for n in names), plates)

    def with_variables(self, *variables: Variable) -> Graph:
        """Swap variables for others of the same names.

        Raises:
            GraphError: A name that the graph has not, or a swap that leaves no graph.
        """
        swapped = {self[v.name].name: v for v in variables}
        return Graph((swapped.get(v.name, v) for v in self.variables), self.plates)

    def do(self, names: Iterable[str]) -> Graph:
        """Cut the arrows into the given variables, which become constants (Pearl's do)."""
        cut = (self[n] for n in names)
        return self.with_variables(
            *(replace(v, parents=(), map="deterministic", inverts=None, lags=()) for v in cut)
        )

    # Being a value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        def one(v: Variable) -> str:
            arrow = {"stochastic": "->", "deterministic": "=>", "input": ""}[v.map]
            past = [f"{lag.variable}[t-{lag.steps}]" for lag in v.lags]
            return f"{', '.join([*v.parents, *past])} {arrow} {v.name}".strip()

        return f"Graph({'; '.join(one(v) for v in self.variables)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Graph is immutable; build a new one instead of setting {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return Graph, (self.variables, self.plates)

    @cached_property
    def _key(self) -> tuple[object, ...]:
        return frozenset(v.key for v in self.variables), frozenset(self.plates)

    @cached_property
    def _by_name(self) -> dict[str, Variable]:
        return {v.name: v for v in self.variables}

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        children: dict[str, list[str]] = {name: [] for name in self.names}
        for parent, child in self.edges:
            children[parent].append(child)
        return {name: tuple(kids) for name, kids in children.items()}

    def _keeps_density(self, variable: Variable) -> bool:
        """Whether bijections alone lead back to a random variable that nothing else leads to."""
        beside: list[str] = []
        chain: set[str] = set()
        while variable.inverts is not None:
            beside += [p for p in variable.parents if p != variable.inverts]
            chain.add(variable.inverts)
            variable = self[variable.inverts]
        return variable.map == "stochastic" and not chain & {*beside, *self.ancestors(beside)}

    def _reach(
        self, names: Iterable[str], step: Callable[[str], tuple[str, ...]]
    ) -> frozenset[str]:
        seen: set[str] = set()
        frontier = [self[n].name for n in names]
        while frontier:
            for name in step(frontier.pop()):
                if name not in seen:
                    seen.add(name)
                    frontier.append(name)
        return frozenset(seen)

    def _check_names(self) -> None:
        for what, names in (("variable", self.names), ("plate", [p.name for p in self.plates])):
            for name, count in Counter(names).items():
                if count > 1:
                    raise GraphError(f"{what} {name!r} is declared {count} times, not once")

    def _check_variables(self) -> None:
        plates = [p.name for p in self.plates]
        for v in self.variables:
            for parent in (*v.parents, *(lag.variable for lag in v.lags)):
                if parent not in self._by_name:
                    hint = did_you_mean(parent, self.names)
                    raise GraphError(f"{v.name!r} has the unknown parent {parent!r}{hint}")
            for plate in v.plates:
                if plate not in plates:
                    hint = did_you_mean(plate, plates)
                    raise GraphError(f"{v.name!r} is in the unknown plate {plate!r}{hint}")
            if v.map == "input" and (v.parents or v.lags):
                raise GraphError(f"{v.name!r} is an input, so it cannot have parents: {v.parents}")
            if v.inverts is not None and (v.map != "deterministic" or v.inverts not in v.parents):
                raise GraphError(f"{v.name!r} can only invert a parent, not {v.inverts!r}")


class HasGraph(Protocol):
    """What is read as a graph by every structural question: a model, a joint, an import."""

    @property
    def graph(self) -> Graph:
        """The graph."""
        ...


def graph_of(thing: Graph | HasGraph) -> Graph:
    """Return a graph itself, or that of a model.

    Raises:
        TypeError: Neither a graph nor something that has one.

    Example:
        >>> graph_of(Graph.from_edges([("z", "x")])).names
        ('z', 'x')
    """
    graph = thing if isinstance(thing, Graph) else getattr(thing, "graph", None)
    if not isinstance(graph, Graph):
        raise TypeError(f"expected a Graph or a Model, not {thing!r}")
    return graph
