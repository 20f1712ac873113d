r"""Augmented graphs: variables, real or fake, and the two processes that link them.

In the notation of Hu, Yang, Salakhutdinov and Xing (2018, arXiv 1706.00550) what a cost draws
from is the inference process (dashed), and what it scores is the generative one (solid). An
indicator y says where x comes from, 1 real and 0 fake; a discriminator is a conditional of y.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

from daguerre.draw.labels import label, plate_label
from daguerre.draw.notation import Arrow, Figure, Frame, Node, ago, with_caption
from daguerre.graph import Graph, GraphError, Lag, Plate, did_you_mean

__all__ = ["Augmented", "Conditional", "swap"]

_SPACED = r",\; "
_ROLES = {r"q_\phi": "q_*", "q_*": r"q_\phi"}


@final
@dataclass(frozen=True)
class Conditional:
    r"""One distribution of an augmented graph: a child given its parents.

    Attributes:
        child: The variable.
        parents: What it depends on.
        symbol: LaTeX of the distribution: `p_\theta`, `q_\eta`, the discriminator `q_\phi`, or
            `q_*`, the perfect one, which is told where each example comes from.
        inference: Whether it belongs to the inference process.
        through: Parents of which the child is a function, which makes the distribution implicit;
            those of earlier time slices too.
        adversarial: Whether it is used together with its reverse.
        lags: Parents in earlier time slices.
    """

    child: str
    parents: frozenset[str]
    symbol: str
    inference: bool = False
    through: frozenset[str] = frozenset()
    adversarial: bool = False
    lags: frozenset[Lag] = frozenset()

    @property
    def arrows(self) -> frozenset[Arrow]:
        """One arrow from each parent; from one of an earlier time slice, with its time."""
        times = [
            *((p, "") for p in self.parents),
            *((g.variable, ago(g.steps)) for g in self.lags),
        ]
        return frozenset(
            Arrow(p, self.child, self.inference, p in self.through, self.adversarial, time)
            for p, time in times
        )

    def latex(self, times: Collection[str] = ()) -> str:
        r"""Return `p_\theta(x \mid y)`; what the child is a function of is left out.

        Args:
            times: The variables of which there is one in each time slice.
        """
        now = "t" if self.child in times else "1:T"
        names = [label(n, [now] * (n in times)) for n in sorted(self.parents - self.through)]
        random = sorted((g.variable, g.steps) for g in self.lags if g.variable not in self.through)
        given = ", ".join([*names, *(label(n, [f"t{-steps:+d}"]) for n, steps in random)])
        symbol = f"{self.symbol}^{{(r)}}" if self.adversarial else self.symbol
        bar = rf" \mid {given}" if given else ""
        return f"{symbol}({label(self.child, [now] * (self.child in times))}{bar})"

    def __str__(self) -> str:
        past = {f"{g.variable}[{ago(g.steps).replace(' ', '')}]": g.variable for g in self.lags}
        every = {**{p: p for p in self.parents}, **past}
        rest, through = (
            ", ".join(sorted(words for words, n in every.items() if (n in self.through) == is_map))
            for is_map in (False, True)
        )
        mark = " (adversarial)" if self.adversarial else ""
        if not rest:
            return f"{through} => {self.child}{mark}"
        return f"{rest} -> {self.child}{f' <= {through}' if through else ''}{mark}"


@final
@dataclass(frozen=True, repr=False)
class Augmented:
    r"""The augmented graph of a cost; two are equal where their conditionals are.

    Attributes:
        conditionals: The distributions of both processes.
        indicators: The variables that say what is real.
        times: The variables of which there is one in each time slice.
        plates: Each plate with what it repeats; a picture shows them, equality does not ask.

    Example:
        >>> y_to_x = Conditional("x", frozenset("zy"), r"p_\theta", True, frozenset("z"))
        >>> x_to_y = Conditional("y", frozenset("x"), r"q_\phi", adversarial=True)
        >>> gan = Augmented(frozenset({y_to_x, x_to_y}), frozenset("y"))
        >>> gan
        Augmented(inference: y -> x <= z | generation: x -> y (adversarial))
        >>> swap(swap(gan)) == gan
        True
    """

    conditionals: frozenset[Conditional]
    indicators: frozenset[str]
    times: frozenset[str] = frozenset()
    plates: tuple[tuple[Plate, frozenset[str]], ...] = field(default=(), compare=False)

    @property
    def variables(self) -> frozenset[str]:
        """The variables, the indicators among them."""
        past = {lag.variable for c in self.conditionals for lag in c.lags}
        return frozenset(n for c in self.conditionals for n in (c.child, *c.parents)) | past

    @property
    def arrows(self) -> frozenset[Arrow]:
        """All arrows with their three marks."""
        return frozenset(arrow for c in self.conditionals for arrow in c.arrows)

    @property
    def visible(self) -> frozenset[str]:
        """What inference starts from: variables that it does not infer."""
        return self.variables - {c.child for c in self.conditionals if c.inference}

    def edges(self, *, inference: bool) -> frozenset[tuple[str, str]]:
        """Return pairs (parent, child) of one process, in one time slice."""
        process = (c for c in self.conditionals if c.inference == inference)
        return frozenset((p, c.child) for c in process for p in c.parents)

    def graph(self, *, inference: bool = False) -> Graph:
        """Return one process as a graph, the generative one by default.

        Raises:
            GraphError: It has a cycle, as that of models that play to and fro.
        """
        process = (c for c in self.conditionals if c.inference == inference)
        past = {(lag.variable, c.child, lag.steps) for c in process for lag in c.lags}
        edges, nodes = sorted(self.edges(inference=inference)), sorted(self.variables)
        return Graph.from_edges(edges, nodes=nodes, lagged=sorted(past))

    def renamed(self, names: Mapping[str, str]) -> Augmented:
        """Return the same graph over other names; two variables may become one.

        Raises:
            GraphError: A name that the graph has not.
        """
        for name in names:
            if name not in self.variables:
                hint = did_you_mean(name, sorted(self.variables))
                raise GraphError(f"no variable {name!r} in the augmented graph{hint}")

        def new(old: Iterable[str]) -> frozenset[str]:
            return frozenset(names.get(n, n) for n in old)

        moved = (
            replace(
                c,
                child=names.get(c.child, c.child),
                parents=new(c.parents),
                through=new(c.through),
                lags=frozenset(Lag(names.get(g.variable, g.variable), g.steps) for g in c.lags),
            )
            for c in self.conditionals
        )
        plates = tuple((plate, new(held)) for plate, held in self.plates)
        return Augmented(frozenset(moved), new(self.indicators), new(self.times), plates)

    def figure(self) -> Figure:
        """Return what is to be drawn: dashed inference, hollow maps, blue adversaries, plates."""
        visible, last = self.visible, self.indicators
        names = sorted(self.variables, key=lambda n: (n in last, n not in visible, n))
        nodes = (Node(n, label(n), observed=n in visible) for n in names)
        named = {self._bearer(c): c.latex(self.times) for c in _sorted(self.conditionals)}
        arrows = dict.fromkeys(
            arrow
            for c in _sorted(self.conditionals)
            for arrow in sorted(c.arrows, key=lambda a: (a.source, a.label))
        )
        shown = (replace(arrow, label=named.get(arrow, arrow.label)) for arrow in arrows)
        return with_caption(Figure(tuple(nodes), tuple(shown), self._frames(names)), self.latex())

    def _frames(self, names: Iterable[str]) -> tuple[Frame, ...]:
        """Return the plates that hold something here, their members in the order of the nodes."""
        held = ((plate, tuple(n for n in names if n in own)) for plate, own in self.plates)
        return tuple(Frame(p.name, plate_label(p), own) for p, own in held if own)

    def _bearer(self, conditional: Conditional) -> Arrow | None:
        """Choose the least crowded arrow for the name of a distribution; times leave no room."""
        pairs = Counter(frozenset((a.source, a.target)) for a in self.arrows)

        def crowd(arrow: Arrow) -> tuple[int, bool, str]:
            source = arrow.source
            return pairs[frozenset((source, arrow.target))], source in self.indicators, source

        return min((a for a in conditional.arrows if not a.label), key=crowd, default=None)

    def latex(self) -> str:
        """Return the distributions in LaTeX, a line for each process."""
        lines = []
        for name, inference in (("inference", True), ("generation", False)):
            laws = (
                c.latex(self.times) for c in _sorted(self.conditionals) if c.inference == inference
            )
            own = dict.fromkeys(laws)  # two maps may make one distribution
            lines.append(rf"\text{{{name}: }} & {_SPACED.join(own) or '-'}")
        body = r" \\ ".join(lines)
        return rf"\begin{{aligned}}{body}\end{{aligned}}"

    def __repr__(self) -> str:
        def process(name: str, *, inference: bool) -> str:
            own = [str(c) for c in _sorted(self.conditionals) if c.inference == inference]
            return f"{name}: {'; '.join(own) or 'none'}"

        both = (process("inference", inference=True), process("generation", inference=False))
        return f"Augmented({' | '.join(both)})"


def swap(graph: Augmented) -> Augmented:
    r"""Exchange generation and inference, and the learned discriminator with the perfect one.

    From InfoGAN's graph it makes that of a VAE. Hollow marks stay, since they tell of a map and
    not of a process: a VAE has none because its cost asks for the density of x.

    References:
        Hu et al. (2018, arXiv 1706.00550), figure 1.
    """
    turned = (
        replace(
            c,
            inference=not c.inference,
            symbol=_ROLES.get(c.symbol, c.symbol) if c.adversarial else c.symbol,
        )
        for c in graph.conditionals
    )
    return replace(graph, conditionals=frozenset(turned))


def _sorted(conditionals: Iterable[Conditional]) -> list[Conditional]:
    return sorted(conditionals, key=lambda c: (not c.inference, c.child, sorted(c.parents)))
