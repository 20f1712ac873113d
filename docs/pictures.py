"""The gallery of pictures: each function below is an entry; `make pictures` draws them all.

A function returns what is said in a formula and what is drawn. The page shows its code, its
picture and its equation, so that none of them can drift from the others.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal, OneHotCategorical

import daguerre as dg
from daguerre.draw import Drawing, factor_figure, factorisation, unit_figure, unrolled
from daguerre.draw import figure as picture
from daguerre.files import write_whole

VIEWS = ("conventional", "hu")


class Entry(NamedTuple):
    """A picture with its formula in LaTeX, or none."""

    drawing: Drawing
    formula: str


def decoder() -> dg.Model:
    """A prior and a density of x given z: the model of a VAE."""
    x = dg.rv(lambda z, net: Normal(net(z), 1.0), net=dg.nn.mlp(2, 16, 3))
    return dg.model(z=Normal(torch.zeros(2), 1.0), x=x)


def generator() -> dg.Model:
    """The same graph with a Dirac for x: the model of a GAN."""
    x = dg.deterministic(lambda z, net: net(z), net=dg.nn.mlp(2, 16, 3))
    return dg.model(z=Normal(torch.zeros(2), 1.0), x=x)


def encoder() -> dg.Model:
    """An inference model: z given x."""
    z = dg.rv(lambda x, net: Normal(net(x), 1.0), net=dg.nn.mlp(3, 16, 2))
    return dg.model(x=dg.Input(3), z=z)


def critic(size: int) -> nn.Module:
    """A net that tells real from fake."""
    return dg.nn.mlp(size, 16, 1)


class PairCritic(nn.Module):
    """A net that tells real pairs (z, x) from fake ones."""

    def __init__(self) -> None:
        super().__init__()
        self.net = critic(5)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Return logits `[n, 1]`."""
        return self.net(torch.cat([z, x], 1))


def both(cost: dg.Objective) -> Entry:
    """Draw a cost in both views."""
    drawings = [dg.draw(cost, view=view) for view in VIEWS]
    figures = [drawing.sheet.panels[0].figure for drawing in drawings]
    titles = ["as most readers expect", "in the view of Hu et al."]
    return Entry(dg.draw(*figures, titles=titles), figures[0].caption)


def of_graph(graph: dg.Graph, *, observed: Sequence[str] = ()) -> Entry:
    """Draw a graph."""
    return Entry(dg.draw(picture(graph, observed=observed)), factorisation(graph))


# Deep generative models


def twins() -> Entry:
    """The same graph with two costs: a VAE and a GAN."""
    costs = dg.elbo(decoder(), encoder()), dg.gan(generator(), critic(3))
    return Entry(dg.draw(*costs, titles=["VAE", "GAN"]), "")


def vae() -> Entry:
    """Variational autoencoder (Kingma and Welling 2014, arXiv 1312.6114)."""
    return both(dg.elbo(decoder(), encoder()))


def gan() -> Entry:
    """Generative adversarial network (Goodfellow et al. 2014, arXiv 1406.2661)."""
    return both(dg.gan(generator(), critic(3)))


def infogan() -> Entry:
    """InfoGAN (Chen et al. 2016, arXiv 1606.03657): q tells the code c from x."""
    net = dg.nn.mlp(6, 16, 3)
    p = dg.model(
        z=Normal(torch.zeros(2), 1.0),
        c=OneHotCategorical(torch.ones(4)),
        x=dg.deterministic(lambda z, c, net: net(torch.cat([z, c], 1)), net=net),
    )
    told = dg.rv(lambda x, net: OneHotCategorical(logits=net(x)), net=dg.nn.mlp(3, 16, 4))
    q = dg.model(x=dg.Input(3), c=told)
    return both(dg.objectives.recipes.infogan(p, q, critic(3)))


def aae() -> Entry:
    """Adversarial autoencoder (Makhzani et al. 2015, arXiv 1511.05644): the critic sees z."""
    return both(dg.objectives.recipes.aae(decoder(), encoder(), critic(2)))


def ali() -> Entry:
    """Adversarially learned inference (Dumoulin et al. 2016, arXiv 1606.00704)."""
    return both(dg.objectives.recipes.ali(generator(), encoder(), PairCritic()))


# Classical models


def hidden_markov() -> Entry:
    """Hidden Markov model: a chain z, told by x at each step."""
    graph = dg.Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)], plates={"T": ["z", "x"]})
    return of_graph(graph, observed=["x"])


def lda() -> Entry:
    """Latent Dirichlet allocation (Blei, Ng and Jordan 2003): nested plates."""
    graph = dg.Graph.from_edges(
        [("alpha", "theta"), ("theta", "z"), ("z", "w"), ("phi", "w"), ("beta", "phi")],
        inputs=["alpha", "beta"],
        plates={"D": ["theta", "z", "w"], "N": ["z", "w"], "K": ["phi"]},
    )
    return of_graph(graph, observed=["w"])


def eight_schools() -> Entry:
    """Hierarchical normal model of eight schools (Rubin 1981)."""
    graph = dg.Graph.from_edges(
        [("mu", "theta"), ("tau", "theta"), ("theta", "y"), ("sigma", "y")],
        inputs=["sigma"],
        plates={"J": ["theta", "y", "sigma"]},
    )
    return of_graph(graph, observed=["y"])


def crossing_plates() -> Entry:
    """The crossing plates that pyro issue 2980 asks for: y is in both."""
    graph = dg.Graph.from_edges(
        [("x", "y"), ("y", "z")], plates={"I": ["x", "y"], "J": ["y", "z"]}
    )
    return of_graph(graph, observed=["z"])


def factors() -> Entry:
    """A factor graph (Kschischang, Frey and Loeliger 2001): three pairwise potentials."""
    figure = factor_figure({"psi_1": "ab", "psi_2": "bc", "psi_3": "ca"}, observed="a")
    formula = r"p(a, b, c) = \frac{1}{Z}\,\psi_1(a, b)\,\psi_2(b, c)\,\psi_3(c, a)"
    return Entry(dg.draw(figure), formula)


# Nets


def recurrent() -> dg.Graph:
    """A recurrent net: the state h is a function of x and of h one step before."""
    return dg.Graph.from_edges(
        [("x", "h"), ("h", "y")],
        lagged=[("h", "h", 1)],
        deterministic=["h", "y"],
        inputs=["x"],
        plates={"T": ["x", "h", "y"]},
    )


def rnn_rolled() -> Entry:
    """A recurrent net, rolled: the state h is a function of x and of itself one step before."""
    return of_graph(recurrent())


def rnn_unrolled() -> Entry:
    """The same net over four steps."""
    return Entry(dg.draw(unrolled(recurrent(), 4)), factorisation(recurrent()))


def mlp_units() -> Entry:
    """A perceptron with one hidden layer, unit by unit: complete bipartite graphs."""
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    return Entry(dg.draw(unit_figure(dg.units(net, torch.zeros(2, 4)))), "")


def wide_units() -> Entry:
    """Large layers are plates; the arrows say how their units are connected."""
    mlp = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    examples = ((mlp, torch.zeros(2, 784)), (conv, torch.zeros(2, 1, 8, 8)))
    return Entry(dg.draw(*(unit_figure(dg.units(net, x)) for net, x in examples)), "")


class Block(nn.Module):
    """A basic block of a ResNet."""

    def __init__(self, inside: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        shortcut = nn.Conv2d(inside, channels, 1, stride, bias=False)
        is_same = inside == channels and stride == 1
        self.downsample = None if is_same else nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the block finds to what it is given."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Residual net (He et al. 2015, arXiv 1512.03385) with some blocks a stage."""

    def __init__(self, *blocks: int, width: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        inside = width
        for stage, count in enumerate(blocks):
            channels = width * 2**stage
            first = Block(inside, channels, 1 if stage == 0 else 2)
            rest = (Block(channels, channels) for _ in range(count - 1))
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, *rest))
            inside = channels
        self.stages = len(blocks)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(inside, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, 10]`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def of_net(net: nn.Module, *example: Tensor, depth: int | None = None) -> Entry:
    """Draw a net."""
    model = dg.from_module(net.eval(), *example)
    return Entry(dg.draw(model, depth=depth), "")


class Autoencoder(nn.Module):
    """Encodes, draws and decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Return what is drawn for x `[n, 64]`."""
        mean, log_scale = self.encoder(x).chunk(2, 1)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        return self.decoder(z).sigmoid()


def net() -> Entry:
    """A net that draws: its noise is a latent variable."""
    return of_net(Autoencoder(), torch.zeros(2, 64))


def resnet18() -> Entry:
    """ResNet-18, to two levels of modules."""
    return of_net(ResNet(2, 2, 2, 2), torch.zeros(2, 3, 64, 64), depth=2)


def resnet_stage() -> Entry:
    """One stage of four equal blocks of a ResNet, in full: they are drawn once, with a count."""
    return of_net(ResNet(4), torch.zeros(2, 3, 64, 64))


def transformer() -> Entry:
    """Six encoder layers of a Transformer (Vaswani et al. 2017, arXiv 1706.03762)."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return of_net(nn.TransformerEncoder(layer, 6), torch.zeros(2, 5, 16))


GENERATIVE = (twins, vae, gan, infogan, aae, ali)
CLASSICAL = (hidden_markov, lda, eight_schools, crossing_plates, factors)
NETS = (
    *(rnn_rolled, rnn_unrolled, mlp_units, wide_units),
    *(net, resnet18, resnet_stage, transformer),
)
CHAPTERS = {
    "Deep generative models": GENERATIVE,
    "Classical models": CLASSICAL,
    "Neural nets": NETS,
}
HELPERS = (decoder, generator, encoder, critic, PairCritic, both, of_graph, recurrent, of_net)
BLOCKS = (Autoencoder, Block, ResNet)

HEAD = """# Pictures

Drawn by `make pictures` from the code beside them; nothing here is edited by hand.

A solid line is generation, a dashed one inference. A filled head is a density, a hollow one a map.
Blue and bold is adversarial: a conditional used together with its reverse. Shaded is observed, a
diamond or a double outline is deterministic, a rounded box is repeated, a tinted one is a module.
"""


def page(entries: dict[str, Entry]) -> str:
    """Write the page in Markdown."""
    lines = [HEAD]
    for chapter, functions in CHAPTERS.items():
        lines.append(f"## {chapter}\n")
        lines += [section(f, entries[f.__name__].formula) for f in functions]
    shared = "\n\n\n".join(map(code, (*HELPERS, *BLOCKS)))
    return "\n".join([*lines, f"## What the entries share\n\n```python\n{shared}\n```\n"])


def section(function: Callable[[], Entry], formula: str) -> str:
    """Write what the page says of one entry: what it is, its picture, equation and code."""
    name, words = function.__name__, str(inspect.getdoc(function))
    equation = f"$$\n{formula}\n$$\n\n" if formula else ""
    head = f"### {words.rstrip('.')}\n\n![{name}]({name}.svg)\n\n"
    return f"{head}{equation}```python\n{code(function)}\n```\n"


def code(thing: Callable[..., object]) -> str:
    """Return the source of a function or class, without the docstring of a function."""
    source = textwrap.dedent(inspect.getsource(thing)).strip()
    if inspect.isclass(thing):
        return source
    head, _, rest = source.partition('"""')
    return head.rstrip() + rest.partition('"""')[2] if rest else source


def drawn(function: Callable[[], Entry]) -> Entry:
    """Make an entry; weights do not show, yet the seed is set."""
    torch.manual_seed(0)
    return function()


def write(folder: Path) -> None:
    """Write all pictures and the page."""
    entries = {f.__name__: drawn(f) for functions in CHAPTERS.values() for f in functions}
    folder.mkdir(parents=True, exist_ok=True)
    for name, entry in entries.items():
        entry.drawing.save(folder / f"{name}.svg")
    write_whole(folder / "README.md", page(entries).encode())


if __name__ == "__main__":
    write(Path(__file__).parent / "pictures")
