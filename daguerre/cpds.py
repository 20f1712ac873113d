"""CPDs of classical networks as modules: tables, and linear Gaussians.

Each names its parents, so that a network can be built from data rather than from code:
`dg.model(rain=dg.Tabular([0.8, 0.2]), wet=dg.Tabular([[0.9, 0.1], [0.2, 0.8]], "rain"))`. Inside
a class they are modules like any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from typing import NamedTuple, Self, final

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MultivariateNormal, Normal

from daguerre.graph import GraphError

__all__ = ["Affine", "Conditional", "LinearGaussian", "Tabular"]

TOLERANCE = 1e-4  # how far from one the sum of a printed row may be


class Conditional(nn.Module, ABC):
    """A prescribed CPD as a module that names the parents it is called with, in that order."""

    parents: tuple[str, ...]

    def renamed(self, *parents: str) -> Self:
        """Return the CPD for parents of other names; it shares the parameters."""
        other = copy(self)
        other.parents = parents
        return other

    @abstractmethod
    def forward(self, *parents: Tensor) -> Distribution:
        """Return the distribution for values `[n, ...]` of the parents; that of a root is one."""


@final
class Tabular(Conditional):
    r"""A conditional probability table: $p(v = j \mid \mathrm{pa} = i) = \mathrm{table}[i, j]$.

    Values are state numbers 0, 1, ... Where the table is learned, the parameter is its logarithm,
    so that any gradient step keeps it a table; what is zero stays zero. Else it is a buffer.

    Args:
        table: Probabilities `[*states of each parent, states]`, each row with sum one within
            1e-4 (printed tables are rounded; rows are divided by their sum).
        parents: The parents' names, in the order of the dimensions.
        states: Names of the states, if they have any.
        learned: Whether the table has a parameter that gradients reach.

    Raises:
        GraphError: A negative entry, NaN, a row that does not sum to one, a table whose
            dimensions are not those of the parents, names that are not one per state.

    Example:
        >>> wet = Tabular([[0.9, 0.1], [0.2, 0.8]], "rain")
        >>> wet(torch.tensor([0, 1, 1])).probs[:, 1]
        tensor([0.1000, 0.8000, 0.8000], grad_fn=<SelectBackward0>)
    """

    table: Tensor | None

    def __init__(
        self,
        table: Tensor | Sequence[object],
        *parents: str,
        states: Sequence[str] | None = None,
        learned: bool = True,
    ) -> None:
        super().__init__()
        probs = torch.as_tensor(table)
        probs = probs if probs.is_floating_point() else probs.to(torch.get_default_dtype())
        _check_table(probs, parents)
        if states is not None and (
            len(states) != probs.shape[-1] or len(set(states)) != len(states)
        ):
            raise GraphError(
                f"the table has {probs.shape[-1]} states, so it takes as many distinct names, not"
                f" {list(states)}"
            )
        self.parents = parents
        self.states = None if states is None else tuple(states)
        probs = probs / probs.sum(-1, keepdim=True)
        self.logits = nn.Parameter(probs.log()) if learned else None
        self.register_buffer("table", None if learned else probs)

    @property
    def probs(self) -> Tensor:
        """The table, `[*states of each parent, states]`."""
        if self.logits is not None:
            return self.logits.softmax(-1)
        assert self.table is not None
        return self.table

    @torch.no_grad()
    def become(self, table: Tensor) -> None:
        """Take other probabilities, `[*states of each parent, states]`, in place.

        Raises:
            GraphError: They are no table of this shape.
        """
        if table.shape != self.probs.shape:
            raise GraphError(
                f"the table has the shape {list(self.probs.shape)}, not {list(table.shape)}"
            )
        _check_table(table, self.parents)
        if self.logits is not None:
            self.logits.copy_(table.log())
        elif self.table is not None:
            self.table.copy_(table)

    def forward(self, *parents: Tensor) -> Categorical:
        """Return the rows of the table for state numbers `[n]` of the parents."""
        index = tuple(value.long() for value in parents)
        if self.logits is None:
            table = self.probs[index] if index else self.probs
            return Categorical(probs=table, validate_args=False)
        logits = self.logits[index] if index else self.logits
        return Categorical(logits=logits, validate_args=False)

    def extra_repr(self) -> str:
        """Return the sizes: states, and those of each parent."""
        sizes = self.probs.shape
        given = [f"{p}: {k}" for p, k in zip(self.parents, sizes[:-1], strict=True)]
        return f"{sizes[-1]} states" + (f" | {', '.join(given)}" if given else "")


def _check_table(probs: Tensor, parents: tuple[str, ...]) -> None:
    if probs.dim() != len(parents) + 1 or not probs.numel():
        named = ", ".join(parents) or "no parents"
        raise GraphError(
            f"a table for {named} has {len(parents) + 1} dimensions, [*parents, states], but the"
            f" shape came as {list(probs.shape)}"
        )
    bad = ~(probs >= 0) | probs.isinf()
    if bad.any():
        place = bad.nonzero()[0].tolist()
        raise GraphError(
            f"table{place} is {probs[tuple(place)].item():g}; probabilities are from 0 to 1"
        )
    off = (probs.sum(-1) - 1).abs() > TOLERANCE
    if off.any():
        place = off.nonzero()[0].tolist() if off.dim() else []
        total = probs.sum(-1)[tuple(place)].item()
        raise GraphError(f"row {place} of the table sums to {total:g}; expected 1, within 1e-4")


class Affine(NamedTuple):
    """What a linear Gaussian says: N(bias + sum of weights times parents, scale scale^T).

    Attributes:
        bias: `[*states, d]`.
        weights: Per continuous parent, `[*states, d, size of the parent]`.
        scale: A factor of the covariance, `[*states, d, d]`; it may be singular.
    """

    bias: Tensor
    weights: dict[str, Tensor]
    scale: Tensor


@final
class LinearGaussian(Conditional):
    r"""A linear Gaussian, perhaps one per state of discrete parents (conditional Gaussian).

    $p(v \mid x, s) = N(v;\, b_s + \sum_i W_{i,s}\, x_i,\, \Sigma_s)$. Standard deviations may be
    zero: then the variable is a function of its parents, and still no density of it is taken.

    Args:
        bias: $b$, `[*states, *event]`; an event is a number or a vector.
        scale: Standard deviations, `[*states, *event]`, 0 or more.
        weights: Per continuous parent $W_i$, `[*states, *event, *event of the parent]`.
        given: The discrete parents, in the order of the leading dimensions `states`.
        scale_tril: Instead of `scale`, for vectors: a lower-triangular factor of $\Sigma$,
            `[*states, d, d]`, of which the diagonal is 0 or more.

    Raises:
        GraphError: Shapes that do not belong together, NaN, a negative scale, both scales or none.

    Example:
        >>> cpd = LinearGaussian(1.0, 0.5, weights={"z": 2.0})
        >>> cpd(torch.tensor([0.0, 3.0])).mean
        tensor([1., 7.], grad_fn=<AddBackward0>)
    """

    def __init__(
        self,
        bias: Tensor | float | Sequence[object],
        scale: Tensor | float | Sequence[object] | None = None,
        *,
        weights: Mapping[str, Tensor | float | Sequence[object]] | None = None,
        given: Sequence[str] = (),
        scale_tril: Tensor | None = None,
    ) -> None:
        super().__init__()
        first = torch.as_tensor(bias)
        dtype = first.dtype if first.is_floating_point() else torch.get_default_dtype()
        tensors = {n: torch.as_tensor(w, dtype=dtype) for n, w in (weights or {}).items()}
        self.parents = (*tensors, *given)
        self.bias = nn.Parameter(first.to(dtype, copy=True))
        self.weights = nn.ParameterList([w.clone() for w in tensors.values()])
        spread = [s for s in (scale, scale_tril) if s is not None]
        if len(spread) != 1:
            raise GraphError(
                f"a linear Gaussian takes scale or scale_tril, one of them, not {spread}"
            )
        spread = torch.as_tensor(spread[0], dtype=dtype)
        self.log_scale = None if scale is None else nn.Parameter(spread.log())
        self.scale_tril = None if scale_tril is None else nn.Parameter(spread.tril())
        self._check(spread)

    @property
    def continuous(self) -> tuple[str, ...]:
        """The continuous parents."""
        return self.parents[: len(self.weights)]

    @property
    def given(self) -> tuple[str, ...]:
        """The discrete parents."""
        return self.parents[len(self.weights) :]

    @property
    def event(self) -> torch.Size:
        """The event shape: `[]` or `[d]`."""
        return self.bias.shape[len(self.given) :]

    def affine(self) -> Affine:
        """Return bias, weights and scale with vectors for events, `[*states, d, ...]`."""
        n, scalar = len(self.given), not self.event
        bias = self.bias.unsqueeze(-1) if scalar else self.bias
        weights = {}
        for name, weight in zip(self.continuous, self.weights, strict=True):
            rows = weight.unsqueeze(n) if scalar else weight
            weights[name] = rows if rows.dim() == n + 2 else rows.unsqueeze(-1)
        return Affine(bias, weights, self._factor())

    def forward(self, *parents: Tensor) -> Distribution:
        """Return the Gaussian for values `[n, ...]` of the parents."""
        values = parents[: len(self.weights)]
        states = tuple(value.long() for value in parents[len(self.weights) :])
        loc = self.bias[states] if states else self.bias
        for weight, value in zip(self.weights, values, strict=True):
            chosen = weight[states] if states else weight
            loc = loc + _times(chosen, value, len(self.event), batched=bool(states))
        if self.log_scale is not None:
            scale = (self.log_scale[states] if states else self.log_scale).exp()
            return Normal(*torch.broadcast_tensors(loc, scale), validate_args=False)
        factor = self._factor()
        chosen = factor[states] if states else factor
        return MultivariateNormal(loc, scale_tril=chosen, validate_args=False)

    def extra_repr(self) -> str:
        """Return the shape of the event and the parents."""
        of = f", {' + '.join(self.continuous)}" if self.continuous else ""
        return f"event {list(self.event)}{of}" + (
            f" | {', '.join(self.given)}" if self.given else ""
        )

    def _factor(self) -> Tensor:
        """Return the factor of the covariance, `[*states, d, d]`."""
        if self.scale_tril is not None:
            return self.scale_tril.tril()
        assert self.log_scale is not None
        scale = self.log_scale.exp()
        return scale[..., None, None] if not self.event else scale.diag_embed()

    def _check(self, spread: Tensor) -> None:
        states, event = self.bias.shape[: len(self.given)], self.event
        full = self.scale_tril is not None
        if self.bias.dim() < len(self.given) or len(event) > 1 or (full and not event):
            raise GraphError(
                f"bias has the shape {list(self.bias.shape)}; expected [*states, *event] with"
                f" {len(self.given)} dimensions of states ({', '.join(self.given) or 'none'}) and"
                f" an event that is a {'vector' if full else 'number or a vector'}"
            )
        expected = (*self.bias.shape, *(event if full else ()))
        if spread.shape != expected:
            name = "scale_tril" if full else "scale"
            raise GraphError(f"{name} has the shape {list(spread.shape)}, not {list(expected)}")
        for name, weight in zip(self.continuous, self.weights, strict=True):
            lead = (*states, *event)
            if weight.shape[: len(lead)] != lead or weight.dim() > len(lead) + 1:
                raise GraphError(
                    f"the weight of {name} has the shape {list(weight.shape)}; expected"
                    f" {[*lead]} and then the event of {name}, a number or a vector"
                )
        least = spread.diagonal(dim1=-2, dim2=-1) if full else spread
        for name, value in (("scale", least), *zip(self.continuous, self.weights, strict=True)):
            if not value.isfinite().all():
                raise GraphError(f"{name} of the linear Gaussian holds NaN or infinity")
        if (least < 0).any() or not self.bias.isfinite().all():
            raise GraphError(
                f"bias must be finite and scales 0 or more; came {self.bias.tolist()} and"
                f" {least.tolist()}"
            )


def _times(weight: Tensor, value: Tensor, event: int, *, batched: bool) -> Tensor:
    """Return W x for rows of x, one W for all rows or one each."""
    lead = int(batched) + event
    if weight.dim() == lead:  # the parent is a number
        return weight * (value.unsqueeze(-1) if event else value)
    if not batched:
        return value @ weight.mT if event else value @ weight
    if not event:
        return (weight * value).sum(-1)
    return (weight @ value.unsqueeze(-1)).squeeze(-1)
