r"""The product of the marginals of a variable's dimensions, by shuffling a batch.

Where the rows of a batch are draws from q(z), a shuffle of each column by itself gives draws from
$\prod_j q(z_j)$: what a critic compares q(z) with, to learn the total correlation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from daguerre.declare import Input
from daguerre.graph import Graph, GraphError, Variable
from daguerre.joint import Joint
from daguerre.model import Model
from daguerre.program import Step

__all__ = ["Permuted", "permuted"]


def permuted(joint: Joint, *, of: str) -> Joint:
    r"""Return a joint over one variable, each dimension of it shuffled over the batch.

    Up to the ties of a finite batch its draws are from $\prod_j q(z_j)$. They have no density;
    gradients flow through them as through those of the joint.

    Args:
        joint: What is drawn from, such as `dg.data("x") * q`.
        of: The variable, a random or deterministic one of a model in the joint.

    Raises:
        GraphError: An unknown variable, or one that is data or an input.

    References:
        Kim and Mnih (2018, arXiv 1802.05983), algorithm 1, after Arcones and Gine (1992) in
        tests of independence.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(1), 1.0), x=lambda z: Normal(z.expand(-1, 2), 0.1))
        >>> both = p["x"].sample(1000)["x"], permuted(p["x"], of="x").sample(1000)["x"]
        >>> [round(float(x.T.corrcoef()[0, 1].abs())) for x in both]
        [1, 0]
    """
    name = joint.graph[of].name
    drawn = (f for f in joint.factors if name in f.graph and name not in f.graph.inputs)
    owner = next(drawn, None)
    if not isinstance(owner, Model):
        raise GraphError(
            f"{name} comes from no model of the joint but is given; what is shuffled is a variable"
            " that a model draws"
        )
    factors = (Permuted(owner, name) if f is owner else f for f in joint.factors)
    return Joint(tuple(factors), (name,))


@final
class Permuted(Model):
    """A model with one variable shuffled over the batch; its children are of the draw before."""

    def __init__(self, base: Model, of: str) -> None:
        super().__init__()
        self.base, self.of, self.before = base, of, f"{of}_paired"
        if self.before in base.graph:
            raise GraphError(
                f"{self.before!r} is the name of {of} before the shuffle; use another"
            )
        shuffled = Variable(of, (self.before,), "deterministic")
        self.graph = Graph((*map(self._renamed, base.graph.variables), shuffled))

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs."""
        return self.base.inputs()

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the base, and the shuffle."""
        steps = (Step(self._renamed(s.variable), s.cpd, s.place) for s in self.base.steps())
        return (*steps, Step(self.graph[self.of], shuffle))

    def _renamed(self, v: Variable) -> Variable:
        def name(old: str) -> str:
            return self.before if old == self.of else old

        inverts = None if v.inverts is None else name(v.inverts)
        return replace(v, name=name(v.name), parents=tuple(map(name, v.parents)), inverts=inverts)


def shuffle(z: Tensor) -> Tensor:
    """Return `[n, *event]` with each number's n values in an order of their own."""
    return z.gather(0, torch.rand(z.shape, device=z.device).argsort(0))
