"""NumPyro: `SVI.update` under `jax.jit`; p over all steps at once, and q by its `scan`."""

from __future__ import annotations

from itertools import cycle

import jax
import numpy as np
import numpyro
from jax import numpy as jnp
from numpyro import distributions as dist
from numpyro.contrib.control_flow import scan
from numpyro.infer import SVI, Trace_ELBO

from contestants import Step
from problem import Array, Chain

__all__ = ["jitted"]

Net = dict[str, tuple[jax.Array, jax.Array]]

OF_P = ("gate", "proposal", "linear", "spread", "emit")


def _linear(net: Net, name: str, x: jax.Array) -> jax.Array:
    weight, bias = net[name]
    return x @ weight + bias


def _mlp(net: Net, x: jax.Array, *names: str) -> jax.Array:
    for name in names[:-1]:
        x = jax.nn.relu(_linear(net, name, x))
    return _linear(net, names[-1], x)


def _transition(net: Net, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    gate = jax.nn.sigmoid(_mlp(net, last, "gate.0", "gate.2"))
    proposed = _mlp(net, last, "proposal.0", "proposal.2")
    mean = (1 - gate) * _linear(net, "linear", last) + gate * proposed
    return mean, jax.nn.softplus(_linear(net, "spread", jax.nn.relu(proposed)))


def _backwards(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Turn each piece of `[T, n, ...]` around within its own length."""
    turn = jax.vmap(lambda one, length: jnp.roll(one[::-1], length, axis=0), (1, 0), 1)
    return turn(x, lengths)


def _read(x: Array, lengths: Array) -> tuple[jax.Array, jax.Array]:
    """Return pieces `[T, n, keys]` and which steps there are `[T, n]`."""
    there = np.arange(x.shape[1])[:, None] < lengths
    return jnp.asarray(x.swapaxes(0, 1)), jnp.asarray(there)


def jitted(chain: Chain) -> Step:
    """The usual way."""
    weights = {n: (jnp.asarray(w.T), jnp.asarray(b)) for n, (w, b) in chain.weights.items()}
    own = {n: weights[n] for n in weights if n.split(".")[0] in OF_P}
    guiding = {n: weights[n] for n in weights if n not in own}

    def model(x: jax.Array, there: jax.Array) -> None:
        net = numpyro.param("p", own)
        first = numpyro.param("first", jnp.zeros(chain.latent))
        with numpyro.plate("pieces", x.shape[1]):
            flat = dist.Normal(0.0, jnp.ones((*there.shape, chain.latent)))
            z = numpyro.sample("z", flat.to_event(1).mask(mask=False))  # scored below, all at once
            start = jnp.broadcast_to(first, (1, *z.shape[1:]))
            law = dist.Normal(*_transition(net, jnp.concatenate((start, z[:-1]))))
            numpyro.sample("moves", law.to_event(1).mask(there), obs=z)
            keys = dist.Bernoulli(logits=_mlp(net, z, "emit.0", "emit.2", "emit.4"))
            numpyro.sample("x", keys.to_event(1).mask(there), obs=x)

    def guide(x: jax.Array, there: jax.Array) -> None:
        net = numpyro.param("q", guiding)
        guided = numpyro.param("guided", jnp.zeros(chain.latent))
        end = numpyro.param("end", jnp.zeros(chain.units))
        lengths = there.sum(0)

        def read(h: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = jax.nn.relu(new + _linear(net, "repeat", h))
            return h, h

        def follow(z: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            both = 0.5 * (jnp.tanh(_linear(net, "recall", z)) + at[0])
            law = dist.Normal(
                _linear(net, "mean", both), jax.nn.softplus(_linear(net, "scale", both))
            )
            with numpyro.plate("pieces", len(z)):
                z = numpyro.sample("z", law.to_event(1).mask(at[1]))
            return z, None

        new = _linear(net, "read", _backwards(x, lengths))
        _, h = jax.lax.scan(read, jnp.broadcast_to(end, new.shape[1:]), new)
        start = jnp.broadcast_to(guided, (x.shape[1], chain.latent))
        scan(follow, start, (_backwards(h, lengths), there))

    svi = SVI(model, guide, numpyro.optim.Adam(chain.lr), Trace_ELBO())
    update = jax.jit(svi.update)
    of = cycle([_read(*batch) for batch in chain.batches])
    state = svi.init(jax.random.PRNGKey(0), *next(of))

    def step() -> jax.Array:
        nonlocal state
        state, loss = update(state, *next(of))
        return loss / chain.batch_size

    return step
