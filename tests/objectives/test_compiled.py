"""Every cost compiles into one graph per player, with the numbers of the eager step.

Compiling takes seconds for each, so `make slow` runs these, and the suite a few of their kind.
"""

from collections.abc import Callable

import pytest
import torch
from coders import Decoder, Encoder, Implicit, Quantised, X, critic, net
from labelled import LABELS, Labelled, Labeller
from torch import nn
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre import games, penalties, recipes
from daguerre.objectives import sinkhorn, sliced_wasserstein, total_correlation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning"),
]

Batch = dict[str, torch.Tensor]


class Generator(Decoder):
    @dg.deterministic
    def x(self, z):
        return self.net(z)


def belief() -> tuple[dg.Model, dg.Model]:
    torch.manual_seed(4)
    p = dg.model(
        h=Bernoulli(torch.full((3,), 0.5, dtype=torch.float64)),
        x=dg.rv(lambda h, net: Normal(net(h), 0.5), net=net(3, 4, 3)),
    )
    q = dg.model(x=dg.Input(3), h=dg.rv(lambda x, net: Bernoulli(logits=net(x)), net=net(3, 4, 3)))
    return p, q


PAIRS: dict[str, Callable[[dg.Model, dg.Model], dg.Objective]] = {
    "elbo": lambda p, q: dg.elbo(p, q),
    "free bits": lambda p, q: dg.elbo(p, q, rate=dg.rates.free_bits(0.5, each=True)),
    "capacity": lambda p, q: dg.elbo(
        p, q, rate=dg.rates.capacity(3.0, dg.rates.linear(0, 5, steps=4))
    ),
    "annealed": lambda p, q: dg.elbo(p, q, rate=dg.rates.cyclical(0, 1, period=4)),
    "several draws": lambda p, q: dg.elbo(p, q, gradients=dg.estimators.pathwise(draws=3)),
    "sticking": lambda p, q: dg.elbo(p, q, gradients=dg.estimators.STICK_THE_LANDING),
    "iwae": lambda p, q: dg.iwae(p, q, particles=4, groups=2),
    "renyi": lambda p, q: dg.iwae(p, q, particles=4, order=0.5),
    "dreg": lambda p, q: dg.iwae(p, q, particles=4, gradients=dg.estimators.DREG),
    "wake-sleep": lambda p, q: dg.wake_sleep(p, q),
    "reweighted": lambda p, q: recipes.reweighted_wake_sleep(p, q, particles=4, sleep=0.5),
    "wae": lambda p, q: recipes.wae(p, q),
    "info": lambda p, q: recipes.info_vae(p, q),
    "beta-tc": lambda p, q: recipes.beta_tc_vae(p, q, rows=6),
    "factor": lambda p, q: recipes.factor_vae(p, q, critic(2, 4, 1)),
    "dip": lambda p, q: recipes.dip_vae(p, q),
    "avb": lambda p, q: recipes.avb(p, q, critic(5, 4, 1)),
    "aae": lambda p, q: recipes.aae(p, q, critic(2, 4, 1)),
    "ali": lambda p, q: recipes.ali(p, q, critic(5, 4, 1)),
    "vae-gan": lambda p, q: recipes.vae_gan(p, q, critic(3, 4, 1)),
    "aavae": lambda p, q: recipes.aavae(p, q, critic(3, 4, 1)),
    "infogan": lambda p, q: recipes.infogan(p, q, critic(3, 4, 1)),
}
GENERATORS: dict[str, Callable[[dg.joint.Joint], dg.Objective]] = {
    "mmd": lambda x: dg.MMD(dg.data("x"), x),
    "sliced": lambda x: sliced_wasserstein(dg.data("x"), x, projections=8),
    "sinkhorn": lambda x: sinkhorn(dg.data("x"), x, iterations=10),
    "hellinger": lambda x: dg.f_divergence(
        dg.data("x"), x, f=dg.f.HELLINGER, critic=critic(3, 4, 1)
    ),
    "wgan-gp": lambda x: dg.Wasserstein(
        dg.data("x"), x, critic=critic(3, 4, 1), penalty=penalties.gradient(10.0)
    ),
    "wgan": lambda x: dg.Wasserstein(dg.data("x"), x, critic=critic(3, 4, 1), clip=0.05),
    "r3gan": lambda x: dg.JS(
        dg.data("x"),
        x,
        critic=critic(3, 4, 1),
        loss=games.RELATIVISTIC,
        penalty=(penalties.r1(1.0), penalties.r2(1.0)),
    ),
}


def built(name: str) -> tuple[dg.Objective, Batch]:
    batch = {"x": X}
    if name in PAIRS:
        return PAIRS[name](Decoder(), Encoder()), batch
    if name in GENERATORS:
        return GENERATORS[name](Generator()["x"]), batch
    if name == "semi-supervised":
        labelled = {"x": X[:5].repeat(1, 2)[:, :4].contiguous(), "y": LABELS}
        return recipes.semi_supervised(Labelled(), Labeller()), labelled
    if name == "vq":
        return recipes.vq_vae(Decoder(), Quantised()), batch
    if name == "implicit wae":
        return recipes.wae(Decoder(), Implicit()), batch
    if name == "total correlation":
        return total_correlation(dg.data("x") * Encoder(), of="z", rows=6), batch
    p, q = belief()
    if name == "enumerated":
        return dg.elbo(p, q), batch
    if name == "learned baseline":
        baseline = dg.estimators.score_function(baseline=nn.Linear(3, 1).double())
        return dg.elbo(p, q, gradients=baseline), batch
    scored = dg.estimators.score_function(draws=3)
    if name == "score function":
        return dg.elbo(p, q, gradients=scored), batch
    assert name == "vimco"
    return dg.iwae(p, q, particles=3, gradients=scored), batch


OTHERS = (
    "semi-supervised",
    "vq",
    "implicit wae",
    "total correlation",
    "enumerated",
    "score function",
    "learned baseline",
    "vimco",
)


def losses(name: str, *, compiled: bool) -> dict[str, list[float]]:
    torch.manual_seed(0)
    objective, batch = built(name)
    found = {}
    for player in objective.players:
        step = dg.train.Step(objective, player.name, compile=compiled)
        torch.manual_seed(5)
        found[player.name] = [step(batch).item() for _ in range(3)]
    return found


@pytest.mark.parametrize("name", [*PAIRS, *GENERATORS, *OTHERS])
def test_a_compiled_step_has_the_numbers_of_the_eager_one(name):
    compiled, eager = losses(name, compiled=True), losses(name, compiled=False)
    for player, values in eager.items():
        assert compiled[player] == pytest.approx(values, rel=1e-5, abs=1e-7)
