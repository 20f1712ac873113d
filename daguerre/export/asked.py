"""What an export is asked for: planned on the graph alone, before anything is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from daguerre.graph import Graph, GraphError, InadmissibleError, did_you_mean

__all__ = ["DRAW", "LOG_PROB", "SAMPLE", "Output", "Plan", "plan_export"]

DRAW = "draw"
SAMPLE = "sample"
LOG_PROB = "log_prob"


class Output(NamedTuple):
    """One thing that is asked for.

    Attributes:
        variable: Whose.
        what: `""` for its CPD, `"draw"`, or an attribute of the distribution that its CPD gives.
    """

    variable: str
    what: str = ""

    def __str__(self) -> str:
        return f"{self.variable}.{self.what}" if self.what else self.variable


class Plan(NamedTuple):
    """What is computed from what.

    Attributes:
        outputs: What is asked for; nothing where it is the joint density.
        given: The variables whose values are inputs.
        drawn: The variables that are drawn, by noise that is an input.
        needed: All that must be computed, these included.
    """

    outputs: tuple[Output, ...]
    given: tuple[str, ...]
    drawn: tuple[str, ...] = ()
    needed: frozenset[str] = frozenset()

    @property
    def noises(self) -> dict[str, str]:
        """The name of the noise of each variable that is drawn."""
        found: dict[str, str] = {}
        for variable in self.drawn:
            name = f"{variable}_noise"
            while name in self.given:
                name += "_"
            found[variable] = name
        return found

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all inputs."""
        return (*self.given, *self.noises.values())

    def __str__(self) -> str:
        return ", ".join(map(str, self.outputs)) or LOG_PROB


def plan_export(
    graph: Graph, names: Sequence[str], outputs: Iterable[str], given: Iterable[str] | None
) -> Plan:
    """Plan what is asked for; see `export`.

    Args:
        graph: The graph.
        names: The variables that are kept.
        outputs: What is asked for.
        given: The inputs; by default what is needed.

    Raises:
        GraphError: An unknown name; an input that nothing asked for depends on, or none at all.
        InadmissibleError: A random variable that is needed and not given; a question that cannot
            be answered forwards.

    Example:
        >>> graph = Graph.from_edges([("z", "h"), ("h", "x")], deterministic=["h"])
        >>> plan_export(graph, graph.names, ["x.mean", "h"], None).given
        ('z',)
    """
    if graph.adjacency.lagged:
        raise InadmissibleError(
            "models with lags are not exported as a whole: export one step, of a model whose state"
            " is an input, h_before = dg.Input(8), and call it once for each slice"
        )
    asked = list(outputs)
    known = None if given is None else list(dict.fromkeys(graph[n].name for n in given))
    if asked == [LOG_PROB]:
        return Plan((), tuple(known or _scored(graph, names)))
    found = [one for word in asked for one in _read(graph, names, word)]
    if not found:
        raise GraphError("say what is to be exported: a variable, such as x, or x.mean, x.draw")
    _check_kinds(graph, found)
    drawn = tuple(dict.fromkeys(o.variable for o in found if o.what == DRAW))
    plan = _walked(graph, found, drawn, known)
    _check_direction(graph, plan)
    if not plan.inputs:
        raise GraphError(
            f"{plan} depends on nothing that could be an input: it is constant; read it off the"
            f' model, or export draws, "{found[0].variable}.draw"'
        )
    return plan


def _scored(graph: Graph, names: Sequence[str]) -> list[str]:
    """Return what a joint density is a function of."""
    scored = [n for n in names if graph.kind(n) == "prescribed"]
    recovered = {graph[n].inverts for n in scored}
    return [*(n for n in scored if n not in recovered), *graph.inputs]


def _read(graph: Graph, names: Sequence[str], word: str) -> list[Output]:
    if word == SAMPLE:
        random = [n for n in names if graph[n].map == "stochastic"]
        return [Output(n, DRAW if n in random else "") for n in names if n not in graph.inputs]
    if word == LOG_PROB:
        raise GraphError("log_prob is exported alone; make two exports")
    if word in graph:
        return [Output(word)]
    name, _, what = word.rpartition(".")
    if name not in graph:
        hint = did_you_mean(word.partition(".")[0], graph.names)
        raise GraphError(f"there is no {word!r} to export{hint} (or sample, or log_prob)")
    return [Output(name, what)]


def _check_kinds(graph: Graph, outputs: Iterable[Output]) -> None:
    for output in outputs:
        kind = graph[output.variable].map
        if kind == "input":
            raise GraphError(f"{output.variable} is an input: there is nothing to compute")
        if output.what and kind == "deterministic":
            raise GraphError(
                f"{output.variable} is a function of its parents, so it has no {output.what}: ask"
                f' for "{output.variable}", its value'
            )


def _walked(
    graph: Graph, outputs: Sequence[Output], drawn: tuple[str, ...], given: list[str] | None
) -> Plan:
    """Walk up from the outputs to what is given, or to what must be."""
    asked = dict.fromkeys(o.variable for o in outputs)
    needed, met, frontier = set(asked), set[str](), [*asked]
    while frontier:
        name = frontier.pop()
        for parent in graph.parents(name):
            if parent in (given or ()) or (given is None and _must_be_given(graph, parent, drawn)):
                met.add(parent)
            elif _must_be_given(graph, parent, drawn):
                raise _missing(graph, name, parent, outputs, given or [])
            elif parent not in needed:
                needed.add(parent)
                frontier.append(parent)
    if given is None:
        given = [n for n in graph.order if n in met]
    if idle := [n for n in given if n not in met]:
        raise _idle(graph, idle[0], outputs)
    return Plan(tuple(outputs), tuple(given), drawn, frozenset(needed))


def _must_be_given(graph: Graph, name: str, drawn: Sequence[str]) -> bool:
    return graph[name].map != "deterministic" and name not in drawn


def _missing(
    graph: Graph, child: str, name: str, outputs: Sequence[Output], given: list[str]
) -> GraphError:
    words, more = ", ".join(map(str, outputs)), [*given, name]
    if graph[name].map == "input":
        return GraphError(f"{words} needs {name}, an input of the model: given={more}")
    if below := [n for n in given if name in graph.ancestors([n])]:
        return InadmissibleError(
            f"{words} needs {name} ({name} -> {child}), which is random: to infer it from"
            f" {', '.join(below)} takes a posterior; export an inference model,"
            f' dg.export(q, "{name}"), and give {name} here'
        )
    return InadmissibleError(
        f"{words} needs {name} ({name} -> {child}), which is random and not given: give it,"
        f' given={more}, or ask for "{name}.draw" as well, which makes its noise an input'
    )


def _idle(graph: Graph, name: str, outputs: Sequence[Output]) -> GraphError:
    words = ", ".join(map(str, outputs))
    message = f"{name} is given, but {words} does not depend on it"
    below = [o.variable for o in outputs if o.variable in graph.ancestors([name])]
    if below:
        return InadmissibleError(
            f"{message} when the model is run forwards: to infer {below[0]} from {name} takes a"
            f' posterior; export an inference model, dg.export(q, "{below[0]}"), or leave {name}'
            " out"
        )
    return GraphError(f"{message}; leave it out")


def _check_direction(graph: Graph, plan: Plan) -> None:
    """Refuse draws and laws of what a given variable tells something about."""
    above = graph.ancestors(plan.given)
    for output in plan.outputs:
        name = output.variable
        if name in above and name not in plan.given and graph[name].map == "stochastic":
            raise InadmissibleError(
                f"{output} is asked for and {', '.join(plan.given)} given, which follows from"
                f" {name}: a forward run would ignore what it tells; give {name} too, or export an"
                f' inference model, dg.export(q, "{name}")'
            )
