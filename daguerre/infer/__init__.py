"""Questions to a model: posteriors, evidence, most probable values; exact where possible."""

from __future__ import annotations

from daguerre.infer.answer import Answer, Most
from daguerre.infer.questions import (
    explain,
    log_evidence,
    most_probable,
    posterior,
    sample_posterior,
)

__all__ = [
    "Answer",
    "Most",
    "explain",
    "log_evidence",
    "most_probable",
    "posterior",
    "sample_posterior",
]
