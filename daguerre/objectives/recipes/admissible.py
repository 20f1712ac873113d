"""Which costs a model admits, and why not where it does not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from daguerre.graph import GraphError, InadmissibleError
from daguerre.joint import Empirical
from daguerre.model import Model
from daguerre.objectives.moments import MMD
from daguerre.objectives.objective import Objective
from daguerre.objectives.recipes.basic import elbo, gan, iwae, nll, observed_names
from daguerre.table import Table

__all__ = ["objectives_for"]


def objectives_for(p: Model, q: Model | None = None, critic: nn.Module | None = None) -> Table:
    """Return every cost with whether p admits it, and why not where it does not.

    Args:
        p: The model.
        q: An inference model; without one, costs that need it say so.
        critic: A critic; without one, costs that need it say so.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=dg.deterministic(lambda z: z.tanh()))
        >>> [(row["cost"], row["admissible"]) for row in objectives_for(p)]
        [('nll', 'no'), ('elbo', 'no'), ('iwae', 'no'), ('gan', 'yes'), ('mmd', 'yes')]
    """
    game = critic if critic is not None else _AnyCritic()
    costs: dict[str, tuple[str, Callable[[], Objective]]] = {
        "nll": ("KL(data, p)", lambda: nll(p, observed=p.graph.leaves)),
        "elbo": ("KL(data * q, p)", lambda: elbo(p, _needed(q, p))),
        "iwae": ("K-sample bound of it", lambda: iwae(p, _needed(q, p))),
        "gan": ("JS(data, p) + critic", lambda: gan(p, game)),
        "mmd": ("MMD²(data, p)", lambda: _mmd(p)),
    }

    def row(name: str) -> tuple[str, str, str, str]:
        what, build = costs[name]
        try:
            build()
        except GraphError as error:
            return name, what, "no", str(error).splitlines()[0]
        by_samples = name in ("gan", "mmd")
        return name, what, "yes", "needs samples only" if by_samples else "densities exist"

    return Table(("cost", "is", "admissible", "why"), tuple(row(name) for name in costs))


def _mmd(p: Model) -> Objective:
    both = (*observed_names(p.graph, None, latent=None), *p.graph.inputs)
    return MMD(Empirical(both), p[both])


class _AnyCritic(nn.Module):
    """Stands for whatever critic a user would bring."""

    def forward(self, *values: Tensor) -> Tensor:
        """Return a logit that tells nothing."""
        return torch.zeros(len(values[0]))


def _needed(q: Model | None, p: Model) -> Model:
    if q is None:
        for name in p.graph.leaves:
            p[name].density_plan()  # an implicit leaf is the better reason
        latent = [n for n in p.graph.names if n not in (*p.graph.leaves, *p.graph.inputs)]
        if not latent:
            raise InadmissibleError("p has no latent variable: its likelihood is dg.nll(p)")
        raise InadmissibleError(f"needs an inference model q for {', '.join(latent)}")
    return q
