r"""What a picture of a model says: nodes, arrows with three independent flags, boxes, a cost.

The notation follows Hu, Yang, Salakhutdinov and Xing (2018, arXiv 1706.00550):

| flag | values | drawn as |
|---|---|---|
| `inference` | generation / inference | solid / dashed line |
| `deterministic` | density / deterministic map | filled / hollow head |
| `adversarial` | no / used with its reverse | black / blue |

A figure holds no geometry; `daguerre.draw.layout` places it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from daguerre.draw.labels import index, is_word, label, path, plate_label, word
from daguerre.draw.scopes import Scope, scopes, short
from daguerre.graph import Graph, GraphError, Variable, did_you_mean

__all__ = [
    "Arrow",
    "Figure",
    "Frame",
    "Node",
    "Shape",
    "ago",
    "figure",
    "named",
    "with_caption",
    "with_critic",
    "with_double_outlines",
    "with_inference",
    "with_labels",
    "with_laws",
]

_MOST_LAWS = 6

Shape = Literal[
    "random", "deterministic", "double", "module", "constant", "dot", "factor", "critic"
]


@dataclass(frozen=True, slots=True)
class Node:
    """One variable.

    Attributes:
        name: What arrows and frames call it; unique in its figure.
        label: LaTeX.
        shape: `"random"` is a circle, `"deterministic"` a diamond, `"double"` the circle with a
            double outline that some prefer to it, `"module"` a box with a double outline (a
            deterministic map too, named by a word), `"constant"` (also an input) bare type,
            `"dot"` a constant as a dot with its name beside, `"factor"` a small filled square
            with its name beside, `"critic"` the small circle of what a discriminator tells.
        observed: Whether the node is shaded.
        partial: Whether only its lower half is: some rows of the data lack it.
        kind: What computes it, such as `"Linear(in_features=2, out_features=2)"`, where that is
            known. Blocks of a net are equal only if their kinds are.
    """

    name: str
    label: str
    shape: Shape = "random"
    observed: bool = False
    partial: bool = False
    kind: str = ""

    @property
    def is_named_beside(self) -> bool:
        """Whether the node is too small for its label, which stands next to it."""
        return self.shape in ("factor", "dot")


@dataclass(frozen=True, slots=True)
class Arrow:
    """One conditional, from a parent to its child; two nodes may share several.

    Attributes:
        source: Name of the parent.
        target: Name of the child.
        inference: Dashed: part of an inference process.
        deterministic: Hollow head: the child is a function of its parents.
        adversarial: Blue: used together with its reverse.
        label: LaTeX beside the arrow, or nothing.
        undirected: No head: a line between a factor and one of its variables.
        level: It runs along a row, as from one time slice to the next.
    """

    source: str
    target: str
    inference: bool = False
    deterministic: bool = False
    adversarial: bool = False
    label: str = ""
    undirected: bool = False
    level: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A box around some nodes: a plate of what is repeated together, or a scope of a net.

    Attributes:
        name: The plate, or the dotted path of the module.
        label: LaTeX; the count of a plate at its lower right, a scope's name at its upper left.
        members: Names of the nodes inside.
        scope: Whether it is a scope, which is tinted and says nothing of repetition.
        repeats: How many equal blocks of a net in a row the scope stands for.
        kind: What module a scope is, as for nodes.
    """

    name: str
    label: str
    members: tuple[str, ...]
    scope: bool = False
    repeats: int = 1
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture before it is laid out.

    Attributes:
        nodes: The variables, unique by name.
        arrows: The conditionals.
        frames: The plates and scopes.
        title: Plain text above the picture.
        caption: LaTeX of the cost, set under the picture.
        graph: The model of which independence and factors are asked, where there is one.

    Raises:
        GraphError: No node, a name twice, an arrow or a frame that names an unknown node,
            a frame without members.
    """

    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...] = ()
    frames: tuple[Frame, ...] = ()
    title: str = ""
    caption: str = ""
    graph: Graph | None = None

    def __post_init__(self) -> None:
        if not self.nodes:
            raise GraphError("a figure needs at least one node: the graph has no variables")
        names = Counter(node.name for node in self.nodes)
        for name, count in names.items():
            if count > 1:
                raise GraphError(f"node {name!r} is in the figure twice; names are unique")
        for arrow in self.arrows:
            _check_known((arrow.source, arrow.target), names, "an arrow")
        for frame in self.frames:
            what = f"the {'scope' if frame.scope else 'plate'} {frame.name!r}"
            if not frame.members:
                raise GraphError(f"{what} has no members; leave it out")
            _check_known(frame.members, names, what)

    def __contains__(self, name: object) -> bool:
        return any(node.name == name for node in self.nodes)


def figure(
    graph: Graph,
    *,
    observed: Iterable[str] = (),
    partial: Iterable[str] = (),
    kinds: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    r"""Picture a model: solid arrows, hollow heads into deterministic variables, plates as frames.

    Dotted names, as an imported net has them, become scopes: `layer1.0.conv1` is a node `conv1`
    in a box `0` in a box `layer1`, wherever such a box makes the picture clearer. The k-th further
    call of a shared module, `fc@k`, is marked by its number, so `fc@1` reads
    $\mathrm{fc}^{(2)}$. A deterministic variable that is named by a word is a box, one that is
    named by a letter a diamond.

    Args:
        graph: The model.
        observed: Names of the variables to shade.
        partial: Names of those to shade by half: some rows of the data lack them.
        kinds: What computes the variables and scopes of a net, where that is known; what is named
            by a number alone then shows it, up to the first bracket.
        title: Plain text above the picture.

    Raises:
        GraphError: An empty graph, or an observed name that it does not have.

    Example:
        >>> gan = figure(Graph.from_edges([("z", "x")], deterministic=["x"]), observed=["x"])
        >>> gan.arrows[0] == Arrow("z", "x", deterministic=True)
        True
        >>> mlp = figure(Graph.from_edges([("x", "net.0"), ("net.0", "net.1")]))
        >>> [node.label for node in mlp.nodes], mlp.frames[0].name
        (['x', '\\mathrm{0}', '\\mathrm{1}'], 'net')
    """
    half = {graph[name].name for name in partial}
    shaded = {graph[name].name for name in observed} - half
    inner = scopes(graph)
    kinds = kinds or {}
    nodes = (
        replace(n, observed=n.name in shaded, partial=n.name in half)
        for n in _nodes(graph, inner, kinds)
    )
    held = {
        p.name: tuple(v.name for v in graph.variables if p.name in v.plates) for p in graph.plates
    }
    plates = (Frame(p.name, plate_label(p), held[p.name]) for p in graph.plates if held[p.name])
    boxes = (
        Frame(s.path, word(s.title), s.members, scope=True, kind=kinds.get(s.path, ""))
        for s in inner
    )
    return Figure(tuple(nodes), tuple(_arrows(graph)), (*plates, *boxes), title, graph=graph)


def named(name: str, kind: str = "", indices: Iterable[str] = ()) -> str:
    r"""Write what a module is called, and what it is where a number alone says nothing.

    Example:
        >>> named("conv1", "Conv2d(3, 8)"), named("0", "Conv2d(3, 8)")
        ('\\mathrm{conv1}', '\\mathrm{0}\\ \\mathrm{Conv2d}')
    """
    is_number = path(name)[-1].partition("@")[0].isdigit()
    latex = word(name, indices)
    return rf"{latex}\ {word(kind.partition('(')[0])}" if kind and is_number else latex


def with_inference(figure: Figure, graph: Graph) -> Figure:
    """Add the arrows of an inference model, dashed.

    Variables of its own that the figure lacks become nodes; its inputs bring no arrow.

    Args:
        figure: The picture of the model.
        graph: The inference model q.

    Example:
        >>> vae = figure(Graph.from_edges([("z", "x")]), observed=["x"])
        >>> q = Graph.from_edges([("x", "z")], inputs=["x"])
        >>> with_inference(vae, q).arrows[1].inference
        True
    """
    known = {node.name for node in figure.nodes}
    own = (node for node in _nodes(graph) if node.name not in known)
    arrows = _arrows(graph, inference=True)
    return replace(figure, nodes=(*figure.nodes, *own), arrows=(*figure.arrows, *arrows))


def _arrows(graph: Graph, *, inference: bool = False) -> Iterator[Arrow]:
    """Make the arrows of a graph, those of one time slice first."""
    for v in graph.variables:
        for parent in v.parents:
            yield Arrow(parent, v.name, inference, _is_map(v))
    for v in graph.variables:
        for lag in v.lags:
            yield Arrow(lag.variable, v.name, inference, _is_map(v), label=ago(lag.steps))


def ago(steps: int) -> str:
    """Write the time of a parent in an earlier slice, or in a later one.

    Example:
        >>> ago(1), ago(-2)
        ('t - 1', 't + 2')
    """
    return f"t - {steps}" if steps > 0 else f"t + {-steps}"


def with_laws(
    figure: Figure,
    graph: Graph,
    *,
    symbol: str = "p",
    parameters: str = r"\theta",
    function: str = "f",
) -> Figure:
    r"""Write the CPDs of a model beside its arrows, one for each child.

    What has parents in earlier time slices or is named by a word gets nothing, and neither does a
    model of more than six such CPDs: its formula says it better.

    Args:
        figure: A picture that shows the model; arrows that have a label keep it.
        graph: The model.
        symbol: LaTeX of its distribution.
        parameters: LaTeX of its parameters, or nothing.
        function: LaTeX of its deterministic maps.

    Example:
        >>> vae = Graph.from_edges([("z", "x")])
        >>> print(with_laws(figure(vae), vae).arrows[0].label)
        p_{\theta}(x \mid z)
    """
    called = {node.name: node.label for node in figure.nodes}
    named = [v for v in graph.variables if v.parents and not v.lags and not is_word(v.name)]
    below = f"_{{{parameters}}}" if parameters else ""
    laws = {}
    for v in named if len(named) <= _MOST_LAWS else ():
        child, given = called[v.name], ", ".join(called[p] for p in v.parents)
        law = rf"{symbol}{below}({child} \mid {given})"
        if _is_map(v):
            law = f"{child} = {f'{function}{below}' if v.inverts is None else 'T'}({given})"
        laws[v.parents[0], v.name] = law
    free = {pair: law for pair, law in laws.items() if _bears_none(figure, pair)}
    return with_labels(figure, free) if free else figure


def with_critic(figure: Figure, inputs: Iterable[str], *, label: str = "y") -> Figure:
    """Add the critic as the auxiliary it is: a small node, told from each input by a blue arrow.

    The critic infers where its input comes from, the data or the model, so its arrows are dashed.

    Args:
        figure: The picture of the model.
        inputs: Names of the variables that the critic sees.
        label: LaTeX of the node.

    Raises:
        GraphError: An input that the figure does not have.

    Example:
        >>> gan = figure(Graph.from_edges([("z", "x")], deterministic=["x"]))
        >>> critic = with_critic(gan, ["x"]).nodes[-1]
        >>> critic.name, critic.label, critic.shape
        ('critic', 'y', 'critic')
    """
    taken = sum(node.name.startswith("critic") for node in figure.nodes)
    node = Node(f"critic_{taken + 1}" if taken else "critic", label, "critic")
    arrows = (Arrow(name, node.name, inference=True, adversarial=True) for name in inputs)
    return replace(figure, nodes=(*figure.nodes, node), arrows=(*figure.arrows, *arrows))


def with_caption(figure: Figure, latex: str) -> Figure:
    """Set a cost under the picture, in LaTeX."""
    return replace(figure, caption=latex)


def with_double_outlines(figure: Figure) -> Figure:
    """Draw deterministic variables as circles with a double outline instead of diamonds.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, section 5.2.

    Example:
        >>> gan = figure(Graph.from_edges([("z", "x")], deterministic=["x"]))
        >>> [node.shape for node in with_double_outlines(gan).nodes]
        ['random', 'double']
    """
    nodes = (
        replace(node, shape="double") if node.shape == "deterministic" else node
        for node in figure.nodes
    )
    return replace(figure, nodes=tuple(nodes))


def with_labels(figure: Figure, labels: Mapping[tuple[str, str], str]) -> Figure:
    r"""Write distributions beside their arrows.

    Args:
        figure: The picture.
        labels: `{(source, target): LaTeX}`.

    Raises:
        GraphError: A pair that no arrow joins.

    Example:
        >>> vae = figure(Graph.from_edges([("z", "x")]))
        >>> with_labels(vae, {("z", "x"): r"p_\theta"}).arrows[0].label
        'p_\\theta'
    """
    pairs = [(arrow.source, arrow.target) for arrow in figure.arrows]
    for source, target in labels:
        if (source, target) not in pairs:
            known = ", ".join(f"{a} -> {b}" for a, b in pairs) or "there are none"
            raise GraphError(f"no arrow {source} -> {target} to label; known: {known}")
    arrows = (
        replace(arrow, label=labels.get((arrow.source, arrow.target), arrow.label))
        for arrow in figure.arrows
    )
    return replace(figure, arrows=tuple(arrows))


def _nodes(
    graph: Graph, inner: Collection[Scope] = (), kinds: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Node]:
    """Make the nodes of a graph, named as they are inside their scopes."""
    shapes: dict[str, Shape] = {"stochastic": "random", "input": "constant"}
    plates = {plate.name: plate for plate in graph.plates}
    paths = {*graph.names, *(scope.path for scope in inner)}  # a call's noise is named after it
    is_net = any(len(path(name)) > 1 for name in graph.names)
    for variable in graph.variables:
        name, indices = variable.name, [index(plates[p]) for p in variable.plates]
        is_module = is_word(name) and _is_map(variable)
        shape = shapes.get(variable.map, "module" if is_module else "deterministic")
        is_code = is_module or (is_net and is_word(name))
        kind, left = kinds.get(name, ""), short(name, paths)
        latex = named(left, kind, indices) if is_code else label(left, indices)
        yield Node(name, latex, shape, kind=kind)


def _is_map(variable: Variable) -> bool:
    return variable.map == "deterministic"


def _bears_none(figure: Figure, pair: tuple[str, str]) -> bool:
    labels = [arrow.label for arrow in figure.arrows if (arrow.source, arrow.target) == pair]
    return labels == [""]


def _check_known(names: Iterable[str], known: Collection[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise GraphError(f"{what} names the unknown node {name!r}{did_you_mean(name, known)}")
