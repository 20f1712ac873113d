r"""Maximum likelihood with hidden variables: exact inference sums and integrates them out.

$$\mathbb{E}_{x \sim \mathrm{data}}\left[-\log \sum_k \int p(x, k, z)\, \mathrm{d}z\right]$$

Its gradient is exact, too. What no exact engine takes is refused, with the reason. Of a model with
lags, a row of data is a sequence, and its density that of all its steps together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf, prod
from typing import final

import torch
from torch import Tensor

from daguerre.cpds import Conditional
from daguerre.draw.labels import label
from daguerre.graph import GraphError, InadmissibleError, did_you_mean
from daguerre.infer import explain, log_evidence
from daguerre.infer.chain.reading import bearing
from daguerre.infer.plan import Plan
from daguerre.joint import Joint
from daguerre.modes import mode
from daguerre.objectives.objective import Divergence, Player, Round, Term
from daguerre.objectives.sides import (
    PairShapes,
    all_of,
    conditional,
    expectation,
    in_step,
    modules_of,
    pair_shapes,
    repeated,
    shapes_alone,
    shared_names,
)
from daguerre.objectives.slices import density_over_time, is_chain, over_time
from daguerre.repeats import Sizes
from daguerre.scoring import moves_from, obstacle
from daguerre.structure.recurrence import TIME

__all__ = ["MarginalLikelihood", "hidden_names", "is_marginal"]

COMPONENTS = 8192  # of a hidden variable; with more, its covariance alone takes half a gigabyte


def hidden_names(p: Joint) -> tuple[str, ...]:
    """Return the random variables that the kept ones hang on, and that do not follow from them.

    Example:
        >>> from daguerre.compose import model
        >>> from torch.distributions import Normal
        >>> p = model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0), y=lambda x: Normal(x, 1.0))
        >>> hidden_names(p["x"]), hidden_names(p["z", "y"])
        (('z',), ('x',))
    """
    graph = p.graph
    relevant = {*bearing(graph, p.names)}
    known = {*p.names, *(n for n in relevant if n in graph.inputs)}
    while move := next(moves_from(graph, relevant, known), None):
        known.add(move[0])
    unknown = relevant - known
    return tuple(n for n in graph.order if n in unknown and graph[n].map == "stochastic")


def is_marginal(a: Joint, b: Joint) -> bool:
    """Whether a is data, and the density of b at it hides something."""
    plain = {*a.graph.names} == {*a.data} and not b.data
    covered = {*b.names} <= {*a.names, *b.graph.inputs}
    return plain and covered and bool(hidden_names(b))


@final
class MarginalLikelihood(Divergence):
    """KL(data, p) over the observed variables of p, all others integrated out exactly.

    Args:
        a: The data.
        b: The model, restricted to what is observed.
        partial: Observed variables that rows, or components of rows, may lack.

    Raises:
        InadmissibleError: No exact engine takes the model; says which variable, and why.
        GraphError: The sides differ in variables or shapes; an unknown name in `partial`.
    """

    piecewise = True
    eager = (
        "exact inference looks at the values that are observed: which rows lack which, and what"
        " states they name"
    )

    def __init__(self, a: Joint, b: Joint, partial: Iterable[str] = ()) -> None:
        self.names, self.over_time = shared_names(a, b, "KL"), is_chain(b)
        self.a, self.b = a, b = (a, b) if self.over_time else in_step(a, b)
        self.shapes = (
            PairShapes({}, shapes_alone(b)) if self.over_time else pair_shapes(a, b, pathwise=())
        )
        is_plain = self.over_time and not b.graph.plates
        self.plates = dict.fromkeys(self.given, (TIME,)) if is_plain else b.program.plates
        self.hidden, self.partial = hidden_names(b), tuple(partial)
        self.players = (Player("model", modules_of(b, a)),)
        for name in self.partial:
            if name not in self.names:
                raise GraphError(
                    f"{name!r} is partial, but not observed{did_you_mean(name, self.names)}"
                )
        self.plan = self._planned()

    @property
    def title(self) -> str:
        """What it is, and over which variables."""
        return f"negative log-evidence over {', '.join(self.names)}"

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the batch mean of -log p(observed), in nats."""
        loss = -log_evidence(self.b, {name: at.given[name] for name in self.given}).mean()
        sizes = Sizes.met(at.given, self.plates, at.n)._replace(whole=at.whole)
        return loss if not at.whole else sizes.scale([*at.whole]) * loss

    def ledger(self) -> tuple[Term, ...]:
        """Say which engine integrates out what."""
        write = partial(over_time, self.b) if self.over_time else str
        term = f"-log p({', '.join(map(write, self.names))}{self._bar(' | ', write)})"
        estimator, why = self._scanned() if self.over_time else self._eliminated()
        if self.partial:
            what = "sequences may lack steps of" if self.over_time else "rows may lack"
            why += f"; {what} {', '.join(self.partial)}"
        return (Term("model", term, f"exact, by {estimator}", why),)

    def _scanned(self) -> tuple[str, str]:
        """Say how a chain is taken, and why so."""
        of = f" of {', '.join(self.hidden)}" if self.hidden else ""
        if self.plan is None:
            return f"a scan over the steps{of}", "planned when there are data"
        first, last = self.plan.parts[0], self.plan.parts[-1]
        rows = f", {first.engine}" if first is not last else ""
        chain = last.why.partition(":")[0] + rows  # without the sizes of what was drawn
        return f"a scan over the steps{of}", chain if self.hidden else "nothing is hidden"

    def _eliminated(self) -> tuple[str, str]:
        """Say which engines take the hidden variables of a static model, and why these."""
        free = {*self.hidden, *self.partial}
        done = self.plan.parts if self.plan is not None else ()
        ways = [
            f"{part.engine} over {', '.join(names)}"
            for part in done
            if (names := [n for n in part.variables if n in free])
        ]
        why = "; ".join(part.why for part in done) or "planned when there are data"
        return " and ".join(ways) or "inference", why

    def latex(self) -> dict[str, str]:
        """Return the expectation that is minimised."""
        data = expectation(self.a, self.shapes.a, "q")
        if self.over_time:
            data = rf"p_{{\mathrm{{data}}}}({', '.join(map(self._label, self.a.data))})"
        body = self._marginal() if self.partial else self._integral()
        return {"model": rf"\mathbb{{E}}_{{{data}}}\left[-\log {body}\right]"}

    def _label(self, name: str) -> str:
        if self.b.graph.plates and self.over_time:
            return all_of(self.b, name)
        return label(name, ["1:T"] if self.over_time else ())

    def _marginal(self) -> str:
        bar = self._bar(r" \mid ", self._label)
        return rf"p_\theta({', '.join(map(self._label, self.names))}{bar})"

    def _integral(self) -> str:
        graph, shapes = self.b.graph, self.shapes.b
        relevant = bearing(graph, self.names)
        scored = [n for n in graph.order if n in relevant and graph[n].map == "stochastic"]
        if self.over_time and not graph.plates:
            return density_over_time(graph, scored, self.hidden, shapes)
        body = r"\, ".join(
            repeated(self.b, n, r"\prod") + conditional(self.b, n, shapes, "p") for n in scored
        )
        finite = [n for n in self.hidden if n in shapes and shapes[n].states]
        write = partial(all_of, self.b) if self.over_time else label
        if others := [write(n) for n in self.hidden if n not in finite]:
            body = rf"\int {body}\, " + r"\, ".join(rf"\mathrm{{d}}{n}" for n in others)
        return rf"\sum_{{{', '.join(map(write, finite))}}} {body}" if finite else body

    def _bar(self, bar: str, write: Callable[[str], str]) -> str:
        inputs = [write(n) for n in self.b.graph.inputs]
        return bar + ", ".join(inputs) if inputs else ""

    def _planned(self) -> Plan | None:
        """Plan the integral, on drawn values; None where inputs have no shape to draw in."""
        for name in () if self.over_time else self.names:
            if self.b.graph.kind(name) == "implicit" and not self._is_finite(name):
                raise InadmissibleError(obstacle(self.b.graph, name))
        if any(name not in self.shapes.b for name in self.b.graph.inputs):
            return None
        plan = self._explained(self.names, self.hidden)
        for name in () if self.over_time else self.partial:  # a sequence may lack its end alone
            if not self._is_easy(name):
                self._explained([n for n in self.names if n != name], (*self.hidden, name))
        return plan

    def _explained(self, known: Sequence[str], hidden: Sequence[str]) -> Plan:
        """Return the plan of the integral over some variables, or say why there is none."""
        try:
            self._check_sizes(hidden)
            given = (*known, *self.b.graph.inputs)
            limit = inf if self.over_time else None  # data may be shorter than what is drawn
            with mode(self.b.modules, training=False), torch.no_grad():
                plan = explain(self.b, (), given=given, max_memory=limit, exact=True)
            if plan.is_exact:
                return plan
            reason = plan.parts[0].why
        except InadmissibleError as error:
            reason = str(error).removeprefix("no exact answer: ")
        if self.over_time:
            raise InadmissibleError(
                f"the density of {', '.join(known)} over time is not exact: {reason}. dg.nll"
                " learns chains whose hidden variables are all finite, or all linear Gaussian;"
                " dg.elbo takes a q of the others and sums finite ones out"
            )
        of, over = ", ".join(known), ", ".join(hidden)
        raise InadmissibleError(
            f"the density of {of} needs an integral over {over}, which is latent, and no exact"
            f" engine takes it: {reason}; use dg.elbo(p, q) or dg.iwae(p, q) with a q for {over},"
            f" or observe {over}"
        )

    def _check_sizes(self, hidden: Sequence[str]) -> None:
        for name in hidden:
            shape = self.shapes.b.get(name)
            if shape is not None and not shape.states and prod(shape.event) > COMPONENTS:
                raise InadmissibleError(
                    f"{name} has {prod(shape.event):,} components, more than {COMPONENTS:,}"
                )

    def _is_finite(self, name: str) -> bool:
        """Whether a variable takes one of a list of values."""
        graph, shapes = self.b.graph, self.shapes.b
        random = [n for n in (name, *graph.ancestors([name])) if graph[n].map == "stochastic"]
        return all(n in shapes and shapes[n].states for n in random)

    def _is_easy(self, name: str) -> bool:
        """Whether rows that lack a variable are taken for sure."""
        graph, by_name = self.b.graph, self.b.program.by_name
        around = (name, *graph.children(name))
        linear = all(isinstance(by_name[n].cpd, Conditional) for n in around)
        return linear or self._is_finite(name)
