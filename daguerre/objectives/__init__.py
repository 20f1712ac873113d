"""Costs: divergences between joints, the games they make, and the recipes people name."""

from daguerre.objectives import estimators, f, rates, recipes
from daguerre.objectives.adversarial import JS, MINIMAX, NON_SATURATING, GameLoss, log_ratio
from daguerre.objectives.density import KL, cross_entropy
from daguerre.objectives.f import f_divergence
from daguerre.objectives.moments import MMD
from daguerre.objectives.objective import Objective, Player
from daguerre.objectives.recipes import elbo, gan, iwae, nll, objectives_for

__all__ = [
    "JS",
    "KL",
    "MINIMAX",
    "MMD",
    "NON_SATURATING",
    "GameLoss",
    "Objective",
    "Player",
    "cross_entropy",
    "elbo",
    "estimators",
    "f",
    "f_divergence",
    "gan",
    "iwae",
    "log_ratio",
    "nll",
    "objectives_for",
    "rates",
    "recipes",
]
