"""Exact inference in linear-Gaussian and conditional-Gaussian parts of a model."""

from __future__ import annotations

from daguerre.infer.gaussian.affine import read_affine
from daguerre.infer.gaussian.block import BlockSolution, LinearVariable, solve
from daguerre.infer.gaussian.distributions import Gaussian, GaussianMixture
from daguerre.infer.gaussian.evidence import atoms_win

__all__ = [
    "BlockSolution",
    "Gaussian",
    "GaussianMixture",
    "LinearVariable",
    "atoms_win",
    "read_affine",
    "solve",
]
