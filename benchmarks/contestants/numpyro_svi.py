"""NumPyro: `SVI.update` under `jax.jit`, with the KL in closed form."""

from __future__ import annotations

from itertools import cycle

import jax
import numpyro
from jax import numpy as jnp
from numpyro import distributions as dist
from numpyro.infer import SVI, TraceMeanField_ELBO
from numpyro.infer.svi import SVIState

from contestants import Step
from problem import Problem

__all__ = ["donated", "jitted"]


def jitted(problem: Problem) -> Step:
    """The usual way."""
    return _step(problem, donate=False)


def donated(problem: Problem) -> Step:
    """The old state's memory given to the new one, which saves copies."""
    return _step(problem, donate=True)


def _net(side: str, problem: Problem, x: jax.Array) -> jax.Array:
    layers = {k: problem.weights[f"{side}.{k}"] for k in ("hidden", "out")}
    first = {k: (jnp.asarray(w.T), jnp.asarray(b)) for k, (w, b) in layers.items()}
    layer = numpyro.param(side, first)
    hidden = jax.nn.relu(x @ layer["hidden"][0] + layer["hidden"][1])
    return hidden @ layer["out"][0] + layer["out"][1]


def _step(problem: Problem, *, donate: bool) -> Step:
    def model(x: jax.Array) -> None:
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(problem.latent), 1.0).to_event(1))
            logits = _net("decoder", problem, z)
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        with numpyro.plate("data", len(x)):
            mean, log_variance = jnp.split(_net("encoder", problem, x), 2, axis=-1)
            numpyro.sample("z", dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(problem.lr), TraceMeanField_ELBO())

    def update(state: SVIState, x: jax.Array) -> tuple[SVIState, jax.Array]:
        state, loss = svi.update(state, x)
        return state, loss / problem.batch_size

    update = jax.jit(update, donate_argnums=(0,) if donate else ())
    xs = cycle([jnp.asarray(x) for x in problem.batches])
    state = svi.init(jax.random.PRNGKey(0), next(xs))

    def step() -> jax.Array:
        nonlocal state
        state, loss = update(state, next(xs))
        return loss

    return step
