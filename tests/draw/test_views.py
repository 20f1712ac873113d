"""Two views of one cost: the table of Hu et al. (2018, arXiv 1706.00550), and what is usual."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, OneHotCategorical

import daguerre as dg
from daguerre.draw import Figure
from daguerre.graph import Lag
from daguerre.objectives import recipes

ZEROS = torch.zeros(2)


def decoder() -> dg.Model:
    return dg.model(z=Normal(ZEROS, 1.0), x=lambda z: Normal(3 * z, 1.0))


def encoder() -> dg.Model:
    return dg.model(x=dg.Input(2), z=lambda x: Normal(x / 3, 1.0))


def generator() -> dg.Model:
    return dg.model(z=Normal(ZEROS, 1.0), x=dg.deterministic(lambda z: 3 * z))


class Mixed(dg.Model):
    """A generator with a code."""

    @dg.rv
    def z(self):
        return Normal(ZEROS, 1.0)

    @dg.rv
    def c(self):
        return OneHotCategorical(torch.ones(2))

    @dg.deterministic
    def x(self, z: Tensor, c: Tensor):
        return z + c


COSTS = {
    "gan": lambda: dg.gan(generator(), nn.Linear(2, 1)),
    "vae": lambda: dg.elbo(decoder(), encoder()),
    "infogan": lambda: recipes.infogan(generator(), encoder(), nn.Linear(2, 1)),
}
# facts of the paper: (process, head, colour) of each arrow, then what is shaded
HU = {
    "gan": ({"zx": "dashed hollow", "yx": "dashed", "xy": "solid blue"}, "yz"),
    "infogan": (
        {
            "zx": "dashed hollow",
            "yx": "dashed",
            "xy": "solid blue",
            "xz": "solid",
            "yz": "solid",
        },
        "yz",
    ),
    "vae": (
        {"zx": "solid", "yx": "solid", "xy": "dashed blue", "xz": "dashed", "yz": "dashed"},
        "x",
    ),
}
USUAL = {
    "gan": ({"zx": "solid hollow", "x*": "dashed blue"}, "x"),
    "infogan": ({"zx": "solid hollow", "xz": "dashed", "x*": "dashed blue"}, "x"),
    "vae": ({"zx": "solid", "xz": "dashed"}, "x"),
}


def read(picture: Figure) -> tuple[dict[str, str], str]:
    marks = {}
    for a in picture.arrows:
        pair = a.source + a.target.replace("critic", "*")
        words = ["dashed" if a.inference else "solid"]
        words += ["hollow"] * a.deterministic + ["blue"] * a.adversarial
        marks[pair] = " ".join(words)
    return marks, "".join(sorted(n.name for n in picture.nodes if n.observed))


def shown(name: str, view: str) -> Figure:
    (panel,) = dg.draw(COSTS[name](), view=view).sheet.panels
    return panel.figure


@pytest.mark.parametrize("name", COSTS)
def test_the_view_of_hu_is_the_table_of_the_paper(name):
    assert read(shown(name, "hu")) == HU[name]


@pytest.mark.parametrize("name", COSTS)
def test_the_usual_view_is_what_readers_expect_and_the_default(name):
    assert read(shown(name, "conventional")) == USUAL[name]
    assert dg.draw(COSTS[name]()).svg == dg.draw(COSTS[name](), view="conventional").svg


def test_names_of_distributions_stand_at_the_arrows():
    labels = {(a.source, a.target): a.label for a in shown("gan", "hu").arrows}
    assert labels["x", "y"] == r"q_\phi^{(r)}(y \mid x)"
    assert labels["z", "x"] == r"p_\theta(x \mid y)"
    usual = {(a.source, a.target): a.label for a in shown("vae", "conventional").arrows}
    assert usual == {
        ("z", "x"): r"p_{\theta}(x \mid z)",
        ("x", "z"): r"q_{\phi}(z \mid x)",
    }
    assert shown("gan", "conventional").arrows[0].label == r"x = G_{\theta}(z)"


def test_each_distribution_is_named_once():
    for name in COSTS:
        labels = [a.label for a in shown(name, "hu").arrows if a.label]
        assert sorted(labels) == sorted(
            c.latex() for c in dg.augmented(COSTS[name]()).conditionals
        )


def test_a_code_is_told_and_noise_is_not():
    q = dg.model(x=dg.Input(2), c=lambda x: OneHotCategorical(logits=x))
    cost = recipes.infogan(Mixed(), q, nn.Linear(2, 1))
    (panel,) = dg.draw(cost, view="hu").sheet.panels
    marks, _ = read(panel.figure)
    assert marks["xc"] == marks["yc"] == "solid"
    assert "xz" not in marks


def test_what_rows_may_lack_is_half_shaded():
    p = dg.model(y=OneHotCategorical(torch.ones(2)), x=lambda y: Normal(3 * y, 1.0))
    q = dg.model(x=dg.Input(2), y=lambda x: OneHotCategorical(logits=x))
    cost = dg.elbo(p, q, observed=["x"], partial=["y"])
    nodes = cost.figure().nodes
    assert [(n.name, n.observed, n.partial) for n in nodes] == [
        ("y", False, True),
        ("x", True, False),
    ]


class Markov(dg.Model):
    """A chain of latents, each told by x."""

    @dg.rv
    def z(self, before: Tensor = dg.lag("z", init=ZEROS)):
        return Normal(before, 1.0)

    @dg.rv
    def x(self, z: Tensor):
        return Normal(z, 1.0)


class Smoother(dg.Model):
    """Latents given what is observed, now and later."""

    x = dg.Input(2)

    @dg.deterministic
    def b(self, x: Tensor, after: Tensor = dg.lag("b", -1, init=ZEROS)):
        return x + after

    @dg.rv
    def z(self, b: Tensor, before: Tensor = dg.lag("z", init=ZEROS)):
        return Normal(b + before, 1.0)


def test_chains_keep_their_lags_in_both_views():
    cost = dg.elbo(Markov(), Smoother())
    usual, unified = (dg.draw(cost, view=view).figures[0] for view in ("conventional", "hu"))
    lags = {("z", "z", False, False, "t - 1"), ("z", "z", True, False, "t - 1")}
    lags |= {("b", "b", True, True, "t + 1")}
    for picture in (usual, unified):
        loops = [a for a in picture.arrows if a.source == a.target]
        assert {(a.source, a.target, a.inference, a.deterministic, a.label) for a in loops} == lags
    marks, shaded = read(unified)
    assert (marks["yx"], marks["xy"], marks["yz"], marks["bz"], shaded) == (
        *("solid", "dashed blue", "dashed", "dashed"),
        "x",
    )
    assert r"p_\theta(z_{t} \mid z_{t-1})" in unified.caption
    assert r"q_\eta(z_{t} \mid b_{t}, y, z_{t-1})" in unified.caption
    assert r"q_*^{(r)}(y \mid x_{1:T})" in unified.caption


def test_the_graph_of_a_process_over_time_is_a_chain():
    chain = dg.augmented(dg.elbo(Markov(), Smoother()))
    model = dg.Graph.from_edges([("y", "x"), ("z", "x")], nodes=["b"], lagged=[("z", "z", 1)])
    assert chain.graph() == model
    assert {*chain.graph(inference=True)["b"].lags} == {Lag("b", -1)}
    assert "z[t-1] -> z" in repr(chain)
    assert "b[t+1], x => b" in repr(chain)
    renamed = chain.renamed({"z": "u"})
    assert renamed.graph()["u"].lags == (Lag("u", 1),)
    assert renamed.times == {"u", "x", "b"}
    assert dg.augmented(dg.elbo(decoder(), encoder())).times == frozenset()


def test_plates_are_shown_in_both_views():
    school = dg.Plate("school", 8)

    class Schools(dg.Model):
        @dg.rv
        def mu(self):
            return Normal(torch.zeros(()), 1.0)

        @school
        @dg.rv
        def theta(self, mu: Tensor):
            return Normal(mu, 1.0)

        @school
        @dg.rv
        def x(self, theta: Tensor):
            return Normal(theta, 1.0)

    class Guess(dg.Model):
        x = school(dg.Input())

        @dg.rv
        def mu(self):
            return Normal(torch.ones(()), 1.0)

        @school
        @dg.rv
        def theta(self, x: Tensor):
            return Normal(x, 1.0)

    cost = dg.elbo(Schools(), Guess())
    for view in ("conventional", "hu"):
        (panel,) = dg.draw(cost, view=view).sheet.panels
        (plate,) = panel.picture.frames
        assert (plate.frame.name, {*plate.frame.members}) == ("school", {"theta", "x"})
        assert plate.label.source == r"\mathrm{school} = 8"
    unified = dg.augmented(cost)
    assert unified.renamed({"theta": "w"}).plates == ((school, frozenset({"w", "x"})),)
    assert unified == dataclasses.replace(unified, plates=())


def test_a_recurrent_generator_is_a_map_of_its_past():
    class Recurrent(dg.Model):
        @dg.rv
        def z(self):
            return Normal(ZEROS, 1.0)

        @dg.deterministic
        def x(self, z: Tensor, before: Tensor = dg.lag("x", init=ZEROS)):
            return z + before

    gan = dg.gan(Recurrent(), nn.Linear(2, 1))
    marks, shaded = read(dg.draw(gan, view="hu").figures[0])
    expected = {"xx": "dashed hollow", "zx": "dashed hollow", "yx": "dashed", "xy": "solid blue"}
    assert (marks, shaded) == (expected, "yz")


def test_an_unknown_view_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no view 'Hu'; did you mean 'hu'\?"):
        dg.draw(COSTS["vae"](), view="Hu")


def test_models_and_graphs_have_no_view_of_hu():
    for thing in (decoder(), decoder().graph):
        with pytest.raises(TypeError, match=r"draw an objective, such as dg.elbo\(p, q\), not"):
            dg.draw(thing, view="hu")


def test_a_cost_without_processes_has_no_view_of_hu():
    cost = dg.MMD(dg.data("x"), generator()["x"])
    assert dg.draw(cost).svg
    with pytest.raises(dg.InadmissibleError, match="neither a critic nor a density"):
        dg.draw(cost, view="hu")


def test_nets_are_folded_and_stop_at_a_depth():
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(3)))
    model = dg.from_module(layers, torch.zeros(4, 2))
    (panel,) = dg.draw(model).sheet.panels
    assert [n.label for n in panel.figure.nodes][1:] == [
        r"\mathrm{0}\ \mathrm{Linear}",
        r"\mathrm{1}\ \mathrm{Tanh}",
    ]
    assert panel.figure.frames[0].repeats == 3
    (short,) = dg.draw(model, depth=1).sheet.panels
    assert [n.name for n in short.figure.nodes] == ["input", "0"]
    (whole,) = dg.draw(model.graph).sheet.panels
    assert len(whole.figure.nodes) == 7
    odd = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    (apart,) = dg.draw(dg.from_module(odd, torch.zeros(4, 2))).sheet.panels
    assert len(apart.figure.nodes) == 3
