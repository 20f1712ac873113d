"""Costs: divergences between joints, the games they make, and the recipes people name."""

from daguerre.objectives import f, games, penalties
from daguerre.objectives.adversarial import JS, log_ratio
from daguerre.objectives.density import KL
from daguerre.objectives.f import f_divergence
from daguerre.objectives.games import MINIMAX, NON_SATURATING, GameLoss
from daguerre.objectives.moments import MMD
from daguerre.objectives.objective import Objective, Player
from daguerre.objectives.recipes import elbo, gan, iwae, nll, objectives_for
from daguerre.objectives.wasserstein import Wasserstein

__all__ = [
    "JS",
    "KL",
    "MINIMAX",
    "MMD",
    "NON_SATURATING",
    "GameLoss",
    "Objective",
    "Player",
    "Wasserstein",
    "elbo",
    "f",
    "f_divergence",
    "games",
    "gan",
    "iwae",
    "log_ratio",
    "nll",
    "objectives_for",
    "penalties",
]
