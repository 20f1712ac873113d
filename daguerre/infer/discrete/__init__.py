"""Exact inference over finite variables: planned once, contracted in a straight line."""

from __future__ import annotations

from daguerre.infer.discrete.plan import Sum, plan_sum
from daguerre.infer.discrete.run import Factor, run_sum
from daguerre.infer.discrete.traceback import maximise, sample_states

__all__ = ["Factor", "Sum", "maximise", "plan_sum", "run_sum", "sample_states"]
