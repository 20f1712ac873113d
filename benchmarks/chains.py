"""Measure smoothing in long chains beside hmmlearn and dynamax, in one process on one core.

    python benchmarks/chains.py

Contestants take turns, another one first each time, on the same float64 tensors, and must agree.
Compilation by JAX, up to a minute for each parallel scan, is not timed. The models of
hmmlearn take observations of an alphabet, whose log-likelihood Daguerre and dynamax look up within
their time. Memory is what a call adds to the resident set at its peak, counted by Linux after the
heap was trimmed.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # before JAX is imported
)

import ctypes
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
import torch
from dynamax.hidden_markov_model import hmm_smoother, parallel_hmm_smoother
from dynamax.linear_gaussian_ssm import lgssm_smoother, parallel_lgssm_smoother
from dynamax.linear_gaussian_ssm.inference import (
    ParamsLGSSM,
    ParamsLGSSMDynamics,
    ParamsLGSSMEmissions,
    ParamsLGSSMInitial,
)
from hmmlearn.hmm import CategoricalHMM

from daguerre.infer.chain.hmm import HMM, plan_of, smoothed
from daguerre.infer.chain.ssm import StateSpace
from daguerre.infer.chain.states import plan_of_states, smoothed_states
from report import circumstances, table

__all__ = ["main"]

Contestant = Callable[[], tuple[float, np.ndarray]]  # log-evidence, marginals or means
ROUNDS = 7
SHORT = 1_000  # beyond, JAX takes more than five minutes to compile dynamax's parallel smoother


def main() -> None:
    """Print a table per kind of chain."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    jax.config.update("jax_enable_x64", True)  # noqa: FBT003 - JAX's
    print(circumstances(["torch", "dynamax", "jax", "hmmlearn"]), end="\n\n")
    for steps, states in ((1_000, 8), (100_000, 8)):
        _race(f"HMM, {steps:,} steps, {states} states: forward-backward", _hmm(steps, states))
    for steps in (1_000, 100_000):
        title = f"Linear-Gaussian, {steps:,} steps, 4 states, 2 observed: smoother"
        contestants = _ssm(steps, 4, 2)
        if steps > SHORT:
            del contestants["dynamax, parallel"]
        _race(title, contestants)


def _hmm(steps: int, k: int, letters: int = 16) -> dict[str, Contestant]:
    rng = np.random.default_rng(0)

    def rows(*shape: int) -> np.ndarray:
        table = rng.random(shape) + 0.05
        return table / table.sum(-1, keepdims=True)

    start, move, emit = rows(k), rows(k, k), rows(k, letters)
    x = rng.integers(0, letters, steps)
    by_letter = torch.from_numpy(np.log(emit.T.copy()))
    log_start, log_move, index = (torch.from_numpy(a) for a in (np.log(start), np.log(move), x))
    letter, observed = jnp.asarray(np.log(emit.T)), jnp.asarray(x)

    def ours() -> tuple[float, np.ndarray]:
        with torch.inference_mode():
            found = smoothed(HMM(log_start, log_move, by_letter[index].unsqueeze(0)))
        return found.log_evidence.item(), found.probs[0].numpy()

    def learned(implementation: str) -> Contestant:
        model = CategoricalHMM(k, implementation=implementation)
        model.startprob_, model.transmat_, model.emissionprob_ = start, move, emit
        model.n_features = letters
        return lambda: model.score_samples(x[:, None])

    def jitted(smoother: Callable[..., object]) -> Contestant:
        def run(start, move, x):
            found = smoother(start, move, letter[x])
            return found.marginal_loglik, found.smoothed_probs

        compiled, inputs = jax.jit(run), (jnp.asarray(start), jnp.asarray(move), observed)
        return lambda: _numbers(jax.block_until_ready(compiled(*inputs)))

    hmm = HMM(log_start, log_move, by_letter[index].unsqueeze(0))
    return {
        f"Daguerre, {plan_of(hmm)}": ours,
        "hmmlearn, scaling": learned("scaling"),
        "hmmlearn, log (its default)": learned("log"),
        "dynamax, sequential": jitted(hmm_smoother),
        "dynamax, parallel": jitted(parallel_hmm_smoother),
    }


def _ssm(steps: int, d: int, m: int) -> dict[str, Contestant]:
    rng = np.random.default_rng(0)
    move = np.linalg.qr(rng.standard_normal((d, d)))[0] * 0.95
    see, x = rng.standard_normal((m, d)), rng.standard_normal((steps, m))
    mean, zero_d, zero_m = np.ones(d), np.zeros(d), np.zeros(m)
    cov, noise, spread = np.eye(d), 0.1 * np.eye(d), 0.5 * np.eye(m)
    arrays = (mean, cov, move, zero_d, noise, see, zero_m, spread, x[None])
    model = StateSpace(*(torch.from_numpy(a) for a in arrays))
    peer = ParamsLGSSM(
        initial=ParamsLGSSMInitial(mean=jnp.asarray(mean), cov=jnp.asarray(cov)),
        dynamics=ParamsLGSSMDynamics(
            weights=jnp.asarray(move),
            bias=jnp.asarray(zero_d),
            input_weights=jnp.zeros((d, 0)),
            cov=jnp.asarray(noise),
        ),
        emissions=ParamsLGSSMEmissions(
            weights=jnp.asarray(see),
            bias=jnp.asarray(zero_m),
            input_weights=jnp.zeros((m, 0)),
            cov=jnp.asarray(spread),
        ),
    )

    def ours() -> tuple[float, np.ndarray]:
        with torch.inference_mode():
            found = smoothed_states(model)
        return found.log_evidence.item(), found.mean[0].numpy()

    def jitted(smoother: Callable[..., object]) -> Contestant:
        def run(peer, x):
            found = smoother(peer, x)
            return found.marginal_loglik, found.smoothed_means, found.smoothed_covariances

        compiled, observed = jax.jit(run), jnp.asarray(x)
        return lambda: _numbers(jax.block_until_ready(compiled(peer, observed)))

    return {
        f"Daguerre, {plan_of_states(model)}": ours,
        "dynamax, sequential": jitted(lgssm_smoother),
        "dynamax, parallel": jitted(parallel_lgssm_smoother),
    }


def _numbers(found: tuple[object, ...]) -> tuple[float, np.ndarray]:
    return float(found[0]), np.asarray(found[1])


def _peak(ask: Contestant) -> float:
    """Return what a call adds to the resident set at its peak, in MiB."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident("VmRSS")
    ask()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) / 1024


def _race(title: str, contestants: dict[str, Contestant]) -> None:
    answers = {name: ask() for name, ask in contestants.items()}  # compiles, too
    names = list(contestants)
    evidence, means = answers[names[0]]
    for name, (other, others) in answers.items():
        assert abs(other - evidence) < 1e-8 * abs(evidence), f"{name}: {other}, not {evidence}"
        assert np.abs(others - means).max() < 1e-7, f"{name} has other marginals"
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(ROUNDS):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            begin = perf_counter()
            contestants[name]()
            times[name].append(perf_counter() - begin)
    print(f"{title}; medians of {ROUNDS} turns:\n")
    ours = times[names[0]]
    rows = []
    for name in names:
        ratio = median(a / b for a, b in zip(times[name], ours, strict=True))
        figures = [f"{1e3 * f(times[name]):.1f}" for f in (median, min)]
        rows.append([name, *figures, f"{ratio:.2f}", f"{_peak(contestants[name]):.0f}"])
    head = ["smoothing by", "median, ms", "least, ms", "x Daguerre, median", "peak memory, MiB"]
    print(table(head, rows), end="\n\n")


if __name__ == "__main__":
    main()
