"""Models that are exported, and what they are given."""

import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Cauchy,
    Exponential,
    Independent,
    Laplace,
    LogNormal,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Uniform,
)

import daguerre as dg

FAMILIES = {
    "Normal": lambda z: Normal(z, 2.0),
    "Independent": lambda z: Independent(Normal(z, 2.0), 1),
    "LogNormal": lambda z: LogNormal(z, 0.5),
    "Laplace": lambda z: Laplace(z, 2.0),
    "Cauchy": lambda z: Cauchy(z, 2.0),
    "Exponential": lambda z: Exponential(z.exp()),
    "Uniform": lambda z: Uniform(z, z + 2.0),
    "Bernoulli": lambda z: Bernoulli(logits=z),
    "Categorical": lambda z: Categorical(logits=z),
    "OneHotCategorical": lambda z: OneHotCategorical(logits=z),
    "MultivariateNormal": lambda z: MultivariateNormal(
        z, scale_tril=torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [-0.5, 0.2, 2]])
    ),
}


def below(cpd):
    """z ~ N(0, I) in three dimensions, and x below it."""
    return dg.model(z=dg.StandardNormal(3), x=cpd)


def first(exported, rows):
    return {name: value[:rows] for name, value in exported.example.items()}
