"""Deep latent-variable models as directed graphs whose CPDs are PyTorch.

A model is a directed graph whose CPDs are ordinary PyTorch. A cost function is a divergence
between two such models. The library works out which costs a graph admits, how each is estimated,
and runs it fast.
"""

# namespaces: reached as dg.games.HINGE, dg.nets.from_onnx, dg.formats.read_uai, ...
from daguerre import formats as formats
from daguerre import infer as infer
from daguerre import joint as joint
from daguerre import nets as nets
from daguerre import nn as nn
from daguerre import objectives as objectives
from daguerre import structure as structure
from daguerre import train as train
from daguerre.compose import do, model, replace
from daguerre.counterfactual import counterfactual
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.elimination import eliminate
from daguerre.empirical import data
from daguerre.evaluate import evaluate
from daguerre.export import export
from daguerre.families import StandardNormal
from daguerre.formats import read_bif, write_bif
from daguerre.graph import Graph, GraphError, InadmissibleError, Plate
from daguerre.infer import (
    Answer,
    em,
    explain,
    log_evidence,
    most_probable,
    posterior,
    sample_posterior,
)
from daguerre.lags import lag
from daguerre.model import Input, Model, bijection, deterministic, rv
from daguerre.nets import from_module, units
from daguerre.objectives import (
    JS,
    KL,
    MMD,
    Objective,
    Wasserstein,
    augmented,
    cross_entropy,
    elbo,
    expectation,
    f_divergence,
    gan,
    iwae,
    log_ratio,
    nll,
    objectives_for,
    wake_sleep,
)
from daguerre.objectives import estimators as estimators
from daguerre.objectives import f as f
from daguerre.objectives import games as games
from daguerre.objectives import penalties as penalties
from daguerre.objectives import rates as rates
from daguerre.objectives import recipes as recipes
from daguerre.structure import (
    independent,
    inverse,
    markov_blanket,
    moralize,
    requisite,
)
from daguerre.train import SGD, Adam, RMSprop, fit, load, save
from daguerre.views import draw

__version__ = "0.1.0"

__all__ = [
    "JS",
    "KL",
    "MMD",
    "SGD",
    "Adam",
    "Answer",
    "Graph",
    "GraphError",
    "InadmissibleError",
    "Input",
    "LinearGaussian",
    "Model",
    "Objective",
    "Plate",
    "RMSprop",
    "StandardNormal",
    "Tabular",
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
    "em",
    "evaluate",
    "expectation",
    "explain",
    "export",
    "f_divergence",
    "fit",
    "from_module",
    "gan",
    "independent",
    "inverse",
    "iwae",
    "lag",
    "load",
    "log_evidence",
    "log_ratio",
    "markov_blanket",
    "model",
    "moralize",
    "most_probable",
    "nll",
    "objectives_for",
    "posterior",
    "read_bif",
    "replace",
    "requisite",
    "rv",
    "sample_posterior",
    "save",
    "units",
    "wake_sleep",
    "write_bif",
]
