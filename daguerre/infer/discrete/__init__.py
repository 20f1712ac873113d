"""Exact inference over finite variables: planned once, contracted in a straight line."""

from __future__ import annotations

__all__: list[str] = []
