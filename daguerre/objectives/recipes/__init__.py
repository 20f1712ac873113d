"""The costs that people name, each a few lines on top of the algebra of divergences."""

from daguerre.objectives.recipes.admissible import objectives_for
from daguerre.objectives.recipes.adversarial import (
    aae,
    aavae,
    ali,
    cyclegan,
    infogan,
    iwgan,
    vae_gan,
)
from daguerre.objectives.recipes.basic import elbo, gan, iwae, nll
from daguerre.objectives.recipes.variational import (
    avb,
    beta_tc_vae,
    dip_vae,
    factor_vae,
    fivo,
    info_vae,
    reweighted_wake_sleep,
    semi_supervised,
    vq_vae,
    wae,
    wake_sleep,
)

__all__ = [
    "aae",
    "aavae",
    "ali",
    "avb",
    "beta_tc_vae",
    "cyclegan",
    "dip_vae",
    "elbo",
    "factor_vae",
    "fivo",
    "gan",
    "info_vae",
    "infogan",
    "iwae",
    "iwgan",
    "nll",
    "objectives_for",
    "reweighted_wake_sleep",
    "semi_supervised",
    "vae_gan",
    "vq_vae",
    "wae",
    "wake_sleep",
]
