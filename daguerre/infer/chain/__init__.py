"""Exact inference in chains: hidden Markov models and linear-Gaussian state spaces."""

from __future__ import annotations

__all__ = []
