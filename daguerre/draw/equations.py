r"""A graph as formulas: the factorisation of its joint density, and the maps without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from daguerre.draw.labels import index, label
from daguerre.graph import Graph, GraphError, Plate

__all__ = ["factor", "factorisation"]

_TIME = "t"


def factorisation(graph: Graph, *, symbol: str = "p", parameters: str = r"\theta") -> str:
    r"""Write a model in LaTeX: $p_\theta(x, z) = p(z)\,p_\theta(x \mid z)$.

    Factors stand in topological order, roots first and without parameters; plates become
    products, time slices a product over t. A deterministic variable is a statement
    $h = f_\theta(z)$, a declared bijection $x = T(z)$. Where no output has a density, nothing
    pretends that it has: $z \sim p(z),\quad x = f_\theta(z)$.

    Args:
        graph: The model.
        symbol: LaTeX of its distribution.
        parameters: LaTeX of its parameters, or nothing.

    Raises:
        GraphError: An empty graph.

    Example:
        >>> print(factorisation(Graph.from_edges([("z", "x")])))
        p_\theta(x, z) = p(z)\,p_\theta(x \mid z)
        >>> print(factorisation(Graph.from_edges([("z", "x")], deterministic=["x"])))
        z \sim p(z),\quad x = f_\theta(z)
    """
    if not graph.variables:
        raise GraphError("an empty graph has no factorisation: it has no variables")
    words = _Words(graph, symbol, rf"_{_group(parameters)}" if parameters else "")
    random = [n for n in graph.order if graph[n].map == "stochastic"]
    maps = words.maps([n for n in graph.order if graph[n].map == "deterministic"]).values()
    if random and any(graph.kind(n) == "prescribed" for n in graph.leaves):
        joint, product = words.joint(random), words.product(random)
        if joint != product:
            return _listed([f"{joint} = {product}", *maps])
        if not maps:
            return joint
    return _listed([*map(words.draw, random), *maps])


def factor(graph: Graph, name: str, *, symbol: str = "p", parameters: str = r"\theta") -> str:
    r"""Write what one variable brings to a model: its density, or its map.

    Args:
        graph: The model.
        name: The variable; an input brings nothing.
        symbol: LaTeX of the distribution.
        parameters: LaTeX of its parameters, or nothing.

    Raises:
        GraphError: A name that the graph has not.

    Example:
        >>> g = Graph.from_edges([("z", "h"), ("h", "x")], deterministic=["h"])
        >>> print(factor(g, "h"), factor(g, "x"))
        h = f_\theta(z) p_\theta(x \mid h)
    """
    words = _Words(graph, symbol, rf"_{_group(parameters)}" if parameters else "")
    if graph[name].map == "deterministic":
        return words.maps([n for n in graph.order if graph[n].map == "deterministic"])[name]
    return "" if graph[name].map == "input" else words.density(name)


@dataclass(frozen=True)
class _Words:
    graph: Graph
    symbol: str
    parameters: str

    def joint(self, random: Sequence[str]) -> str:
        """Write the left-hand side: leaves first, inputs behind the bar."""
        inputs = ", ".join(map(label, self.graph.inputs))
        names = ", ".join(map(label, reversed(random)))
        return rf"{self._p(learned=any(map(self._given, random)))}({names}{_bar(inputs)})"

    def product(self, random: Sequence[str]) -> str:
        """Write the factors, those in plates as products after those outside."""
        return _nested([(self._ranges(name), self.density(name)) for name in random])

    def draw(self, name: str) -> str:
        """Write how one random variable is drawn."""
        return rf"{self._name(name)} \sim {self.density(name)}"

    def maps(self, names: Sequence[str]) -> dict[str, str]:
        """Write each deterministic variable as a function of its parents, numbered if several."""
        functions = [n for n in names if self.graph[n].inverts is None and self._given(n)]
        marks = {n: f"^{{({i})}}" for i, n in enumerate(functions, 1)} if functions[1:] else {}
        return {n: f"{self._name(n)} = {self._value(n, marks.get(n, ''))}" for n in names}

    def _value(self, name: str, mark: str) -> str:
        given = self._given(name)
        if self.graph[name].inverts is not None:
            return f"T({given})"
        return f"f{self.parameters}{mark}({given})" if given else r"\mathrm{const}"

    def density(self, name: str) -> str:
        """Write the conditional density of one random variable."""
        given = self._given(name)
        return f"{self._p(learned=bool(given))}({self._name(name)}{_bar(given)})"

    def _p(self, *, learned: bool) -> str:
        return self.symbol + self.parameters * learned

    def _given(self, name: str) -> str:
        """List the parents, those of earlier time slices last."""
        variable = self.graph[name]
        past = (self._name(lag.variable, f"{_TIME}-{lag.steps}") for lag in variable.lags)
        return ", ".join([*map(self._name, variable.parents), *past])

    def _name(self, name: str, time: str = _TIME) -> str:
        indices = [index(plate) for plate in self._plates(name)]
        if name in self._temporal:
            indices = [*(i for i in indices if i != _TIME), time]
        return label(name, indices)

    def _ranges(self, name: str) -> tuple[str, ...]:
        ranges = tuple(map(_range, self._plates(name)))
        steps = _range(Plate(_TIME))
        return (*ranges, steps) if name in self._temporal and steps not in ranges else ranges

    def _plates(self, name: str) -> list[Plate]:
        known = {plate.name: plate for plate in self.graph.plates}
        return [known[plate] for plate in self.graph[name].plates]

    @cached_property
    def _temporal(self) -> frozenset[str]:
        """The variables that have a value in each time slice: chains, and what follows them."""
        lagged = {v.name for v in self.graph.variables if v.lags}
        chains = lagged | {lag.variable for v in self.graph.variables for lag in v.lags}
        return frozenset(chains) | self.graph.descendants(chains)


def _nested(factors: Sequence[tuple[tuple[str, ...], str]]) -> str:
    pieces = [factor for ranges, factor in factors if not ranges]
    inner: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for ranges, factor in factors:
        if ranges:
            inner.setdefault(ranges[0], []).append((ranges[1:], factor))
    for i, (first, rest) in enumerate(inner.items(), 1):
        body = _nested(rest)
        if len(rest) > 1 and i < len(inner):  # what follows would read as inside
            body = rf"\left[{body}\right]"
        pieces.append(rf"\prod_{first} {body}")
    return r"\,".join(pieces)


def _range(plate: Plate) -> str:
    if len(plate.name) == 1 and plate.name.isalpha():
        return rf"{{{index(plate)}=1}}^{{{plate.size or label(plate.name.upper())}}}"
    return f"{{{index(plate)}}}"


def _bar(given: str) -> str:
    return rf" \mid {given}" if given else ""


def _group(latex: str) -> str:
    is_one = len(latex) == 1 or (latex[0] == "\\" and latex[1:].isalpha())
    return latex if is_one else f"{{{latex}}}"


def _listed(statements: Iterable[str]) -> str:
    return r",\quad ".join(statements)
