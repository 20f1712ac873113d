"""An inference model as a proposal: draws of latent variables with their density."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from daguerre.graph import GraphError, Variable
from daguerre.infer.approximate.passes import Known
from daguerre.joint import Factor, Joint, as_joint
from daguerre.program import Program, Step
from daguerre.queries import declared_sizes, entered, read_sizes
from daguerre.running import draw
from daguerre.scoring import DensityPlan, complete, density_plan, negative_log_density

__all__ = ["Proposal", "read_proposal"]


@dataclass(frozen=True)
class Proposal:
    """What q proposes.

    Attributes:
        program: The steps of q, whatever is known being an input.
        plan: How the density of the proposed variables is computed.
    """

    program: Program
    plan: DensityPlan

    @property
    def names(self) -> tuple[str, ...]:
        """The latent variables that are proposed."""
        return self.plan.names

    def draw(self, known: Known) -> tuple[dict[str, Tensor], Tensor]:
        """Draw the proposed variables, rows of each, with their log-density, `[n]`."""
        program, n = self.program, known.rows
        given = {name: known.values[name] for name in program.graph.inputs}
        sizes = read_sizes(program.plates, known.values, n, declared_sizes(program.graph))
        given = entered(given, program.plates, sizes)
        trace = draw(program, n, given, pathwise=False, sizes=sizes)
        trace = complete(program, self.plan, trace.values, trace.outcomes, n, sizes)
        steps = (program.by_name[name] for name in self.plan.terms)
        terms = [negative_log_density(step, trace).expand(n) for step in steps]
        return {name: trace.values[name] for name in self.names}, -sum(terms[1:], terms[0])


def read_proposal(p: Joint, q: Factor | Joint, known: Collection[str]) -> Proposal:
    """Read an inference model as a proposal for the latent variables of p.

    Args:
        p: The model.
        q: The inference model.
        known: The variables of p that every row of evidence knows.

    Raises:
        GraphError: q takes what is not known, or proposes nothing, or what p does not draw.
        InadmissibleError: q has no density.
    """
    joint = as_joint(q)
    graph = joint.graph
    for name in (*joint.data, *graph.inputs):
        if name not in known:
            raise GraphError(f"q takes {name}, which is not given in every row; give it")
    clamped = {
        name: Variable(name, map="input", plates=graph[name].plates)
        for name in graph.names
        if name in known
    }
    program = Program.of(
        graph.with_variables(*clamped.values()),
        [
            Step(clamped[s.name], None, "evidence") if s.name in clamped else s
            for s in joint.program.steps
        ],
    )
    names = [n for n in graph.names if n not in known and n in p.graph.names]
    for name in names:
        if p.graph[name].map != "stochastic":
            raise GraphError(
                f"q proposes {name}, which is {p.graph.kind(name)} in p; propose what it follows"
                f" from: {', '.join(p.graph[name].parents) or 'nothing'}"
            )
    if not names:
        raise GraphError(
            f"q proposes none of p's unknown variables (q has {', '.join(graph.names)})"
        )
    return Proposal(program, density_plan(program.graph, names))
