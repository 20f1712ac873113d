"""The costs that people name, each a few lines on top of the algebra of divergences."""

from daguerre.objectives.recipes.admissible import objectives_for
from daguerre.objectives.recipes.adversarial import (
    IWGAN,
    aae,
    aavae,
    ali,
    cyclegan,
    infogan,
    iwgan,
    vae_gan,
)
from daguerre.objectives.recipes.basic import elbo, gan, iwae, nll

__all__ = [
    "IWGAN",
    "aae",
    "aavae",
    "ali",
    "cyclegan",
    "elbo",
    "gan",
    "infogan",
    "iwae",
    "iwgan",
    "nll",
    "objectives_for",
    "vae_gan",
]
