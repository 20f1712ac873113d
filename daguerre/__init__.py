"""Deep latent-variable models as directed graphs whose CPDs are PyTorch.

A model is a directed graph whose CPDs are ordinary PyTorch. A cost function is a divergence
between two such models. The library works out which costs a graph admits, how each is estimated,
and runs it fast.
"""

from daguerre import nn
from daguerre import objectives as objectives
from daguerre import structure as structure
from daguerre.compose import do, model, replace
from daguerre.counterfactual import counterfactual
from daguerre.draw import draw
from daguerre.elimination import eliminate
from daguerre.empirical import data
from daguerre.evaluate import evaluate
from daguerre.families import StandardNormal
from daguerre.graph import Graph, GraphError, InadmissibleError, Plate
from daguerre.joint import Joint
from daguerre.lags import lag
from daguerre.model import Input, Model, bijection, deterministic, rv
from daguerre.nets import from_module, from_onnx, randomize, units
from daguerre.objectives import (
    JS,
    KL,
    MMD,
    Objective,
    Wasserstein,
    augmented,
    cross_entropy,
    elbo,
    estimators,
    expectation,
    f,
    f_divergence,
    games,
    gan,
    iwae,
    log_ratio,
    nll,
    objectives_for,
    penalties,
    rates,
    recipes,
    swap,
    wake_sleep,
)
from daguerre.structure import (
    independent,
    inverse,
    markov_blanket,
    moralize,
    requisite,
)
from daguerre.train import SGD, Adam, RMSprop, Step, fit, load, save

__version__ = "0.1.0"

__all__ = [
    "JS",
    "KL",
    "MMD",
    "SGD",
    "Adam",
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
    "Wasserstein",
    "augmented",
    "bijection",
    "counterfactual",
    "cross_entropy",
    "data",
    "deterministic",
    "do",
    "draw",
    "elbo",
    "eliminate",
    "estimators",
    "evaluate",
    "expectation",
    "f",
    "f_divergence",
    "fit",
    "from_module",
    "from_onnx",
    "games",
    "gan",
    "independent",
    "inverse",
    "iwae",
    "lag",
    "load",
    "log_ratio",
    "markov_blanket",
    "model",
    "moralize",
    "nll",
    "nn",
    "objectives_for",
    "penalties",
    "randomize",
    "rates",
    "recipes",
    "replace",
    "requisite",
    "rv",
    "save",
    "swap",
    "units",
    "wake_sleep",
]
