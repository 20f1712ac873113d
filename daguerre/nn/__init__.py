"""Small networks, critics and flows, so that examples need no boilerplate."""

from daguerre.nn.networks import (
    Codebook,
    Coupling,
    Joined,
    Projection,
    mlp,
    product_of_experts,
)
from daguerre.nn.recurrent import over_time

__all__ = [
    "Codebook",
    "Coupling",
    "Joined",
    "Projection",
    "mlp",
    "over_time",
    "product_of_experts",
]
