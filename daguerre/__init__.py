"""Deep latent-variable models as directed graphs whose CPDs are PyTorch.

A model is a directed graph whose CPDs are ordinary PyTorch. A cost function is a divergence
between two such models. The library works out which costs a graph admits, how each is estimated,
and runs it fast.
"""

from daguerre import nn
from daguerre.compose import do, model, replace
from daguerre.counterfactual import counterfactual
from daguerre.draw import draw
from daguerre.elimination import eliminate
from daguerre.empirical import data
from daguerre.evaluate import evaluate
from daguerre.families import StandardNormal
from daguerre.graph import Graph, GraphError, InadmissibleError, Plate
from daguerre.joint import Joint
from daguerre.model import Input, Model, bijection, deterministic, rv
from daguerre.nets import from_module, from_onnx, randomize, units
from daguerre.objectives import (
    JS,
    KL,
    MINIMAX,
    MMD,
    NON_SATURATING,
    GameLoss,
    Objective,
    cross_entropy,
    elbo,
    estimators,
    f,
    f_divergence,
    gan,
    iwae,
    log_ratio,
    nll,
    objectives_for,
    rates,
    recipes,
)
from daguerre.structure import (
    active_trail,
    equivalent,
    independent,
    inverse,
    lint,
    markov_blanket,
    minimal_separator,
    moralize,
    requisite,
)
from daguerre.train import SGD, Adam, RMSprop, Step, fit, load, save

__version__ = "0.1.0"

__all__ = [
    "JS",
    "KL",
    "MINIMAX",
    "MMD",
    "NON_SATURATING",
    "SGD",
    "Adam",
    "GameLoss",
    "Graph",
    "GraphError",
    "InadmissibleError",
    "Input",
    "Joint",
    "Model",
    "Objective",
    "Plate",
    "RMSprop",
    "StandardNormal",
    "Step",
    "active_trail",
    "bijection",
    "counterfactual",
    "cross_entropy",
    "data",
    "deterministic",
    "do",
    "draw",
    "elbo",
    "eliminate",
    "equivalent",
    "estimators",
    "evaluate",
    "f",
    "f_divergence",
    "fit",
    "from_module",
    "from_onnx",
    "gan",
    "independent",
    "inverse",
    "iwae",
    "lint",
    "load",
    "log_ratio",
    "markov_blanket",
    "minimal_separator",
    "model",
    "moralize",
    "nll",
    "nn",
    "objectives_for",
    "randomize",
    "rates",
    "recipes",
    "replace",
    "requisite",
    "rv",
    "save",
    "units",
]
