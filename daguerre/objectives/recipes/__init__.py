"""The costs that people name, each a few lines on top of the algebra of divergences."""

from daguerre.objectives.recipes.admissible import objectives_for
from daguerre.objectives.recipes.basic import elbo, gan, iwae, nll

__all__ = ["elbo", "gan", "iwae", "nll", "objectives_for"]
