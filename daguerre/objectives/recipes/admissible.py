"""Which costs a model admits, how each would be estimated, and why not where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from daguerre.graph import GraphError, InadmissibleError
from daguerre.joint import Empirical, Joint
from daguerre.model import Model
from daguerre.objectives import f
from daguerre.objectives.moments import MMD
from daguerre.objectives.objective import Objective
from daguerre.objectives.penalties import gradient
from daguerre.objectives.recipes.adversarial import (
    aae,
    aavae,
    ali,
    cyclegan,
    infogan,
    iwgan,
    vae_gan,
)
from daguerre.objectives.recipes.basic import elbo, gan, iwae, nll, observed_names
from daguerre.objectives.recipes.variational import (
    avb,
    beta_tc_vae,
    dip_vae,
    factor_vae,
    info_vae,
    reweighted_wake_sleep,
    semi_supervised,
    vq_vae,
    wae,
    wake_sleep,
)
from daguerre.objectives.transport import sinkhorn, sliced_wasserstein
from daguerre.objectives.wasserstein import Wasserstein
from daguerre.table import Table

__all__ = ["objectives_for"]

ROWS = 1000  # of data: what it is does not decide whether a cost is admissible


def objectives_for(p: Model, q: Model | None = None, critic: nn.Module | None = None) -> Table:
    """Return every cost with whether p admits it: how it is estimated, or why it is refused.

    Args:
        p: The model.
        q: An inference model; without one, costs that need it say so.
        critic: A critic of what is observed, for the costs that take one; by default any that
            fits.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=dg.deterministic(lambda z: z.tanh()))
        >>> admitted = {row["cost"]: row["admissible"] for row in objectives_for(p)}
        >>> admitted["nll"], admitted["elbo"], admitted["gan"], admitted["mmd"]
        ('no', 'no', 'yes', 'yes')
    """
    pair = _Pair(p, q, critic if critic is not None else _AnyCritic())

    def row(name: str) -> tuple[str, str, str, str]:
        what, build = _COSTS[name]
        try:
            found = build(pair)
        except GraphError as error:
            return name, what, "no", str(error).splitlines()[0]
        how = [row["estimator"] for row in found.explain() if row["estimator"] != "left out"]
        return name, what, "yes", "; ".join(dict.fromkeys(how))

    return Table(("cost", "is", "admissible", "why"), tuple(row(name) for name in _COSTS))


class _Pair(NamedTuple):
    """What a cost is made of."""

    p: Model
    other: Model | None
    critic: nn.Module

    @property
    def q(self) -> Model:
        """The inference model.

        Raises:
            InadmissibleError: There is none, or a better reason why it would be of no use.
        """
        if self.other is not None:
            return self.other
        graph = self.p.graph
        for name in graph.leaves:
            self.p[name].density_plan()  # an implicit leaf is the better reason
        latent = [n for n in graph.names if n not in (*graph.leaves, *graph.inputs)]
        if not latent:
            raise InadmissibleError("p has no latent variable: its likelihood is dg.nll(p)")
        raise InadmissibleError(f"needs an inference model q for {', '.join(latent)}")

    @property
    def sides(self) -> tuple[Empirical, Joint]:
        """The data, and what p says of it."""
        both = (*observed_names(self.p.graph, None, latent=None), *self.p.graph.inputs)
        return Empirical(both), self.p[both]

    @property
    def critics(self) -> dict[str, nn.Module]:
        """The critic, for each variable."""
        return dict.fromkeys(self.p.graph.names, self.critic)


class _AnyCritic(nn.Module):
    """Stands for whatever critic a user would bring."""

    def forward(self, *values: Tensor) -> Tensor:
        """Return a logit that tells nothing."""
        return torch.zeros(len(values[0]))


class _Cost(NamedTuple):
    """What a cost is, and how it is built."""

    what: str
    build: Callable[[_Pair], Objective]


_COSTS = {
    "nll": _Cost("KL(data, p)", lambda m: nll(m.p, observed=m.p.graph.leaves)),
    "elbo": _Cost("KL(data * q, p)", lambda m: elbo(m.p, m.q)),
    "iwae": _Cost("K-sample bound of it", lambda m: iwae(m.p, m.q)),
    "wake_sleep": _Cost("KL both ways, each player its own", lambda m: wake_sleep(m.p, m.q)),
    "reweighted_wake_sleep": _Cost(
        "the same at weighted draws", lambda m: reweighted_wake_sleep(m.p, m.q)
    ),
    "semi_supervised": _Cost(
        "elbo with some labels + classifier", lambda m: semi_supervised(m.p, m.q)
    ),
    "beta_tc_vae": _Cost("elbo + TC(q(z))", lambda m: beta_tc_vae(m.p, m.q, rows=ROWS)),
    "factor_vae": _Cost("elbo + TC(q(z)) + critic", lambda m: factor_vae(m.p, m.q, _AnyCritic())),
    "dip_vae": _Cost("elbo + cov q(z)", lambda m: dip_vae(m.p, m.q)),
    "info_vae": _Cost("elbo + MMD²(q(z), p(z))", lambda m: info_vae(m.p, m.q)),
    "wae": _Cost("reconstruction + MMD²(q(z), p(z))", lambda m: wae(m.p, m.q)),
    "avb": _Cost(
        "reconstruction + KL(data * q, data * p(z)) + critic",
        lambda m: avb(m.p, m.q, _AnyCritic()),
    ),
    "vq_vae": _Cost("reconstruction + distance of codes", lambda m: vq_vae(m.p, m.q)),
    "aae": _Cost(
        "reconstruction + JS(p(z), q(z)) + critic", lambda m: aae(m.p, m.q, _AnyCritic())
    ),
    "ali": _Cost("JS(data * q, p) + critic", lambda m: ali(m.p, m.q, _AnyCritic())),
    "vae_gan": _Cost("elbo + JS(data, p) + critic", lambda m: vae_gan(m.p, m.q, m.critic)),
    "aavae": _Cost("elbo of data and of fakes + critic", lambda m: aavae(m.p, m.q, m.critic)),
    "infogan": _Cost("gan + E_p[-log q(z)]", lambda m: infogan(m.p, m.q, m.critic)),
    "cyclegan": _Cost(
        "two gans + reconstruction, to and fro",
        lambda m: cyclegan(m.p, m.q, m.critics),
    ),
    "iwgan": _Cost("gan with weighted draws + critic", lambda m: iwgan(m.p, m.critic)),
    "gan": _Cost("JS(data, p) + critic", lambda m: gan(m.p, m.critic)),
    "f_divergence": _Cost(
        "f-divergence(data, p) + critic",
        lambda m: f.f_divergence(*m.sides, f=f.KL, critic=m.critic),
    ),
    "wasserstein": _Cost(
        "W1(data, p) + critic",
        lambda m: Wasserstein(*m.sides, critic=m.critic, penalty=gradient(10.0)),
    ),
    "mmd": _Cost("MMD²(data, p)", lambda m: MMD(*m.sides)),
    "sliced_wasserstein": _Cost("sliced W2²(data, p)", lambda m: sliced_wasserstein(*m.sides)),
    "sinkhorn": _Cost("Sinkhorn(data, p)", lambda m: sinkhorn(*m.sides)),
}
