"""Approximate engines, named as such: weighted draws, proposals by q, kernels, NUTS."""

__all__ = []
