"""Games for several processes: what each case returns is compared with one process alone."""

import os
import random
import signal
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributions import Bernoulli, Categorical, Normal

import daguerre as dg
from daguerre.objectives.rates import capacity, free_bits

__all__ = [
    "ALIKE",
    "APART",
    "IN_ONE_GRAPH",
    "SCENES",
    "TURN",
    "compile_all",
    "data",
    "exact",
    "played",
    "vae",
    "validated",
    "work",
]

Found = dict[str, Tensor]
WIDTH, ROWS = 3, 24
TURN = dg.train.Turn(dg.Adam(lr=0.02), accumulate=2, clip=0.3, average=0.9)


class Still(Normal):
    """A normal distribution whose draws are its mean: what is computed of them has no noise."""

    def rsample(self, sample_shape=()):
        return self.loc.expand(self._extended_shape(torch.Size(sample_shape)))


class Decoder(dg.Model):
    law = Still

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, WIDTH), *layers, nn.Linear(WIDTH, WIDTH))

    @dg.rv
    def z(self):
        return self.law(torch.zeros(2), 1.0)

    @dg.rv
    def x(self, z: Tensor):
        return Bernoulli(logits=self.net(z))


class Encoder(dg.Model):
    x = dg.Input()
    law = Still

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, 4), *layers)

    @dg.rv
    def z(self, x: Tensor):
        mean, scale = self.net(x).chunk(2, 1)
        return self.law(mean, scale.exp())


class NoisyDecoder(Decoder):
    law = Normal


class NoisyEncoder(Encoder):
    law = Normal


class Generator(dg.Model):
    """x = G(u) of noise that comes with the data, so that all processes see the same."""

    u = dg.Input(2)

    def __init__(self) -> None:
        super().__init__()
        self.net = dg.nn.mlp(2, 4, WIDTH)

    @dg.deterministic
    def x(self, u: Tensor):
        return self.net(u)


class NoisyGenerator(NoisyDecoder):
    @dg.deterministic
    def x(self, z: Tensor):
        return self.net(z)


class Label(dg.Model):
    x = dg.Input(WIDTH)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(WIDTH, 3)

    @dg.rv
    def y(self, x: Tensor):
        return Categorical(logits=self.net(x))


n = dg.Plate("n", 9)


class Group(dg.Model):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))

    @dg.rv
    def level(self):
        return Still(torch.zeros(()), 1.0)

    @n
    @dg.rv
    def x(self, level: Tensor):
        return Normal(level + self.mean, 1.0)


class GroupLevel(dg.Model):
    def __init__(self) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(()))

    @dg.rv
    def level(self):
        return Still(self.centre, 0.5)


def data(*names: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(ROWS, WIDTH, generator=generator).round().to(torch.get_default_dtype())
    u = torch.randn(ROWS, 2, generator=generator, dtype=x.dtype)
    y = (torch.arange(ROWS) % 4) - 1  # -1 is missing
    every = {"x": x, "u": u, "y": y.sort().values}
    return {name: every[name] for name in names or ("x",)}


Game = tuple[dg.Objective, dict[str, Tensor]]


def vae(rate: Any = None) -> Game:
    return dg.elbo(Decoder(), Encoder(), rate=rate), data()


def vae_with_batch_norm() -> Game:
    cumulative = nn.BatchNorm1d(4, momentum=None, affine=False)
    p = Decoder(nn.BatchNorm1d(WIDTH), nn.ReLU())
    return dg.elbo(p, Encoder(cumulative)), data()


def moments(cost: Callable[..., dg.Objective]) -> Game:
    return cost(dg.data("x", "u"), dg.data("u") * Generator()), data("x", "u")


def total_correlation() -> Game:
    return dg.recipes.beta_tc_vae(Decoder(), Encoder(), rows=ROWS), data()


def covariance() -> Game:
    return dg.recipes.dip_vae(Decoder(), Encoder()), data()


def versus(loss: Any) -> Game:
    critic = dg.nn.Joined(dg.nn.mlp(WIDTH + 2, 4, 1))
    sides = dg.data("x", "u"), dg.data("u") * Generator()
    return dg.JS(*sides, critic=critic, loss=loss), data("x", "u")


def labels() -> Game:
    joint = dg.data("x", "y")
    return dg.cross_entropy(joint, Label(), of="y", partial=["y"]), data("x", "y")


def groups() -> Game:
    x = torch.linspace(-1, 3, 8 * 9).view(8, 9)
    return dg.elbo(Group(), GroupLevel()), {"x": x}


ALIKE: dict[str, tuple[Callable[[], Game], dict[str, Any]]] = {
    "accumulated, clipped, averaged": (vae, {"optimizer": TURN}),
    "batch norm": (vae_with_batch_norm, {}),
    "free bits": (lambda: vae(free_bits(0.75, each=True)), {}),
    "capacity": (lambda: vae(capacity(5.0, 1.4)), {}),
    "MMD": (lambda: moments(dg.MMD), {}),
    "Sinkhorn": (lambda: moments(dg.objectives.sinkhorn), {}),
    "total correlation": (total_correlation, {}),
    "covariance": (covariance, {}),
    "averages of logits": (lambda: versus(dg.games.RELATIVISTIC_AVERAGE), {}),
    "weights by logits": (lambda: versus(dg.games.IWGAN), {}),
    "labels for some": (labels, {}),
    "members of a plate": (groups, {"subsample": {"n": 4}}),
}
"""Games without noise of their own: two processes play them as one does."""


def gan(loss: Any = dg.games.NON_SATURATING) -> Game:
    return dg.gan(NoisyGenerator(), dg.nn.mlp(WIDTH, 4, 1), loss=loss), data()


def wgan_gp() -> Game:
    gentle = dg.penalties.gradient(10)
    sides = dg.data("x"), NoisyGenerator()["x"]
    return dg.Wasserstein(*sides, critic=dg.nn.mlp(WIDTH, 4, 1), penalty=gentle), data()


APART: dict[str, Callable[[], Game]] = {
    "elbo": lambda: (dg.elbo(NoisyDecoder(), NoisyEncoder()), data()),
    "iwae": lambda: (dg.iwae(NoisyDecoder(), NoisyEncoder(), particles=3), data()),
    "gan": gan,
    "wgan_gp": wgan_gp,
}
"""Games with noise, of which each process draws its own: compared with a loop by hand."""


@contextmanager
def exact():
    """Compute in double precision, and start from the same weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def played(make: Callable[[], Game], **options: Any) -> Found:
    """Fit a game and return its losses, measures, weights, and running statistics."""
    with exact():
        objective, given = make()
        options = {"steps": 7, "batch_size": 8, "lr": None, "seed": 3, "progress": False} | options
        history = dg.fit(objective, given, **options)
    found = dict(history.losses) | {k: v.values for k, v in history.metrics.items()}
    for player in objective.players:
        for i, module in enumerate(player.modules):
            found |= {f"{player.name}.{i}.{k}": v for k, v in module.state_dict().items()}
            assert not any(buffer.requires_grad for buffer in module.buffers())
    return found | {"steps": torch.tensor(len(history))}


GENTLE = {"optimizer": dg.SGD(lr=0.05), "steps": 3}
IN_ONE_GRAPH = {"batch norm": (vae_with_batch_norm, GENTLE)}
"""Games without noise that compile, with messages in the middle of a loss."""


# What several processes alone can do


def resumed(folder: Path) -> Found:
    """Play with noise in one go and in two parts, and leave a part to one process."""
    options = {"batch_size": 8, "optimizer": TURN}
    whole = played(APART["elbo"], steps=9, **options)
    plan = dg.train.Checkpoints(folder / "two, two", every=5)
    played(APART["elbo"], steps=5, out=plan, **options)
    again = played(APART["elbo"], steps=9, out=plan, resume=True, **options)
    played(vae, steps=5, out=folder / "two, one", **options)
    return {f"whole {k}": v for k, v in whole.items()} | again


def joined(folder: Path) -> Found:
    """Go on with what one process began."""
    options = {"batch_size": 8, "optimizer": TURN}
    return played(vae, steps=9, out=folder / "one, two", resume=True, **options)


def chatty(now: dg.train.Moment) -> dict[str, float]:
    """Measure something else in each process; each wants to stop at another step."""
    if now.step == (4 if now.is_main else 2):
        now.stop("enough")
    return {"random": random.random()}


def decided(folder: Path) -> Found:
    return played(vae, callbacks=[chatty])


def validated(folder: Path | None = None) -> Found:
    with exact():
        held = {"x": data()["x"][:10]}
    looks = dg.train.every(2, dg.train.validation(held, batch_size=4))
    stop = dg.train.early_stop("validation model", patience=1, maximize=True)
    return played(vae, steps=20, callbacks=[looks, stop])


class Steep(dg.Model):
    x = dg.Input()

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(()))

    @dg.rv
    def y(self, x: Tensor):
        return Normal((self.rate * x).exp(), 1.0)


def broken(folder: Path) -> Found:
    """Overflow in one row."""
    x = torch.zeros(ROWS, dtype=torch.float64)
    x[7] = 1000.0
    return refused(lambda: (dg.nll(Steep(), observed=["y"]), {"x": x, "y": torch.zeros_like(x)}))


def unlike(folder: Path) -> Found:
    """Give each process other data, as samplers for distributed training do."""

    def share() -> Game:
        objective, given = vae()
        return objective, {"x": given["x"].flip(0) if dist.get_rank() else given["x"]}

    return refused(share)


def uneven(folder: Path) -> Found:
    return refused(vae, batch_size=9)


def occupied(folder: Path) -> Found:
    (folder / "occupied" / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "occupied" / "history.jsonl").touch()
    return refused(vae, out=folder / "occupied")


def interrupted(folder: Path) -> Found:
    """Press Ctrl-C in process 1 alone."""

    def press(now: dg.train.Moment) -> None:
        if now.step == 3 and not now.is_main:
            os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return played(vae, steps=50, callbacks=[press], out=folder / "interrupted")


def deserted(folder: Path, **options: Any) -> Found:
    """Lose process 1 in the middle: the last thing that it does."""

    def leave(now: dg.train.Moment) -> None:
        if now.step == 6 and not now.is_main:
            os._exit(3)

    plan = dg.train.Checkpoints(folder / "deserted", every=5)
    return refused(vae, steps=9, callbacks=[dg.train.every(3, leave)], out=plan, **options)


def refused(make: Callable[[], Game], **options: Any) -> Found:
    """Return the error that a fit ends with, in words."""
    try:
        played(make, **options)
    except (OSError, RuntimeError, ValueError) as error:
        return {f"{type(error).__name__}: {error}": torch.zeros(())}
    return {}


SCENES = (
    resumed,
    joined,
    decided,
    validated,
    broken,
    unlike,
    uneven,
    occupied,
    interrupted,
    deserted,
)


def meet(rank: int, folder: Path) -> None:
    """Become one of two processes."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)


def compile_all(rank: int, folder: Path) -> None:
    """Play games in one graph a step, messages included."""
    meet(rank, folder)
    for name, (make, options) in IN_ONE_GRAPH.items():
        torch.save(played(make, compile=True, **options), folder / f"{name} {rank}.pt")


def work(rank: int, folder: Path) -> None:
    """Be one of two processes: play everything, and write what came out."""
    meet(rank, folder)
    for name, (make, options) in ALIKE.items():
        torch.save(played(make, **options), folder / f"{name} {rank}.pt")
    for name, make in APART.items():
        torch.save(played(make), folder / f"{name} {rank}.pt")
    for scene in SCENES:
        torch.save(scene(folder / "runs"), folder / f"{scene.__name__} {rank}.pt")
