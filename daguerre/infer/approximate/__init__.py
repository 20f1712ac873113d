"""Approximate engines."""

__all__: list[str] = []
