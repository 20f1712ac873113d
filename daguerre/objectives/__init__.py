"""Costs: divergences between joints, the games they make, and the recipes people name."""

from daguerre.objectives import estimators, f, games, penalties, rates, recipes
from daguerre.objectives.adversarial import JS, log_ratio
from daguerre.objectives.aggregate import (
    dimension_wise_kl,
    mutual_information,
    total_correlation,
)
from daguerre.objectives.density import KL, cross_entropy
from daguerre.objectives.expectation import covariance_penalty, expectation
from daguerre.objectives.f import f_divergence
from daguerre.objectives.moments import MMD
from daguerre.objectives.objective import Objective, Player
from daguerre.objectives.permuted import permuted
from daguerre.objectives.priors import prior
from daguerre.objectives.recipes import elbo, gan, iwae, nll, objectives_for, wake_sleep
from daguerre.objectives.subsample import subsampled
from daguerre.objectives.transport import sinkhorn, sliced_wasserstein
from daguerre.objectives.unified import augmented, swap
from daguerre.objectives.wasserstein import Wasserstein

__all__ = [
    "JS",
    "KL",
    "MMD",
    "Objective",
    "Player",
    "Wasserstein",
    "augmented",
    "covariance_penalty",
    "cross_entropy",
    "dimension_wise_kl",
    "elbo",
    "estimators",
    "expectation",
    "f",
    "f_divergence",
    "games",
    "gan",
    "iwae",
    "log_ratio",
    "mutual_information",
    "nll",
    "objectives_for",
    "penalties",
    "permuted",
    "prior",
    "rates",
    "recipes",
    "sinkhorn",
    "sliced_wasserstein",
    "subsampled",
    "swap",
    "total_correlation",
    "wake_sleep",
]
