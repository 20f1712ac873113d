"""The unified view of Hu et al. (2018, arXiv 1706.00550): augmented graphs, and two lemmas."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from nets import encoder, net, zeros
from parts import Critic, back, decoder, generator, mapping, there
from torch import Tensor, nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.draw.augmented import Conditional
from daguerre.objectives.objective import Divergence, Player, Round, Term
from daguerre.objectives.recipes import (
    aae,
    aavae,
    ali,
    cyclegan,
    infogan,
    iwgan,
    vae_gan,
)
from daguerre.objectives.unified import Augmented, augmented, swap


def gan() -> dg.Objective:
    return dg.gan(generator(), Critic(3))


def info() -> dg.Objective:
    return infogan(generator(), encoder(3, 2), Critic(3))


def vae() -> dg.Objective:
    return dg.elbo(decoder(), encoder(3, 2))


def cycle() -> dg.Objective:
    return cyclegan(there(), back(), {"a": Critic(2), "b": Critic(3)})


def adaptation() -> dg.Objective:
    """One net makes features of both domains, and a critic tells them apart."""
    features = net(3, 2)
    source = dg.model(s=dg.Input(3), x=dg.deterministic(lambda s, net: net(s), net=features))
    target = dg.model(t=dg.Input(3), x=dg.deterministic(lambda t, net: net(t), net=features))
    return dg.JS((dg.data("s") * source)["x"], (dg.data("t") * target)["x"], critic=Critic(2))


# Table 1.2: dashed, solid, hollow and blue edges, each parent before its child
TABLE: dict[str, tuple[Callable[[], Augmented], str, str, str, str]] = {
    "GAN": (lambda: augmented(gan()), "zx yx", "xy", "zx", "xy"),
    "IWGAN": (lambda: augmented(iwgan(generator(), Critic(3))), "zx yx", "xy", "zx", "xy"),
    "domain adaptation": (
        lambda: augmented(adaptation()).renamed({"s": "z", "t": "z"}),
        "zx yx",
        "xy",
        "zx",
        "xy",
    ),
    "InfoGAN": (lambda: augmented(info()), "zx yx", "xy xz yz", "zx", "xy"),
    "VAE": (lambda: augmented(vae()), "xy xz yz", "zx yx", "", "xy"),
    "IWAE": (
        lambda: augmented(dg.iwae(decoder(), encoder(3, 2))),
        "xy xz yz",
        "zx yx",
        "",
        "xy",
    ),
    "AAVAE": (
        lambda: augmented(aavae(decoder(), encoder(3, 2), Critic(3))),
        "xy xz yz",
        "zx yx",
        "",
        "xy",
    ),
    "AAE": (
        lambda: augmented(aae(decoder(), mapping(), Critic(2))),
        "xz yz",
        "zy zx yx",
        "xz",
        "zy",
    ),
    "ALI": (
        lambda: augmented(ali(generator(), encoder(3, 2), Critic(2, 3))),
        "zx yx xz yz",
        "xy zy",
        "zx",
        "xy zy",
    ),
    "VAE/GAN": (
        lambda: augmented(vae_gan(decoder(), encoder(3, 2), Critic(3))),
        "zx yx xz yz xy",
        "zx yx xy",
        "",
        "xy",
    ),
}
table = pytest.mark.parametrize("name", TABLE)


def pairs(words: str) -> frozenset[tuple[str, str]]:
    return frozenset((word[0], word[1]) for word in words.split())


@table
def test_the_edges_are_those_of_the_table(name):
    build, dashed, solid, hollow, blue = TABLE[name]
    graph = build()
    assert graph.edges(inference=True) == pairs(dashed)
    assert graph.edges(inference=False) == pairs(solid)
    assert {(a.source, a.target) for a in graph.arrows if a.deterministic} == pairs(hollow)
    assert {(a.source, a.target) for a in graph.arrows if a.adversarial} == pairs(blue)


def test_the_table_of_a_gan_and_of_domain_adaptation_is_one():
    adapted = augmented(adaptation())
    assert adapted.latex().count(r"p_\theta(x \mid y)") == 1
    assert adapted.edges(inference=True) == pairs("sx tx yx")
    assert adapted.renamed({"s": "z", "t": "z"}) == augmented(gan())


@pytest.mark.parametrize(
    ("build", "laws"),
    [
        (gan, {r"p_\theta(x \mid y)", r"q_\phi^{(r)}(y \mid x)"}),
        (
            info,
            {r"p_\theta(x \mid y)", r"q_\phi^{(r)}(y \mid x)", r"q_\eta(z \mid x, y)"},
        ),
        (
            vae,
            {r"p_\theta(x \mid y, z)", r"q_*^{(r)}(y \mid x)", r"q_\eta(z \mid x, y)"},
        ),
    ],
)
def test_the_distributions_are_those_of_the_paper(build, laws):
    assert {c.latex() for c in augmented(build()).conditionals} == laws


def test_an_aavae_is_a_vae_with_a_learned_discriminator():
    learned = augmented(aavae(decoder(), encoder(3, 2), Critic(3)))
    symbols = {c.symbol: c for c in learned.conditionals if c.adversarial}
    assert [*symbols] == [r"q_\phi"]
    assert learned.arrows == augmented(vae()).arrows


# Exchanges


def test_an_infogan_with_its_processes_exchanged_is_a_vae():
    swapped, other = swap(augmented(info())), augmented(vae())
    for inference in (True, False):
        assert swapped.edges(inference=inference) == other.edges(inference=inference)
    blue = {(a.source, a.target, a.inference) for a in swapped.arrows if a.adversarial}
    assert blue == {("x", "y", True)}
    (perfect,) = (c for c in swapped.conditionals if c.adversarial)
    assert perfect.symbol == "q_*"
    assert perfect in other.conditionals
    # what is left of a difference: the decoder is a density, the generator a map
    assert {a for a in swapped.arrows if a.deterministic} == {
        a for a in swapped.arrows if (a.source, a.target) == ("z", "x")
    }


def test_an_infogan_whose_x_has_a_density_becomes_a_vae_and_nothing_less():
    noisy = infogan(decoder(), encoder(3, 2), Critic(3))
    assert swap(augmented(noisy)) == augmented(vae())


@table
def test_a_second_exchange_undoes_the_first(name):
    graph = TABLE[name][0]()
    assert swap(graph) != graph
    assert swap(swap(graph)) == graph


def test_an_aae_is_an_infogan_with_x_and_z_exchanged():
    exchanged = augmented(info()).renamed({"x": "z", "z": "x"})
    assert augmented(aae(decoder(), mapping(), Critic(2))).arrows == exchanged.arrows


def test_a_cyclegan_is_two_infogans_in_opposite_directions():
    one = augmented(info())
    there_ = one.renamed({"z": "a", "x": "b", "y": "y_b"})
    back_ = one.renamed({"z": "b", "x": "a", "y": "y_a"})
    assert augmented(cycle()).conditionals == there_.conditionals | back_.conditionals


# What follows from the graph


def test_visible_is_what_inference_starts_from():
    assert augmented(gan()).visible == {"z", "y"}
    assert augmented(info()).visible == {"z", "y"}
    assert augmented(vae()).visible == {"x"}
    assert augmented(aae(decoder(), mapping(), Critic(2))).visible == {"x", "y"}


def test_either_process_is_a_graph():
    graph = augmented(vae()).graph()
    assert graph.order == ("y", "z", "x")
    assert dg.independent(graph, "y", "z")
    assert not dg.independent(graph, "y", "z", given=["x"])
    assert augmented(vae()).graph(inference=True).order == ("x", "y", "z")
    with pytest.raises(dg.GraphError, match="has a cycle"):
        augmented(cycle()).graph()


def test_an_indicator_makes_way_for_a_variable_of_its_name():
    p = dg.model(
        y=dg.Input(2),
        z=Normal(zeros(2), 1.0),
        x=dg.deterministic(lambda z, y, net: net(z + y), net=net(2, 3)),
    )
    graph = augmented(dg.gan(p, Critic(3, 2)))
    assert graph.indicators == {"y_x"}
    assert repr(graph) == (
        "Augmented(inference: y_x -> x <= y, z | generation: x, y -> y_x (adversarial))"
    )
    q = dg.model(
        x=dg.Input(3),
        y=dg.Input(2),
        z=dg.rv(lambda x, y, net: Normal(net(torch.cat([x, y], 1)), 1.0), net=net(5, 2)),
    )
    matched = aae(decoder_of(), q, Critic(2, 2))
    assert augmented(matched).indicators == {"y_z"}


def decoder_of() -> dg.Model:
    return dg.model(
        y=dg.Input(2),
        z=Normal(zeros(2), 1.0),
        x=dg.rv(lambda z, y, net: Normal(net(z + y), 1.0), net=net(2, 3)),
    )


def test_maps_between_latents_and_data_are_of_both_processes():
    p = dg.model(
        z=Normal(zeros(2), 1.0),
        h=dg.deterministic(lambda z, net: net(z), net=net(2, 3)),
        x=lambda h: Normal(h, 1.0),
    )
    assert repr(augmented(dg.elbo(p, encoder(3, 2)))) == (
        "Augmented(inference: x -> y (adversarial); x, y -> z | generation: z => h; h, y -> x)"
    )
    assert repr(augmented(dg.gan(p, Critic(3)))) == (
        "Augmented(inference: z => h; h, y -> x | generation: x -> y (adversarial))"
    )


def test_likelihoods_and_autoencoders_have_augmented_graphs_too():
    p = dg.model(x=Normal(zeros(3), 1.0))
    assert repr(augmented(dg.nll(p))) == (
        "Augmented(inference: x -> y (adversarial) | generation: y -> x)"
    )
    cost = dg.cross_entropy(dg.data("x") * mapping(), decoder(), of="x")
    assert repr(augmented(cost)) == "Augmented(inference: x => z | generation: z -> x)"
    asleep = dg.cross_entropy(decoder(), encoder(3, 2), of="z")
    assert repr(augmented(asleep)) == "Augmented(inference: z -> x | generation: x -> z)"


def test_a_cost_with_neither_critic_nor_density_has_none():
    with pytest.raises(dg.InadmissibleError, match=r"MMD.* neither a critic nor a density"):
        augmented(dg.MMD(dg.data("x"), generator()["x"]))
    with pytest.raises(TypeError, match="expected an objective"):
        augmented(generator())  # type: ignore[arg-type]
    with pytest.raises(dg.GraphError, match="no variable 'w' in the augmented graph"):
        augmented(gan()).renamed({"w": "z"})


class Penalty(Divergence):
    """What a critic pays for its slope, which no model sees."""

    def __init__(self, critic: nn.Module) -> None:
        self.players = (Player("critic", (critic,)),)

    @property
    def title(self) -> str:
        return "penalty"

    def loss(self, player: str, at: Round) -> Tensor:
        return torch.zeros(())

    def ledger(self) -> tuple[Term, ...]:
        return ()

    def latex(self) -> dict[str, str]:
        return {}


def test_what_only_the_critic_pays_changes_nothing():
    penalty = dg.Objective(((10.0, Penalty(Critic(3))),))
    assert augmented(gan() + penalty) == augmented(gan())


@pytest.mark.parametrize("build", [gan, info, vae, cycle])
def test_pictures_have_the_three_marks(build):
    graph = augmented(build())
    figure = graph.figure()
    assert {replace(arrow, label="") for arrow in figure.arrows} == graph.arrows
    assert {arrow.label for arrow in figure.arrows if arrow.label} == {
        c.latex() for c in graph.conditionals
    }
    assert {n.name for n in figure.nodes if n.observed} == graph.visible
    assert all(c.latex() in figure.caption for c in graph.conditionals)
    assert dg.draw(graph).svg.count("stroke-dasharray") >= len(graph.edges(inference=True))


def test_a_conditional_says_what_it_is():
    one = Conditional("x", frozenset({"z", "w"}), "p", through=frozenset({"z", "w"}))
    assert str(one) == "w, z => x"
    assert one.latex() == "p(x)"
