"""Costs whose training steps are timed: each by Daguerre, and by hand in one compiled function.

By hand, a step is one function of tensors (loss, `torch.autograd.grad`, torch's functional Adam)
in one graph without a break, with the compiler's options of `dg.train.Step` and without any guard.
Where there are two ways to write the loss, both are contestants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, OneHotCategorical
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.adam import adam

import daguerre as dg

__all__ = ["COSTS", "Cost", "Step"]

Step = Callable[[], Tensor]
Batches = Sequence[tuple[Tensor, ...]]
Way = Callable[[], Step]

CLASSES, LABELLED, ROWS = 10, 10, 128


@dataclass(frozen=True)
class Cost:
    """One cost, its contestants, and the number of steps in a turn."""

    title: str
    ours: Way
    by_hand: dict[str, Way]
    turn: int


def binary(pixels: int, rows: int) -> list[Tensor]:
    """Return 64 batches of zeros and ones; each pixel has its own rate."""
    random = torch.Generator().manual_seed(0)
    rates = torch.rand(pixels, generator=random)
    return [(torch.rand(rows, pixels, generator=random) < rates).float() for _ in range(64)]


def ours(objective: dg.Objective, player: str, rule: dg.Adam, batches: Sequence[object]) -> Step:
    """Return Daguerre's step, which takes the batches in turn."""
    step, at = dg.train.Step(objective, player, optimizer=rule), _Turn(len(batches))
    return lambda: step(batches[at()])  # type: ignore[arg-type]


def by_hand(
    loss: Callable[..., Tensor], moved: Sequence[nn.Module], rule: dg.Adam, batches: Batches
) -> Step:
    """Return a hand-written step, compiled, which takes the batches in turn."""
    parameters = [p for module in moved for p in module.parameters()]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    count = torch.zeros(())

    def step(*batch: Tensor) -> Tensor:
        value = loss(*batch)
        gradients = list(torch.autograd.grad(value, parameters))
        with torch.no_grad():
            counts = [count.clone() for _ in parameters]
            adam(
                parameters, gradients, first, second, [], counts, capturable=True, amsgrad=False,
                beta1=rule.betas[0], beta2=rule.betas[1], lr=rule.lr, weight_decay=0.0,
                eps=rule.eps, maximize=False,
            )  # fmt: skip
            count.add_(1)
        return value.detach()

    run, at = _compiled(step), _Turn(len(batches))
    return lambda: run(*batches[at()])


def _compiled(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile a step for itself alone: torch keeps what it compiles with the code object."""
    code, closure = step.__code__.replace(), step.__closure__
    own = FunctionType(code, step.__globals__, "by_hand", None, closure)
    options = {
        "fallback_random": True,
        "size_asserts": False,
        "alignment_asserts": False,
        "cpp_wrapper": True,
        "guard_filter_fn": lambda guards: [False] * len(guards),
    }
    run = torch.compile(own, fullgraph=True, dynamic=False, options=options)

    def traced(*batch: Tensor) -> Tensor:  # the switch is needed while compiling only
        config = torch._dynamo.config
        before, config.trace_autograd_ops = config.trace_autograd_ops, True
        loss = run(*batch)
        config.trace_autograd_ops = before
        return loss

    return traced


class _Turn:
    """Count round."""

    def __init__(self, length: int) -> None:
        self.length, self.next = length, 0

    def __call__(self) -> int:
        self.next = (self.next + 1) % self.length
        return self.next


@dataclass(frozen=True)
class IWAE:
    """The bound of 50 draws, with the nets of Burda, Grosse and Salakhutdinov (2016)."""

    pixels: int
    rows: int = 20
    latent: int = 50
    particles: int = 50
    rule: ClassVar[dg.Adam] = dg.Adam(lr=1e-3, eps=1e-4)

    def nets(self) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        encoder = dg.nn.mlp(self.pixels, 200, 200, 2 * self.latent, activation=nn.Tanh)
        return encoder, dg.nn.mlp(self.latent, 200, 200, self.pixels, activation=nn.Tanh)

    def ours(self) -> Step:
        encoder, decoder = self.nets()
        p = dg.model(
            z=dg.StandardNormal(self.latent),
            x=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=decoder),
        )
        q = dg.model(x=dg.Input(self.pixels), z=dg.rv(_gaussian, net=encoder))
        cost = dg.iwae(p, q, particles=self.particles)
        return ours(cost, "model", self.rule, binary(self.pixels, self.rows))

    def by_hand(self) -> Step:
        encoder, decoder = self.nets()

        def loss(x: Tensor) -> Tensor:
            mean, log_variance = encoder(x).chunk(2, dim=-1)
            noise = torch.randn(self.particles, *mean.shape)
            z = mean + torch.exp(0.5 * log_variance) * noise
            logits = decoder(z)
            rebuilt = binary_cross_entropy_with_logits(
                logits, x.expand_as(logits), reduction="none"
            )
            latents = 0.5 * (noise.square() + log_variance - z.square())  # log p(z) - log q(z | x)
            bound = (latents.sum(-1) - rebuilt.sum(-1)).logsumexp(0) - math.log(self.particles)
            return -bound.mean()

        data = [(x,) for x in binary(self.pixels, self.rows)]
        return by_hand(loss, [decoder, encoder], self.rule, data)


def _surprisal(logits: Tensor, x: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, x, reduction="none")


def _gaussian(x: Tensor, net: nn.Module) -> Normal:
    mean, log_variance = net(x).chunk(2, dim=-1)
    return Normal(mean, torch.exp(0.5 * log_variance))


@dataclass(frozen=True)
class WGAN:
    """Wasserstein-1 with the gradient penalty of Gulrajani et al. (2017), on MLPs 3 x 128."""

    pixels: int
    rows: int = 64
    latent: int = 50
    rule: ClassVar[dg.Adam] = dg.Adam(lr=1e-4, betas=(0.0, 0.9))

    def nets(self) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        generator = dg.nn.mlp(self.latent, 128, 128, 128, self.pixels)
        return generator, dg.nn.mlp(self.pixels, 128, 128, 128, 1)

    def ours(self, player: str) -> Step:
        generator, critic = self.nets()
        x = dg.deterministic(lambda z, net: net(z), net=generator)
        p = dg.model(z=dg.StandardNormal(self.latent), x=x)
        penalty = dg.penalties.gradient(10.0)
        cost = dg.Wasserstein(dg.data("x"), p["x"], critic=critic, penalty=penalty)
        return ours(cost, player, self.rule, binary(self.pixels, self.rows))

    def critic(self, *, functional: bool, joined: bool) -> Step:
        generator, critic = self.nets()

        def slopes(x: Tensor) -> Tensor:
            if functional:
                return torch.func.grad(lambda at: critic(at).sum())(x)
            x = x.requires_grad_()
            return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]

        def loss(real: Tensor) -> Tensor:
            with torch.no_grad():
                fake = generator(torch.randn(self.rows, self.latent))
            share = torch.rand(self.rows, 1)
            if joined:
                on_real, on_fake = critic(torch.cat([real, fake])).chunk(2)
            else:
                on_real, on_fake = critic(real), critic(fake)
            norm = slopes(fake + share * (real - fake)).norm(2, dim=1)
            return on_fake.mean() - on_real.mean() + 10 * (norm - 1).square().mean()

        data = [(x,) for x in binary(self.pixels, self.rows)]
        return by_hand(loss, [critic], self.rule, data)

    def generator(self) -> Step:
        generator, critic = self.nets()

        def loss() -> Tensor:
            return -critic(generator(torch.randn(self.rows, self.latent))).mean()

        return by_hand(loss, [generator], self.rule, [()])


@dataclass(frozen=True)
class M2:
    """The semi-supervised model of Kingma et al. (2014): 10 of 128 rows have a label."""

    pixels: int = 64
    hidden: int = 128
    latent: int = 16
    weight: float = 1.0
    rule: ClassVar[dg.Adam] = dg.Adam(lr=1e-3)

    def nets(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Return x to y, x and y to z, and y and z to x."""
        torch.manual_seed(0)
        classifier = dg.nn.mlp(self.pixels, self.hidden, CLASSES)
        encoder = dg.nn.mlp(self.pixels + CLASSES, self.hidden, 2 * self.latent)
        return classifier, encoder, dg.nn.mlp(CLASSES + self.latent, self.hidden, self.pixels)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Return pixels, and one-hot labels of the first rows."""
        random = torch.Generator().manual_seed(1)
        found = []
        for x in binary(self.pixels, ROWS):
            y = torch.randint(CLASSES, (LABELLED,), generator=random)
            found.append((x, torch.nn.functional.one_hot(y, CLASSES).float()))
        return found

    def ours(self) -> Step:
        classifier, encoder, decoder = self.nets()
        p = dg.model(
            y=OneHotCategorical(logits=torch.zeros(CLASSES)),
            z=dg.StandardNormal(self.latent),
            x=dg.rv(lambda y, z, net: Bernoulli(logits=net(torch.cat([y, z], 1))), net=decoder),
        )
        q = dg.model(
            x=dg.Input(self.pixels),
            y=dg.rv(lambda x, net: OneHotCategorical(logits=net(x)), net=classifier),
            z=dg.rv(lambda x, y, net: _gaussian(torch.cat([x, y], 1), net), net=encoder),
        )
        cost = dg.recipes.semi_supervised(p, q, weight=self.weight)
        unknown = torch.full((ROWS - LABELLED, CLASSES), torch.nan)
        data = [{"x": x, "y": torch.cat([y, unknown])} for x, y in self.batches()]
        return ours(cost, "model", self.rule, data)

    def masked(self) -> Step:
        """All rows meet all classes, as ours do; the weights of a labelled row are its label."""
        classifier, encoder, decoder = self.nets()

        def loss(x: Tensor, y: Tensor) -> Tensor:
            log_q = classifier(x).log_softmax(1)
            bound = _bounds(x, torch.eye(CLASSES), encoder, decoder)  # [classes, rows]
            q, known = log_q[LABELLED:].exp(), (y * log_q[:LABELLED]).sum()
            unlabelled = (q * (bound[:, LABELLED:].T + log_q[LABELLED:])).sum()
            labelled = (y * bound[:, :LABELLED].T).sum()
            return (unlabelled + labelled) / ROWS - self.weight * known / LABELLED

        return by_hand(loss, [classifier, encoder, decoder], self.rule, self.batches())

    def apart(self) -> Step:
        """Rows with a label meet it alone."""
        classifier, encoder, decoder = self.nets()

        def loss(x: Tensor, y: Tensor) -> Tensor:
            log_q = classifier(x).log_softmax(1)
            rest = x[LABELLED:]
            states = torch.eye(CLASSES).repeat_interleave(len(rest), 0)
            every = torch.cat([x[:LABELLED], rest.repeat(CLASSES, 1)])
            bound = _bound(every, torch.cat([y, states]), encoder, decoder)
            of_states = bound[LABELLED:].view(CLASSES, -1).T
            q, known = log_q[LABELLED:].exp(), (y * log_q[:LABELLED]).sum()
            total = bound[:LABELLED].sum() + (q * (of_states + log_q[LABELLED:])).sum()
            return total / ROWS - self.weight * known / LABELLED

        return by_hand(loss, [classifier, encoder, decoder], self.rule, self.batches())


def _bounds(x: Tensor, states: Tensor, encoder: nn.Module, decoder: nn.Module) -> Tensor:
    """Return the cost of each row with each state, `[states, rows]`."""
    every, y = x.repeat(len(states), 1), states.repeat_interleave(len(x), 0)
    return _bound(every, y, encoder, decoder).view(len(states), len(x))


def _bound(x: Tensor, y: Tensor, encoder: nn.Module, decoder: nn.Module) -> Tensor:
    """Return -log p(x | y, z) - log p(y) + KL(q(z | x, y) || p(z)) of each row."""
    mean, log_variance = encoder(torch.cat([x, y], 1)).chunk(2, dim=1)
    z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    logits = decoder(torch.cat([y, z], 1))
    rebuilt = _surprisal(logits, x).sum(1)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return rebuilt + kl + math.log(CLASSES)


def _critic_step(pixels: int, turn: int) -> Cost:
    game = WGAN(pixels)
    ways = {
        f"by hand, {how}{', one pass over both sides' * joined}": (
            lambda functional=functional, joined=joined: game.critic(
                functional=functional, joined=joined
            )
        )
        for how, functional in (("torch.func.grad", True), ("torch.autograd.grad", False))
        for joined in (False, True)
    }
    title = f"WGAN-GP, critic step, {pixels} pixels, batch {game.rows}"
    return Cost(title, lambda: game.ours("critic"), ways, turn)


def _generator_step(pixels: int, turn: int) -> Cost:
    game = WGAN(pixels)
    title = f"WGAN-GP, generator step, {pixels} pixels, batch {game.rows}"
    return Cost(title, lambda: game.ours("model"), {"by hand": game.generator}, turn)


def _iwae(pixels: int, turn: int) -> Cost:
    bound = IWAE(pixels)
    title = f"IWAE-{bound.particles}, {pixels} pixels, batch {bound.rows}"
    return Cost(title, bound.ours, {"by hand": bound.by_hand}, turn)


_M2 = M2()
COSTS = {
    "iwae-small": _iwae(64, 10),
    "iwae": _iwae(784, 4),
    "critic-small": _critic_step(64, 100),
    "critic": _critic_step(784, 40),
    "generator-small": _generator_step(64, 200),
    "generator": _generator_step(784, 60),
    "m2": Cost(
        f"M2, {_M2.pixels} pixels, batch {ROWS}, {LABELLED} labelled, {CLASSES} classes",
        _M2.ours,
        {"by hand, all rows alike": _M2.masked, "by hand, labelled rows apart": _M2.apart},
        30,
    ),
}
