r"""A graph as formulas: the factorisation of its joint density, and the maps without one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from daguerre.draw.labels import index, label
from daguerre.draw.products import Range, groups, nested
from daguerre.graph import Graph, GraphError, Plate, Variable
from daguerre.structure.recurrence import temporal

__all__ = ["factor", "factorisation", "marginal"]

_TIME = "t"


def factorisation(
    graph: Graph, *, symbol: str = "p", parameters: str = r"\theta", dirac: bool = False
) -> str:
    r"""Write a model in LaTeX: $p_\theta(x, z) = p(z)\,p_\theta(x \mid z)$.

    Factors stand in topological order, roots first and without parameters. Plates become
    products, nested as the plates are; crossing plates one product over both indices. In a graph
    with lags each variable is one of each time slice, and a chain begins where its lags do:
    $p(z_1) \prod_{t=2}^T p_\theta(z_t \mid z_{t-1})$.

    A deterministic variable is a statement $h = f_\theta(z)$, a declared bijection $x = T(z)$.
    Where no output has a density, nothing pretends that it has:
    $z \sim p(z),\quad x = f_\theta(z)$.

    Args:
        graph: The model.
        symbol: LaTeX of its distribution.
        parameters: LaTeX of its parameters, or nothing.
        dirac: Write maps as factors $\delta(h - f_\theta(z))$ of the joint instead.

    Raises:
        GraphError: An empty graph.

    Example:
        >>> print(factorisation(Graph.from_edges([("z", "x")])))
        p_\theta(x, z) = p(z)\,p_\theta(x \mid z)
        >>> gan = Graph.from_edges([("z", "x")], deterministic=["x"])
        >>> print(factorisation(gan))
        z \sim p(z),\quad x = f_\theta(z)
        >>> print(factorisation(gan, dirac=True))
        p_\theta(x, z) = p(z)\,\delta(x - f_\theta(z))
    """
    words = _words(graph, symbol, parameters)
    names = [n for n in graph.order if graph[n].map != "input"]
    maps = [n for n in names if graph[n].map == "deterministic"]
    scored = [n for n in names if n not in maps or (dirac and words.is_function(n))]
    stated = [words.statement(n) for n in maps if n not in scored]
    if scored and (dirac or any(graph.kind(n) == "prescribed" for n in graph.leaves)):
        joint, product = words.joint(scored), words.product(scored)
        if joint != product:
            return _listed([f"{joint} = {product}", *stated])
        if not stated:
            return joint
    return _listed([*(words.draw(n) for n in names if n not in maps), *stated])


def marginal(
    graph: Graph,
    names: Iterable[str],
    *,
    finite: Collection[str] = (),
    symbol: str = "p",
    parameters: str = r"\theta",
) -> str:
    r"""Write the density of some variables: $p_\theta(x) = \int p(z)\,p_\theta(x \mid z)\,dz$.

    What the kept variables do not depend on has been integrated to one and is left out. A kept
    variable without a density is written as what it is, a map of what is drawn.

    Args:
        graph: The model.
        names: The variables that are kept.
        finite: Those with finitely many values, which are summed over.
        symbol: LaTeX of the distribution.
        parameters: LaTeX of its parameters, or nothing.

    Raises:
        GraphError: No name, or one that is unknown.

    Example:
        >>> mixture = Graph.from_edges([("y", "x"), ("z", "x")])
        >>> print(marginal(mixture, ["x"], finite=["y"]))
        p_\theta(x) = \sum_{y} \int p(y)\,p(z)\,p_\theta(x \mid y, z)\,\mathrm{d}z
    """
    kept = {graph[name].name for name in names if graph[name].map != "input"}
    if not kept:
        raise GraphError("a marginal needs at least one variable to keep")
    part = _part(graph, kept)
    if any(part[n].map == "deterministic" for n in kept):
        return factorisation(part, symbol=symbol, parameters=parameters)
    words = _words(part, symbol, parameters)
    random = [n for n in part.order if part[n].map == "stochastic"]
    hidden = [n for n in random if n not in kept]
    summed = ", ".join(label(n) for n in hidden if n in finite)
    measures = "".join(rf"\,\mathrm{{d}}{label(n)}" for n in hidden if n not in finite)
    signs = rf"\sum_{{{summed}}} " * bool(summed) + r"\int " * bool(measures)
    joint = words.joint([n for n in random if n in kept])
    product = f"{signs}{words.product(random)}{measures}"
    maps = [words.statement(n) for n in part.order if part[n].map == "deterministic"]
    return _listed([joint if joint == product else f"{joint} = {product}", *maps])


def factor(graph: Graph, name: str, *, symbol: str = "p", parameters: str = r"\theta") -> str:
    r"""Write the own factor of one variable, as it stands in the factorisation.

    Args:
        graph: The model.
        name: The variable.
        symbol: LaTeX of the distribution.
        parameters: LaTeX of its parameters, or nothing.

    Returns:
        LaTeX of its conditional density, of its map, or of an input alone.

    Raises:
        GraphError: An unknown name.

    Example:
        >>> graph = Graph.from_edges([("z", "h"), ("h", "x")], deterministic=["h"])
        >>> [factor(graph, name) for name in graph.names]
        ['p(z)', 'h = f_\\theta(z)', 'p_\\theta(x \\mid h)']
    """
    words = _words(graph, symbol, parameters)
    if graph[name].map == "input":
        return words.name(name)
    is_random = graph[name].map == "stochastic"
    return words.density(graph[name]) if is_random else words.statement(name)


@dataclass(frozen=True)
class _Words:
    graph: Graph
    symbol: str
    parameters: str

    def joint(self, names: Sequence[str]) -> str:
        """Write the left-hand side: leaves first, inputs behind the bar."""
        inputs = ", ".join(map(label, self.graph.inputs))
        left = ", ".join(map(label, reversed(names)))
        learned = any(self._given(self.graph[name]) for name in names)
        return f"{self._p(learned=learned)}({left}{_bar(inputs)})"

    def product(self, names: Iterable[str]) -> str:
        """Write the factors, those in plates as products after those outside."""
        return nested([pair for name in names for pair in self._factors(self.graph[name])])

    def draw(self, name: str) -> str:
        """Write how one random variable is drawn."""
        return rf"{self.name(name)} \sim {self.density(self.graph[name])}"

    def density(self, variable: Variable, time: str = _TIME) -> str:
        """Write the density of a variable given its parents, in one time slice."""
        given = self._given(variable, time)
        name = self.name(variable.name, time)
        return f"{self._p(learned=bool(given))}({name}{_bar(given)})"

    def statement(self, name: str) -> str:
        """Write a deterministic variable as a function of its parents."""
        return f"{self.name(name)} = {self._value(self.graph[name])}"

    def name(self, name: str, time: str = _TIME, within: Collection[str] | None = None) -> str:
        """Write a variable with its indices; of plates that it is not within, all at once."""
        bound = self._plates if within is None else within
        indices = [index(p) if p.name in bound else _all(p) for p in self._beside_time(name)]
        return label(name, [*indices, time] if name in self._in_time else indices)

    def is_function(self, name: str) -> bool:
        """Say whether a deterministic variable depends on anything."""
        return bool(self._given(self.graph[name]))

    def _factors(self, variable: Variable) -> Iterator[tuple[list[Range], str]]:
        """Write each factor of a variable with its ranges: in a chain, slices that lack lags."""
        if variable.map == "deterministic":
            whole = Range(f"{_TIME}=1", "T") if variable.name in self._in_time else None
            value = rf"\delta({self.name(variable.name)} - {self._value(variable)})"
            yield self._ranges(variable, whole), value
        elif variable.name not in self._in_time:
            yield self._ranges(variable, None), self.density(variable)
        else:
            ends = sorted({lag.steps for lag in variable.lags if lag.steps > 0})
            for before, last in zip([0, *ends], [*ends, None], strict=True):
                known = tuple(lag for lag in variable.lags if lag.steps <= before)
                own, first = replace(variable, lags=known), before + 1
                over = Range(f"{_TIME}={first}", str(last or "T")) if first != last else None
                yield self._ranges(variable, over), self.density(own, _TIME if over else f"{last}")

    def _ranges(self, variable: Variable, time: Range | None) -> list[Range]:
        """List the products around a variable, outermost first."""
        own = {plate.name: _range(plate) for plate in self._beside_time(variable.name)}
        if time:
            own[""] = time
        return [Range.over(own[name] for name in g) for g in groups([*own], self._members)]

    def _value(self, variable: Variable) -> str:
        given = self._given(variable)
        if variable.inverts is not None:
            return f"T({given})"
        mark = self._marks.get(variable.name, "")
        return f"f{self.parameters}{mark}({given})" if given else r"\mathrm{const}"

    def _p(self, *, learned: bool) -> str:
        return self.symbol + self.parameters * learned

    def _given(self, variable: Variable, time: str = _TIME) -> str:
        """List the parents, those of earlier time slices last."""
        times = [(parent, time) for parent in variable.parents]
        times += [(lag.variable, _earlier(time, lag.steps)) for lag in variable.lags]
        return ", ".join(self.name(*pair, within=variable.plates) for pair in times)

    @cached_property
    def _marks(self) -> dict[str, str]:
        """Number the functions where there are several."""
        maps = (self.graph[n] for n in self.graph.order if self.graph[n].map == "deterministic")
        names = [v.name for v in maps if v.inverts is None and (v.parents or v.lags)]
        return {n: f"^{{({i})}}" for i, n in enumerate(names, 1)} if names[1:] else {}

    @cached_property
    def _plates(self) -> dict[str, Plate]:
        return {plate.name: plate for plate in self.graph.plates}

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        """What each plate holds; time is the nameless one."""
        everything = self.graph.variables
        held = {p: [v.name for v in everything if p in v.plates] for p in self._plates}
        return {**held, "": [name for name in self.graph.names if name in self._in_time]}

    @cached_property
    def _in_time(self) -> frozenset[str]:
        """The variables of which there is one in each time slice."""
        if not any(variable.lags for variable in self.graph.variables):
            return frozenset()
        return temporal(self.graph)

    def _beside_time(self, name: str) -> list[Plate]:
        """List the plates of a variable; one that is called t in a chain is time itself."""
        plates = [self._plates[plate] for plate in self.graph[name].plates]
        return [p for p in plates if name not in self._in_time or index(p) != _TIME]


def _words(graph: Graph, symbol: str, parameters: str) -> _Words:
    if not graph.variables:
        raise GraphError("an empty graph has no factorisation: it has no variables")
    return _Words(graph, symbol, rf"_{_group(parameters)}" if parameters else "")


def _part(graph: Graph, names: Iterable[str]) -> Graph:
    """Return what some variables depend on, earlier slices included."""
    needed, frontier = set[str](), list(names)
    while frontier:
        name = frontier.pop()
        if name not in needed:
            needed.add(name)
            frontier += [*graph.parents(name), *(lag.variable for lag in graph[name].lags)]
    return Graph((v for v in graph.variables if v.name in needed), graph.plates)


def _range(plate: Plate) -> Range:
    if len(plate.name) == 1 and plate.name.isalpha():
        return Range(f"{index(plate)}=1", str(plate.size or label(plate.name.upper())))
    return Range(index(plate))


def _all(plate: Plate) -> str:
    over = _range(plate)
    return f"1:{over.above}" if over.above else r"\cdot"


def _earlier(time: str, steps: int) -> str:
    return str(int(time) - steps) if time.isdigit() else f"{time}{-steps:+d}"


def _bar(given: str) -> str:
    return rf" \mid {given}" if given else ""


def _group(latex: str) -> str:
    is_one = len(latex) == 1 or (latex[0] == "\\" and latex[1:].isalpha())
    return latex if is_one else f"{{{latex}}}"


def _listed(statements: Iterable[str]) -> str:
    return r",\quad ".join(statements)
