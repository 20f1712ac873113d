"""Objectives as values: sums, scalings, players, ledger, formula, figure."""

import pytest
import torch
from nets import MODELS
from torch import nn
from torch.distributions import AffineTransform, ExpTransform, Normal
from toys import f64, scalar

import daguerre as dg
from daguerre.draw.formula import formula
from daguerre.objectives.schedules import linear


def vae():
    p, q, batch = MODELS["gaussian"]()
    return p, q, batch["x"]


def game():
    p, _, x = vae()
    return dg.gan(p, nn.Linear(3, 1).double()), x


def generator():
    return dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: z))


def seeded(cost, batch, **options):
    torch.manual_seed(11)
    return cost.losses(batch, **options)


def test_sum_adds_objectives():
    p, q, x = vae()
    cost = dg.elbo(p, q)
    assert seeded(sum([cost, cost]), x)["model"].item() == pytest.approx(
        seeded(2 * cost, x)["model"].item(), rel=0.2
    )
    with pytest.raises(TypeError):
        1 + cost  # type: ignore[operator]


def test_losses_add_and_scale():
    p, q, x = vae()
    cost, other = dg.elbo(p, q), dg.nll(p, observed=["z", "x"])
    one = seeded(cost, x)["model"].item()
    assert seeded(2 * cost, x)["model"].item() == pytest.approx(2 * one)
    assert seeded(cost * 0.5, x)["model"].item() == pytest.approx(0.5 * one)
    both = {"x": x, "z": torch.zeros(4, 2).double()}
    total = seeded(cost + 3 * other, both)["model"].item()
    assert total == pytest.approx(one + 3 * other.losses(both)["model"].item())
    assert (cost + other).given == ("x", "z")


def test_a_scaled_sum_scales_every_term():
    p, q, x = vae()
    cost = 3 * (dg.elbo(p, q) + 0.5 * dg.elbo(p, q))
    assert [weight for weight, _ in cost.parts] == [3, 1.5]
    torch.manual_seed(11)
    a, b = (dg.elbo(p, q).losses(x)["model"].item() for _ in range(2))
    assert seeded(cost, x)["model"].item() == pytest.approx(3 * a + 1.5 * b)


def test_objectives_are_values():
    p, q, _ = vae()
    cost = dg.elbo(p, q)
    assert (2 * cost).parts[0][0] == 2
    assert cost.parts[0][0] == 1
    assert ((cost + cost) + cost).parts == (cost + (cost + cost)).parts


@pytest.mark.parametrize("weight", ["2", True, None, [1]], ids=repr)
def test_a_weight_that_is_no_number_is_refused(weight):
    p, q, _ = vae()
    with pytest.raises(TypeError, match="a number or a schedule"):
        _ = weight * dg.elbo(p, q)
    with pytest.raises(TypeError, match="a number or a schedule"):
        _ = dg.elbo(p, q) * weight


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0])
def test_a_weight_that_is_negative_or_not_finite_is_refused(weight):
    p, q, _ = vae()
    with pytest.raises(ValueError, match="finite number, 0 or more"):
        _ = weight * dg.elbo(p, q)


def test_a_scheduled_weight_follows_the_updates_of_the_player():
    p, q, x = vae()
    cost, ramp = dg.elbo(p, q), linear(0.0, 2.0, steps=4)
    torch.manual_seed(3)
    one = cost.losses(x)["model"].item()
    for step, weight in ((0, 0.0), (1, 0.5), (9, 2.0)):
        torch.manual_seed(3)
        assert (ramp * cost).losses(x, step=step)["model"].item() == pytest.approx(weight * one)
    twice = 3 * (ramp * cost)
    first = next(row["term"] for row in twice.explain())
    assert first.startswith("(3 times 0 to 2 in 4 steps) * ")
    assert r"\beta_t" in twice.latex()


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
def test_a_compiled_step_counts_its_updates():
    def total(*, compiled):
        torch.manual_seed(0)
        p, q, x = vae()
        step = dg.train.Step(linear(0.0, 1.0, steps=3) * dg.elbo(p, q), compile=compiled)
        torch.manual_seed(1)
        return [step(x).item() for _ in range(5)]

    assert total(compiled=True) == pytest.approx(total(compiled=False))


def test_what_is_no_objective_does_not_add():
    p, q, _ = vae()
    with pytest.raises(TypeError, match="adds to an objective, not to 1"):
        _ = dg.elbo(p, q) + 1  # type: ignore[operator]  # what a user may write


def test_players_of_the_same_name_are_one():
    """VAE/GAN (Larsen et al. 2016, arXiv 1512.09300): one model, one critic, two costs."""
    p, q, x = vae()
    critic = nn.Linear(3, 1).double()
    cost = dg.elbo(p, q) + 0.1 * dg.gan(p, critic)
    players = {player.name: player for player in cost.players}
    assert {*players} == {"model", "critic"}
    assert {*players["model"].parameters()} == {*p.parameters(), *q.parameters()}
    assert players["critic"].parameters() == [*critic.parameters()]
    alone = seeded(dg.gan(p, critic), x, players=["critic"])["critic"].item()
    assert seeded(cost, x, players=["critic"])["critic"].item() == alone


def test_a_shared_module_is_counted_once_and_frozen_parameters_not_at_all():
    p, q, _ = vae()
    (player,) = (dg.elbo(p, q) + dg.elbo(p, q)).players
    assert len(player.modules) == 2
    next(iter(p.parameters())).requires_grad = False
    assert len(player.parameters()) == len([*p.parameters(), *q.parameters()]) - 1


def test_critics_move_first():
    p, q, _ = vae()
    for cost in (game()[0], dg.elbo(p, q) + game()[0], game()[0] + dg.elbo(p, q)):
        assert [player.name for player in cost.players] == ["critic", "model"]


def test_kl_from_data_is_the_negative_log_likelihood():
    p = dg.model(x=Normal(f64(0.3, -0.2), 1.5), y=lambda x: Normal(2 * x, 0.5))
    batch = p.sample(6)
    expected = -p.log_prob(batch).mean()
    torch.testing.assert_close(dg.KL(dg.data("x", "y"), p).losses(batch)["model"], expected)
    torch.testing.assert_close(dg.nll(p).losses(batch)["model"], expected)


@pytest.mark.parametrize(
    ("transform", "log_density"),
    [(ExpTransform(), -1.85231222072), (AffineTransform(1.0, 2.0), -1.73708571376)],
    ids=["exp", "affine"],
)
def test_flows_have_the_likelihood_of_oracle_e1(transform, log_density):
    """z ~ N(0, 1), x = e^z or 2 z + 1, at x = 2 (Rezende and Mohamed 2015, arXiv 1505.05770)."""
    p = dg.model(z=Normal(scalar(0.0), scalar(1.0)), x=dg.bijection("z", transform))
    for cost in (dg.nll(p), dg.nll(p, observed=["x"]), dg.KL(dg.data("x"), p)):
        assert -cost.losses(f64(2.0))["model"].item() == pytest.approx(log_density, abs=1e-9)


def test_a_conditional_likelihood_is_given_its_inputs():
    p = dg.model(c=dg.Input(1), x=lambda c: Normal(2 * c, 0.5))
    c, x = torch.randn(5, 1), torch.randn(5, 1)
    expected = -Normal(2 * c, 0.5).log_prob(x).mean()
    torch.testing.assert_close(dg.nll(p).losses({"x": x, "c": c})["model"], expected)


def test_the_ledger_of_a_vae():
    p, q, _ = vae()
    rows = [*dg.elbo(p, q).explain()]
    assert [(row["term"], row["estimator"]) for row in rows] == [
        ("KL(q(z | x) || p(z))", "closed form"),
        ("-log p(x | z)", "Monte Carlo, pathwise in z"),
        ("log data(x)", "left out"),
    ]
    assert rows[0]["why"].startswith("Normal against Normal")
    scaled = (0.5 * dg.elbo(p, q)).explain()
    assert [row["term"][:6] for row in scaled] == ["0.5 * "] * 3


def test_the_ledger_of_a_gan_names_both_players():
    cost, _ = game()
    assert [row["player"] for row in cost.explain()] == ["critic", "model"]
    assert "pathwise through z, x" in str(cost.explain())


def test_formulas_say_what_is_minimised():
    p, q, _ = vae()
    (line,) = dg.elbo(p, q).formulas.values()
    assert line == (
        r"\min_{\theta, \phi}\; \mathbb{E}_{p_{\mathrm{data}}(x)\, q_\phi(z \mid x)}\left["
        r"\mathrm{KL}\left(q_\phi(z \mid x) \,\Vert\, p(z)\right) - \log p_\theta(x \mid z)\right]"
    )
    assert dg.elbo(p, q).latex() == line
    assert {*game()[0].formulas} == {"critic", "model"}


def test_a_weight_in_a_formula_multiplies_the_whole_sum():
    p, q, _ = vae()
    both = dg.JS(dg.data("x") * q, p, critic=dg.nn.Joined(nn.Linear(5, 1).double()))
    model = (2 * both).formulas["model"]
    assert r"\; 2\,\left(\mathbb{E}" in model
    assert model.endswith(r"\right)")
    (line,) = (2 * dg.elbo(p, q)).formulas.values()
    assert r"2\,\mathbb{E}" in line  # one expectation needs no bracket


@pytest.mark.parametrize(
    ("loss", "turned"),
    [
        (dg.games.NON_SATURATING, r"\left[-\log (1 - D_\psi(z, x))\right]"),
        (dg.games.MINIMAX, r"\left[\log D_\psi(z, x)\right]"),
    ],
    ids=lambda loss: getattr(loss, "name", ""),
)
def test_where_the_first_side_learns_its_term_is_in_the_formula(loss, turned):
    q = dg.model(x=dg.Input(2), z=dg.rv(lambda x, net: Normal(net(x), 1.0), net=nn.Linear(2, 2)))
    cost = dg.JS(dg.data("x") * q, generator(), critic=nn.Bilinear(2, 2, 1), loss=loss)
    assert cost.formulas["model"].startswith(r"\min_{\theta, \phi}")
    assert cost.formulas["model"].endswith(turned)
    assert formula(cost.latex()).width > 100


@pytest.mark.parametrize("name", MODELS)
def test_every_formula_renders(name):
    p, q, _ = MODELS[name]()
    cost = dg.elbo(p, q) + 2 * dg.gan(generator(), nn.Linear(2, 1))
    for line in (cost.latex(), *cost.formulas.values(), cost.figure().caption):
        assert formula(line).width > 100


def test_the_figure_of_a_vae():
    p, q, _ = vae()
    figure = dg.elbo(p, q).figure()
    arrows = {(a.source, a.target): (a.inference, a.deterministic) for a in figure.arrows}
    assert arrows == {("z", "x"): (False, False), ("x", "z"): (True, False)}
    assert {node.name: node.observed for node in figure.nodes} == {"z": False, "x": True}


def test_the_figure_of_a_gan():
    figure = dg.gan(generator(), nn.Linear(2, 1)).figure()
    flags = {
        (a.source, a.target): (a.inference, a.deterministic, a.adversarial) for a in figure.arrows
    }
    assert flags == {("z", "x"): (False, True, False), ("x", "critic"): (True, False, True)}
    assert [node.shape for node in figure.nodes] == ["random", "deterministic", "critic"]


def test_an_inference_model_in_two_terms_is_drawn_once():
    p, q, _ = vae()
    figure = (dg.elbo(p, q) + 2 * dg.elbo(p, q)).figure()
    assert len(figure.arrows) == 2


def test_the_ledger_of_a_flow_names_its_jacobian():
    p = dg.model(z=Normal(0.0, 1.0), x=dg.bijection("z", ExpTransform()))
    cost = dg.nll(p)
    rows = [(row["term"], row["why"]) for row in cost.explain()]
    assert rows == [
        ("-log p(z)", "recovered from x"),
        ("log |det dx/dz|", "change of variables"),
        ("log data(x)", "a constant: no parameters"),
    ]
    assert r"+ \log\left|\det \frac{\partial x}{\partial z}\right|" in cost.latex()
    formula(cost.latex())
