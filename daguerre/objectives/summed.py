r"""Finite latents that the other side does not draw: summed out exactly at what it draws.

$$\mathbb{E}_q\Big[\log q(z \mid x) - \log \sum_k p(x, z, k)\Big]$$

is the bound with the best q(k | x, z) there is, and nothing of k is drawn, so that its noise is
gone, too (Rao-Blackwell). Over time the sum is that of a hidden Markov model, whose likelihoods
are the densities of what is drawn; its gradient is the expected gradient of the joint under
p(k | x, z) (Fisher's identity).

References:
    Johnson, Duvenaud, Wiltschko, Datta and Adams (2016, arXiv 1603.06277); Dong, Seybold, Murphy
    and Bui (2020), *Collapsed amortized variational inference for switching nonlinear dynamical
    systems*, arXiv 1910.09588.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import inf

import torch
from torch import Tensor

from daguerre.graph import InadmissibleError
from daguerre.infer import explain, log_evidence
from daguerre.infer.chain.answer import ChainQuestion
from daguerre.infer.chain.reading import bearing
from daguerre.infer.plates import AS_ROWS
from daguerre.joint import Joint
from daguerre.modes import mode
from daguerre.objectives.latents import Drawn
from daguerre.objectives.sides import all_of, conditional, repeated
from daguerre.objectives.slices import density_over_time, is_chain, over_time
from daguerre.program import Trace
from daguerre.rows import tile
from daguerre.shapes import Shape

__all__ = ["Sum", "sum_out"]


@dataclass(frozen=True, eq=False)
class Sum:
    """The density of what is drawn and observed, finite variables summed out.

    Attributes:
        b: The model.
        names: The variables that the density is of.
        hidden: The variables that are summed out.
        way: Which engine sums, in words.
        why: What it does.
    """

    b: Joint
    names: tuple[str, ...]
    hidden: tuple[str, ...]
    way: str
    why: str

    eager = "the sum over finite latents looks at the values that are drawn and observed"

    def surprisal(self, drawn: Drawn, scored: Trace) -> Tensor:
        """Return -log b, `[rows]`, with gradients to the values and to the parameters.

        Args:
            drawn: What the other side draws.
            scored: The values, as rows.
        """
        given = (*self.names, *(n for n in self.b.graph.inputs if n in scored.values))
        whole = {name: self._whole(name, drawn, scored) for name in given}
        rows = max(map(len, whole.values()))
        values = {name: tile(value, rows) for name, value in whole.items()}
        active = None if scored.sizes is None else scored.sizes.active
        if active is None:
            return -log_evidence(self.b, values)
        chain = ChainQuestion.of(self.b, (), values)
        assert chain is not None, "only sequences end"
        return -chain.log_evidence(tile(active.sum(0), rows))

    def _whole(self, name: str, drawn: Drawn, scored: Trace) -> Tensor:
        """Return rows as values `[copies * n, *plates, *event]`, what the data lacks marked."""
        value = scored.values[name]
        if name in drawn.seen and name in scored.held:
            nothing = torch.nan if value.is_floating_point() else -1
            seen = tile(drawn.seen[name], len(value))
            value = value.masked_fill(~seen.reshape(-1, *[1] * (value.dim() - 1)), nothing)
        plates = self.b.program.plates.get(name, ())
        if scored.sizes is None or not plates:
            return value
        split = scored.sizes.split(value, plates)
        return split.movedim(1 + len(plates), 1).flatten(0, 1)

    @property
    def title(self) -> str:
        """The density, as text."""
        write = partial(over_time, self.b) if is_chain(self.b) else str
        return f"log p({', '.join(map(write, self.names))})"

    @property
    def how(self) -> str:
        """What is summed out, and by which engine."""
        return f"{', '.join(self.hidden)} summed out exactly by {self.way}"

    @property
    def modelled(self) -> tuple[str, ...]:
        """The random variables that bear on it, parents first."""
        graph = self.b.graph
        relevant = bearing(graph, self.names)
        return tuple(n for n in graph.order if n in relevant and graph[n].map == "stochastic")

    def latex(self, shapes: Mapping[str, Shape]) -> str:
        """Return the density in LaTeX."""
        if is_chain(self.b) and not self.b.graph.plates:
            return density_over_time(self.b.graph, self.modelled, self.hidden, shapes)
        body = r"\, ".join(
            repeated(self.b, n, r"\prod") + conditional(self.b, n, shapes, "p")
            for n in self.modelled
        )
        summed = [all_of(self.b, name) for name in self.hidden]
        return rf"\sum_{{{', '.join(summed)}}} {body}"


def sum_out(
    b: Joint, names: tuple[str, ...], hidden: tuple[str, ...], lacking: tuple[str, ...] = ()
) -> Sum:
    """Plan a sum over finite variables, or say why it cannot be had.

    Args:
        b: The model.
        names: The variables whose density is wanted.
        hidden: Those to be summed out.
        lacking: Those of the names that rows may lack.

    Raises:
        InadmissibleError: No exact engine takes it.
    """
    given = (*names, *b.graph.inputs)
    limit = inf if is_chain(b) else None  # what is drawn here is longer than data may be
    try:
        with mode(b.modules, training=False), torch.no_grad():
            plan = explain(b, (), given=given, max_memory=limit, exact=True)
            if lacking:
                some = [n for n in given if n not in lacking]
                explain(b, (), given=some, max_memory=limit, exact=True)
    except InadmissibleError as error:
        raise InadmissibleError(
            f"{', '.join(hidden)} is drawn by neither the data nor q, and cannot be summed out"
            f" exactly given {', '.join(names)}: {error}; give q a CPD for {', '.join(hidden)}"
        ) from None
    parts = [part for part in plan.parts if part.engine != AS_ROWS]
    why = parts[-1].why.partition(":")[0] if is_chain(b) else parts[-1].why
    why += f", {AS_ROWS}" if len(parts) < len(plan.parts) else ""
    way = "a scan over the steps" if is_chain(b) else parts[-1].engine
    return Sum(b, names, hidden, way, why)
