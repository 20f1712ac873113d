"""Questions to a model: posteriors, evidence, most probable values; exact where possible."""

from __future__ import annotations

from daguerre.infer.answer import Answer, Most
from daguerre.infer.approximate.methods import (
    ABC,
    NUTS,
    SMC,
    Importance,
    LikelihoodWeighting,
)
from daguerre.infer.em import Ascent, em
from daguerre.infer.questions import (
    explain,
    log_evidence,
    most_probable,
    posterior,
    sample_posterior,
)

__all__ = [
    "ABC",
    "NUTS",
    "SMC",
    "Answer",
    "Ascent",
    "Importance",
    "LikelihoodWeighting",
    "Most",
    "em",
    "explain",
    "log_evidence",
    "most_probable",
    "posterior",
    "sample_posterior",
]
