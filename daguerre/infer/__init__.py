"""Questions to a model: posteriors, evidence, most probable values; exact where possible."""

from __future__ import annotations

from daguerre.infer.answer import Answer

__all__ = ["Answer"]
