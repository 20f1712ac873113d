"""Integrate linear-Gaussian variables out, for every configuration of discrete ones.

A block is a set of continuous variables, each linear in its continuous parents, with numbers
that depend on the states of discrete parents: a conditional Gaussian (Lauritzen 1992; Lauritzen
and Jensen 2001). Given the discrete variables everything is Gaussian, so the continuous ones are
eliminated first: what remains is a factor over the discrete ones, and moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import pad

from daguerre.cpds import Affine
from daguerre.graph import GraphError
from daguerre.infer.gaussian.distributions import Gaussian
from daguerre.infer.gaussian.evidence import atoms_win
from daguerre.infer.gaussian.patterns import Linear, condition_rows

__all__ = ["BlockSolution", "LinearVariable", "solve"]


@dataclass(frozen=True)
class LinearVariable:
    """A continuous variable that is linear in its continuous parents.

    Attributes:
        name: Its name.
        affine: Bias `[*cards, d]`, weights per continuous parent `[*cards, d, d of the parent]`,
            scale `[*cards, d, d]`.
        given: The discrete variables that the leading dimensions `cards` belong to, in order.
    """

    name: str
    affine: Affine
    given: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """The continuous parents."""
        return tuple(self.affine.weights)

    @property
    def size(self) -> int:
        """The number of components."""
        return self.affine.bias.shape[-1]


@dataclass(frozen=True)
class BlockSolution:
    """A block after its continuous variables are integrated out.

    Attributes:
        boundary: The discrete variables that the dimensions `cards` belong to.
        log_evidence: Log-density of the observed components, `[rows, *cards]`; -inf where it is
            impossible, or where another configuration explains more of it exactly.
        atoms: How many observed components have no density since they are functions of others,
            `[rows or 1, *cards]`.
        mean: Posterior means of the targets, one after the other, `[rows, *cards, D]`.
        covariance: Their joint posterior covariance, `[rows or 1, *cards, D, D]`: one for all
            rows that miss the same components.
        slices: Where each target is among the D components.
    """

    boundary: tuple[str, ...]
    log_evidence: Tensor
    atoms: Tensor
    mean: Tensor
    covariance: Tensor
    slices: Mapping[str, slice]

    @cached_property
    def factor(self) -> Tensor:
        """A matrix F with covariance F F^T, `[rows or 1, *cards, D, D]`."""
        return Gaussian(self.mean, self.covariance).factor

    def draw(self, n: int, states: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Draw the targets jointly, given the discrete variables.

        Args:
            n: The number of draws.
            states: State numbers of the boundary, `[n, rows]` each.

        Returns:
            Per target, `[n, rows, d]`.
        """
        rows = torch.arange(len(self.mean), device=self.mean.device)
        place = tuple((states or {})[name] for name in self.boundary)
        mean = self.mean[(rows, *place)]
        factor = self.factor[(rows if len(self.factor) > 1 else 0, *place)]
        noise = mean.new_empty(n, *self.mean.shape[:1], self.mean.shape[-1], 1).normal_()
        values = mean + (factor @ noise)[..., 0]
        return {name: values[..., part] for name, part in self.slices.items()}

    def moments(self, target: str) -> tuple[Tensor, Tensor]:
        """Return a target's mean `[rows, *cards, d]`, covariance `[rows or 1, *cards, d, d]`."""
        place = self.slices[target]
        return self.mean[..., place], self.covariance[..., place, place]


def solve(
    variables: Sequence[LinearVariable],
    cards: Mapping[str, int],
    *,
    observed: Mapping[str, Tensor],
    targets: Sequence[str] = (),
    possible: Tensor | None = None,
) -> BlockSolution:
    r"""Return the evidence and the posterior moments of a block, per discrete configuration.

    Each variable is $m + M \epsilon$ with standard noise $\epsilon$, so that variances may be zero
    and nothing singular is inverted (`condition` says what a density means then). Observed
    variables are known values to their children. Rows with the same missing components share
    their factorisation.

    Args:
        variables: The block, parents first.
        cards: Numbers of states of the discrete variables; the boundary keeps their order.
        observed: Values `[rows or 1, *event]`; NaN marks a missing component. Continuous parents
            from outside the block are here too, without NaN.
        targets: Variables of the block.
        possible: Which configurations have a positive probability given all else,
            `[rows or 1, *cards]`: point masses elsewhere do not count.

    Raises:
        GraphError: A parent comes after its child or is unknown, a shape does not fit, or
            evidence is infinite.

    Example:
        >>> unit = torch.ones(1, 1)
        >>> z = LinearVariable("z", Affine(torch.zeros(1), {}, unit))
        >>> x = LinearVariable("x", Affine(torch.zeros(1), {"z": unit}, unit))
        >>> found = solve([z, x], {}, observed={"x": torch.tensor([[2.0]])}, targets=["z"])
        >>> found.log_evidence, found.mean, found.covariance
        (tensor([-2.2655]), tensor([[1.]]), tensor([[[0.5000]]]))
    """
    used = {name for v in variables for name in v.given}
    boundary = tuple(name for name in cards if name in used)
    shape = tuple(cards[name] for name in boundary)
    for variable in variables:
        _check_variable(variable, cards)
    variables, observed, eps = _in_one_type(variables, observed)
    values = {name: _vectors(name, value) for name, value in observed.items()}
    block = _unroll(variables, boundary, values)
    if unknown := [name for name in targets if name not in block]:
        raise GraphError(f"the targets {unknown} are not in the block {[*block]}")
    seen = [v.name for v in variables if v.name in values]
    _check_values(seen, block, values)
    rows = max([len(value) for value in values.values()], default=1)
    evidence, wanted = (_stack(names, block, len(boundary)) for names in (seen, targets))
    nothing = evidence.mean.new_zeros(rows, 0)
    value = torch.cat([nothing, *[values[name].expand(rows, -1) for name in seen]], -1)
    found = condition_rows(evidence, wanted, value, eps=eps)
    log_evidence, atoms = found.log_evidence.expand(rows, *shape), found.atoms.expand(-1, *shape)
    d = wanted.mean.shape[-1]
    return BlockSolution(
        boundary,
        atoms_win(log_evidence, atoms, possible),
        atoms,
        found.mean.expand(rows, *shape, d),
        found.covariance.expand(-1, *shape, d, d),
        _slices(targets, block),
    )


def _in_one_type(
    variables: Sequence[LinearVariable], observed: Mapping[str, Tensor]
) -> tuple[list[LinearVariable], dict[str, Tensor], float]:
    """Return all in the widest type, and the precision of the narrowest."""
    tensors = [x for v in variables for x in (v.affine.bias, *v.affine.weights.values())]
    types = {x.dtype for x in (*tensors, *(v.affine.scale for v in variables), *observed.values())}
    types = [t for t in types if t.is_floating_point]
    wide, eps = reduce(torch.promote_types, types), max(torch.finfo(t).eps for t in types)
    return (
        [replace(v, affine=_cast(v.affine, wide)) for v in variables],
        {name: value.to(wide) for name, value in observed.items()},
        eps,
    )


def _cast(affine: Affine, dtype: torch.dtype) -> Affine:
    weights = {name: weight.to(dtype) for name, weight in affine.weights.items()}
    return Affine(affine.bias.to(dtype), weights, affine.scale.to(dtype))


def _unroll(
    variables: Sequence[LinearVariable], boundary: tuple[str, ...], values: Mapping[str, Tensor]
) -> dict[str, Linear]:
    """Return each variable as a linear function of known values and of all noise."""
    ones = [1] * len(boundary)
    known = {
        name: value.reshape(len(value), *ones, value.shape[-1])
        for name, value in values.items()
        if not value.isnan().any()
    }
    noisy = {v.name: v.size for v in variables if v.affine.scale.detach().any()}
    total, before = sum(noisy.values()), 0
    found: dict[str, Linear] = {}
    for v in variables:
        bias, scale = (_align(x, v.given, boundary) for x in (v.affine.bias, v.affine.scale))
        width = noisy.get(v.name, 0)
        mean = bias
        factor = pad(scale[..., :width], (before, total - before - width))
        before += width
        for parent, weight in v.affine.weights.items():
            weight = _align(weight, v.given, boundary)
            if parent in known:
                mean = mean + _times(weight, known[parent], (parent, v.name))
            elif parent in found:
                mean = mean + _times(weight, found[parent].mean, (parent, v.name))
                factor = factor + weight @ found[parent].factor
            else:
                raise GraphError(_orphan(parent, v.name, values))
        found[v.name] = Linear(mean, factor)
    return found


def _times(weight: Tensor, value: Tensor, edge: tuple[str, str]) -> Tensor:
    if weight.shape[-1] != value.shape[-1]:
        raise GraphError(
            f"{edge[0]} -> {edge[1]}: the weight takes {weight.shape[-1]} components, but"
            f" {edge[0]} has {value.shape[-1]}"
        )
    return torch.einsum("...ij,...j->...i", weight, value)


def _align(x: Tensor, given: tuple[str, ...], boundary: tuple[str, ...]) -> Tensor:
    """Give the dimensions `given` the order of the boundary, 1 where one is absent, and a row."""
    order = sorted(range(len(given)), key=lambda i: boundary.index(given[i]))
    x = x.permute(*order, *range(len(given), x.dim()))
    return x[(None, *(slice(None) if name in given else None for name in boundary))]


def _stack(names: Sequence[str], block: Mapping[str, Linear], axes: int) -> Linear:
    """Return variables one after the other."""
    if not names:
        like = next(iter(block.values())).factor
        ones = [1] * (1 + axes)
        return Linear(like.new_zeros(*ones, 0), like.new_zeros(*ones, 0, like.shape[-1]))
    means, factors = zip(*[block[name] for name in names], strict=True)
    lead = torch.broadcast_shapes(*[m.shape[:-1] for m in means])
    first = torch.broadcast_shapes(*[f.shape[:-2] for f in factors])
    return Linear(
        torch.cat([m.expand(*lead, -1) for m in means], -1),
        torch.cat([f.expand(*first, -1, -1) for f in factors], -2),
    )


def _slices(names: Sequence[str], block: Mapping[str, Linear]) -> dict[str, slice]:
    sizes = [block[name].mean.shape[-1] for name in names]
    ends = accumulate(sizes)
    return {n: slice(e - d, e) for n, d, e in zip(names, sizes, ends, strict=True)}


def _vectors(name: str, value: Tensor) -> Tensor:
    """Return values `[rows, *event]` as `[rows, d]`."""
    if value.isinf().any():
        raise GraphError(f"the evidence on {name} is infinite; a Gaussian has finite values")
    return value.unsqueeze(-1).flatten(1)


def _orphan(parent: str, child: str, values: Mapping[str, Tensor]) -> str:
    if parent in values:
        return f"{parent}, a parent of {child} outside the block, is NaN; it has to be known"
    return f"{parent} -> {child}: {parent} is neither observed nor before {child} in the block"


def _check_variable(v: LinearVariable, cards: Mapping[str, int]) -> None:
    if unknown := [name for name in v.given if name not in cards]:
        raise GraphError(f"{v.name}: the sizes of {unknown} are not among the cards {[*cards]}")
    lead = tuple(cards[name] for name in v.given)
    shapes = {"bias": (v.affine.bias, (v.size,)), "scale": (v.affine.scale, (v.size, v.size))}
    for parent, weight in v.affine.weights.items():
        shapes[f"weight of {parent}"] = weight, (v.size, weight.shape[-1])
    for what, (tensor, event) in shapes.items():
        if tensor.shape != (*lead, *event):
            raise GraphError(
                f"the {what} of {v.name} has the shape {list(tensor.shape)}; expected"
                f" {[*lead, *event]}, of which {list(lead)} are states of {list(v.given)}"
            )


def _check_values(
    seen: Sequence[str], block: Mapping[str, Linear], values: Mapping[str, Tensor]
) -> None:
    for name in seen:
        size, came = block[name].mean.shape[-1], values[name].shape[-1]
        if size != came:
            raise GraphError(f"the evidence on {name} has {came} components a row, not {size}")
    rows = {name: len(value) for name, value in values.items() if len(value) != 1}
    if len(set(rows.values())) > 1:
        raise GraphError(f"the evidence differs in its numbers of rows: {rows}")
