"""Oracle: the joint Gaussian of a network as one dense matrix, conditioned by the textbook."""

import itertools
import math
from typing import Any

import numpy as np
import torch

from daguerre.cpds import Affine
from daguerre.infer.gaussian import LinearVariable


def linear(name: str, bias: Any = 0.0, scale: Any = 1.0, given=(), **weights: Any):
    """A variable from numbers or nested lists; a scalar event unless bias is a longer vector."""
    bias = torch.as_tensor(bias, dtype=torch.float64)
    bias = bias.unsqueeze(-1) if bias.dim() == len(given) else bias
    scale = torch.as_tensor(scale, dtype=torch.float64)
    if scale.dim() <= len(given):
        scale = scale.expand(bias.shape[:-1]).unsqueeze(-1).expand_as(bias)
    if scale.dim() == len(given) + 1:
        scale = scale.diag_embed()
    d, slopes = bias.shape[-1], {}
    for parent, weight in weights.items():
        w = torch.as_tensor(weight, dtype=torch.float64)
        lead = bias.shape[:-1]
        slopes[parent] = (w.expand(lead) if w.dim() < len(lead) else w).reshape(*lead, d, -1)
    return LinearVariable(name, Affine(bias, slopes, scale), tuple(given))


def column(*values):
    """Values of a scalar variable, one a row."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def joint(variables, config=None):
    """Mean, covariance and the place of each variable, at one discrete configuration."""
    config = config or {}
    sizes = [v.size for v in variables]
    ends = list(itertools.accumulate(sizes))
    place = {v.name: slice(e - d, e) for v, d, e in zip(variables, sizes, ends, strict=True)}
    n = ends[-1]
    bias, weights, noise = np.zeros(n), np.zeros((n, n)), np.zeros((n, n))
    for v in variables:
        at = tuple(config[g] for g in v.given)
        bias[place[v.name]] = v.affine.bias[at].detach().numpy()
        scale = v.affine.scale[at].detach().numpy()
        noise[place[v.name], place[v.name]] = scale @ scale.T
        for parent, weight in v.affine.weights.items():
            weights[place[v.name], place[parent]] = weight[at].detach().numpy()
    through = np.linalg.inv(np.eye(n) - weights)
    return through @ bias, through @ noise @ through.T, place


def conditioned(mean, cov, seen, values):
    """Log-density of some components, and moments of all given them; regular matrices only."""
    gain = np.linalg.solve(cov[np.ix_(seen, seen)], cov[seen]).T
    off = values - mean[seen]
    quadratic = off @ np.linalg.solve(cov[np.ix_(seen, seen)], off)
    log_det = np.linalg.slogdet(cov[np.ix_(seen, seen)])[1]
    log_prob = -0.5 * (quadratic + log_det + len(seen) * math.log(2 * math.pi))
    return log_prob, mean + gain @ off, cov - gain @ cov[seen]


def oracle(variables, observed, config=None):
    """The same for values `{name: [d]}` of variables, NaN for missing components."""
    mean, cov, place = joint(variables, config)
    seen, values = [], []
    for name, value in observed.items():
        for i, x in zip(range(place[name].start, place[name].stop), np.ravel(value), strict=True):
            if not math.isnan(x):
                seen.append(i)
                values.append(x)
    return *conditioned(mean, cov, seen, np.array(values)), place
