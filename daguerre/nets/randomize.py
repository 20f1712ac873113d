"""From a net to a model with random weights or activations, in one call."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.distributions import Distribution

from daguerre.compose import CPD, read_cpd
from daguerre.declare import Input
from daguerre.families import shared
from daguerre.graph import GraphError, Variable, did_you_mean
from daguerre.nets.imported import Imported
from daguerre.nets.modules import from_module
from daguerre.nets.randomized import OUTPUT, Activation, Base, Randomized, Whole
from daguerre.program import is_learned

__all__ = ["randomize"]

Prior = Distribution | Mapping[str, Distribution]


def randomize(
    net: nn.Module,
    *example: Any,
    weights: Prior | None = None,
    activations: Mapping[str, Activation] | None = None,
    rows: int = 1,
    **cpds: CPD,
) -> Randomized:
    r"""Make weights or activations of a net random variables: a Bayesian neural net in one line.

    $p(w, y \mid x) = p(w)\, p(y \mid f_w(x))$. Weights are variables of the names of the
    parameters, `fc.weight`, and parents of what uses them; each row of a batch draws weights of
    its own. The rest of the net is as `from_module` reads it, or without an example one variable
    `output`. The net stays as it is and shares the parameters that are not random.

    Args:
        net: Any `nn.Module`, or what `dg.from_module` made of one.
        example: What it is called with, to look into it; needed for `activations`.
        weights: The prior of all parameters, or priors by the names of parameters or modules. It
            is one for every entry, or has the shape of the parameter.
        activations: For variables of the net, a function from their value `[n, ...]` to a
            Distribution of it; `{"fc1": lambda h: Normal(h, 0.1)}`.
        rows: How many rows of data share one draw of the weights: the size of the data set, for a
            Bayesian net. Their density counts once for all these rows; see `families.shared`.
        cpds: More variables, as for `dg.model`: `y=lambda output: Normal(output, 0.1)`. Their
            parents are variables of the net; `output` is what the net returns.

    Returns:
        A Model; its `mean_field()` is a q of the weights for `elbo`.

    Raises:
        GraphError: An unknown parameter, module or variable; a prior that does not fit its
            parameter or has learned parameters; nothing to make random.
        TypeError: A prior that is no Distribution.

    References:
        MacKay (1992); Blundell et al. (2015, arXiv 1505.05424).

    Example:
        >>> import daguerre as dg
        >>> import torch
        >>> from torch.distributions import Normal
        >>> net = nn.Linear(2, 1)
        >>> p = dg.nets.randomize(
        ...     net, weights=Normal(0.0, 1.0), rows=100, y=lambda output: Normal(output, 0.1)
        ... )
        >>> p.graph
        Graph(-> weight; -> bias; input; input, weight, bias => output; output -> y)
        >>> cost = dg.elbo(p, p.mean_field())
        >>> cost.losses({"input": torch.ones(5, 2), "y": torch.ones(5, 1)}).keys()
        dict_keys(['model'])
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"randomize takes an nn.Module, not {net!r}")
    if rows < 1:
        raise ValueError(f"rows is how many rows of data share the weights, 1 or more, not {rows}")
    base = _base(net, example)
    priors = _priors(base.net, weights or {})
    _check_activations(base, activations or {})
    read = {name: _added(base, name, cpd) for name, cpd in cpds.items()}
    if not priors and not activations:
        raise GraphError("nothing is random: say weights=prior or activations={...}")
    fixed = _without(base, set(priors))
    distributions = {name: shared(prior, rows) for name, prior in priors.items()}
    return Randomized(fixed, distributions, activations or {}, read, rows)


def _base(net: nn.Module, example: tuple[Any, ...]) -> Base:
    if isinstance(net, Imported):
        return net
    return from_module(net, *example) if example else Whole(net)


def _priors(net: nn.Module, weights: Prior) -> dict[str, Distribution]:
    """Return the prior of each parameter that is to be random, in its shape."""
    parameters = dict(net.named_parameters())
    if isinstance(weights, Distribution):
        return {name: _fitted(name, p, weights) for name, p in parameters.items()}
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights is a Distribution, or one by names, not {weights!r}")
    priors: dict[str, Distribution] = {}
    modules = {name for name, _ in net.named_modules() if name}
    for key, prior in weights.items():
        names = [n for n in parameters if n == key or n.startswith(f"{key}.")]
        if not names:
            hint = did_you_mean(key, [*parameters, *modules])
            raise GraphError(f"the net has no parameter or module {key!r}{hint}")
        priors |= {name: _fitted(name, parameters[name], prior) for name in names}
    return {name: priors[name] for name in parameters if name in priors}


def _fitted(name: str, parameter: Tensor, prior: Distribution) -> Distribution:
    if not isinstance(prior, Distribution):
        raise TypeError(f"the prior of {name} is a Distribution, not {prior!r}")
    if is_learned(prior):
        raise GraphError(
            f"the prior of {name} requires a gradient, but would be neither trained nor saved;"
            " give it fixed parameters"
        )
    try:
        fitted = prior.expand(parameter.shape[: parameter.dim() - len(prior.event_shape)])
    except RuntimeError:
        fitted = prior
    if fitted.batch_shape + fitted.event_shape != parameter.shape:
        raise GraphError(
            f"the prior of {name} has the shape {list(prior.batch_shape + prior.event_shape)},"
            f" the parameter {list(parameter.shape)}; give one for a single entry, Normal(0.0,"
            " 1.0), or one of that shape"
        )
    return fitted


def _check_activations(base: Base, activations: Mapping[str, Activation]) -> None:
    for name in activations:
        if base.graph[name].map != "deterministic":
            raise GraphError(f"{name} is {base.graph[name].map} already; only a map can be lifted")


def _added(base: Base, name: str, cpd: CPD) -> tuple[Variable, nn.Module]:
    """Read a CPD beside the net; its parent `output` is what the net returns."""
    if name in base.graph:
        raise GraphError(f"the net has a variable {name!r} already; name yours otherwise")
    variable, module = read_cpd(name, cpd)
    if isinstance(module, Input):
        raise GraphError(f"{name}: the inputs are those of the net; give a CPD")
    if OUTPUT in variable.parents and OUTPUT not in base.graph:
        (output,) = _outputs(base)
        parents = tuple(output if p == OUTPUT else p for p in variable.parents)
        variable = replace(variable, parents=parents)
    return variable, module


def _outputs(base: Base) -> list[str]:
    """Return the variable that the net returns, of which there must be one."""
    names = [x for x in pytree.tree_leaves(getattr(base, "outputs", OUTPUT)) if x in base.graph]
    if len(names) != 1:
        raise GraphError(
            f"the net returns {len(names)} tensors, so `output` could be any of"
            f" {', '.join(names)}; name the parent after one of them"
        )
    return names


def _without(base: Base, random: set[str]) -> Base:
    """Return a copy in which the random weights are buffers; the others are those of the net."""
    kept = {id(p): p for n, p in base.net.named_parameters() if n not in random}
    twin = copy.deepcopy(base, dict(kept))
    buffers = {id(p): p.detach() for n, p in twin.net.named_parameters() if n in random}
    for module in twin.net.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in buffers:
                delattr(module, name)
                module.register_buffer(name, buffers[id(parameter)])
    return twin
