"""Exact inference in chains: hidden Markov models and linear-Gaussian state spaces.

Models with lags come here through `dg.posterior` and its like; tensors through what is listed.
"""

from __future__ import annotations

from daguerre.infer.chain.hmm import HMM, filtered, log_evidence, smoothed
from daguerre.infer.chain.paths import draw_paths, viterbi
from daguerre.infer.chain.plan import Plan
from daguerre.infer.chain.ssm import StateSpace
from daguerre.infer.chain.states import (
    draw_states,
    filtered_states,
    smoothed_states,
    state_evidence,
)

__all__ = [
    "HMM",
    "Plan",
    "StateSpace",
    "draw_paths",
    "draw_states",
    "filtered",
    "filtered_states",
    "log_evidence",
    "smoothed",
    "smoothed_states",
    "state_evidence",
    "viterbi",
]
