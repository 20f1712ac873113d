"""The Jensen-Shannon game: its value, its optimal critic, its gradients, its mistakes."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal
from toys import f64

import daguerre as dg

# Oracles B1 and B3, after Goodfellow et al. (2014, arXiv 1406.2661) and Arjovsky and Bottou
# (2017, arXiv 1701.04862)
D_STAR = {0.0: 0.622459331202, 0.5: 0.5, 1.0: 0.377540668798, 2.0: 0.182425523806}
GRADIENTS = {
    ("non-saturating", 0.5): 0.1323682469,
    ("minimax", 0.5): 0.1176317531,
    ("non-saturating", 1.0): 0.3010135664,
    ("non-saturating", 1.5): 0.5177748603,
    ("minimax", 1.5): 0.2322251397,
}
LOSSES = {loss.name: loss for loss in (dg.games.NON_SATURATING, dg.games.MINIMAX)}
GRID = torch.linspace(-14, 14, 20_001, dtype=torch.float64)
MASS = torch.exp(-(GRID**2) / 2) / math.sqrt(2 * math.pi) * (GRID[1] - GRID[0])


def logit(x, shift):
    """Of the optimal critic between N(0, 1) and N(shift, 1)."""
    return shift**2 / 2 - shift * x


class Moved(dg.Model):
    """N(mean, 1), drawn pathwise."""

    def __init__(self, mean=1.0):
        super().__init__()
        self.mean = nn.Parameter(f64(mean))

    @dg.rv
    def x(self):
        return Normal(self.mean, 1.0)


class Reshaped(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(len(x), *self.shape[1:])


class Optimal(nn.Module):
    """The optimal critic as a module, for batches [n, 1]."""

    def __init__(self, shift):
        super().__init__()
        self.shift = nn.Parameter(f64(shift))

    def forward(self, x):
        return logit(x, self.shift)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("shift", "value", "jsd"),
    [(1.0, -1.16345139675, 0.111421482184), (2.0, -0.712632720429, 0.336830820345)],
)
def test_at_the_optimal_critic_the_game_has_the_value_of_oracle_b1(name, shift, value, jsd):
    game = LOSSES[name]
    real = (MASS * game.real(logit(GRID, shift))).sum()
    fake = (MASS * game.fake(logit(GRID + shift, shift))).sum()
    assert -(real + fake).item() == pytest.approx(value, abs=1e-8)
    assert (-(real + fake).item() + math.log(4)) / 2 == pytest.approx(jsd, abs=1e-8)


def test_the_critic_loss_of_an_objective_is_minus_that_value():
    n = 100_000
    game = dg.gan(Moved(1.0), Optimal(1.0))
    loss = game.losses(torch.randn(n, 1, dtype=torch.float64))["critic"]
    assert abs(loss.item() - 1.16345139675) < 4 * 1.0 / math.sqrt(n)  # either loss has sd < 0.6


@pytest.mark.parametrize(("name", "mean"), GRADIENTS)
def test_the_model_gradient_under_the_optimal_critic_is_oracle_b3(name, mean):
    theta = f64(mean).requires_grad_()
    loss = 0.5 * (MASS * LOSSES[name].model(logit(GRID + theta, mean))).sum()
    loss.backward()
    assert theta.grad is not None
    # towards the data; the minimax loss is log(1 - D), the non-saturating one -log D
    assert theta.grad.item() == pytest.approx(GRADIENTS[name, mean], abs=1e-7)


def test_draws_of_a_game_have_that_gradient():
    n, p = 200_000, Moved(1.0)
    loss = dg.gan(p, Optimal(1.0)).losses(torch.zeros(n, 1).double(), players=["model"])["model"]
    (gradient,) = torch.autograd.grad(loss, [p.mean])
    assert abs(gradient.item() / 2 - 0.3010135664) < 4 * 0.5 / math.sqrt(n)


def test_a_trained_critic_reaches_the_optimal_one():
    critic = dg.nn.mlp(1, 16, 1, activation=nn.Tanh)
    p = dg.model(x=Normal(torch.ones(1), 1.0))
    game = dg.JS(dg.data("x"), p, critic=critic)
    x = torch.randn(100_000, 1)
    for lr in (1e-2, 1e-3):
        step = dg.train.Step(game, "critic", optimizer=dg.Adam(lr=lr), compile=False)
        for i in range(300):
            step(x[(i * 2048) % 96_000 :][:2048])
    points = torch.tensor([*D_STAR])[:, None]
    found = critic(points).sigmoid().squeeze(1)
    torch.testing.assert_close(found, torch.tensor([*D_STAR.values()]), rtol=0, atol=0.02)


def test_a_critic_gives_the_log_ratio():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = Normal(0.0, 1.0).log_prob(x) - Normal(1.0, 1.0).log_prob(x)
    for game in (
        dg.gan(Moved(1.0), Optimal(1.0)),
        dg.f_divergence(dg.data("x"), Moved(1.0), f=dg.f.PEARSON, critic=Optimal(1.0)),
    ):
        found = dg.log_ratio(game, {"x": x})
        torch.testing.assert_close(found, exact.squeeze(1))
        assert not found.requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda game: dg.log_ratio(game, {"y": GRID[:, None]}), "the critic compares 'x'"),
        (lambda game: dg.log_ratio(game + game, {"x": GRID[:, None]}), "one critic, and .* has 2"),
        (
            lambda _: dg.log_ratio(dg.nll(Moved()), {"x": GRID[:, None]}),
            "one critic, and .* has 0",
        ),
        (
            lambda _: dg.log_ratio(
                dg.f_divergence(
                    dg.data("x"), Moved(), f=dg.f.TOTAL_VARIATION, critic=Optimal(1.0)
                ),
                {"x": GRID[:, None]},
            ),
            "best critic of total variation is not the log-ratio",
        ),
    ],
)
def test_a_log_ratio_that_cannot_be_told_is_refused(call, message):
    with pytest.raises(dg.GraphError, match=message):
        call(dg.gan(Moved(1.0), Optimal(1.0)))


def test_each_player_sees_only_its_own_gradient():
    generator = dg.model(
        z=Normal(torch.zeros(1).double(), 1.0),
        x=dg.deterministic(lambda z, net: net(z), net=nn.Linear(1, 1).double()),
    )
    for p in (Moved(1.0), generator):
        losses = dg.gan(p, Optimal(0.3)).losses(torch.zeros(5, 1).double())
        own = [*p.parameters()]
        nothing = torch.autograd.grad(losses["critic"], own, allow_unused=True)
        assert all(gradient is None for gradient in nothing)
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(losses["model"], own))


def test_where_the_first_side_learns_too_it_plays_with_the_sign_turned():
    """BiGAN (Donahue et al. 2017, arXiv 1605.09782): the encoder wants real pairs called fake."""
    shift = nn.Linear(1, 1)
    nn.init.ones_(shift.weight)
    nn.init.ones_(shift.bias)
    code = Normal(torch.zeros(1), 1.0)
    p = dg.model(z=code, x=dg.deterministic(lambda z, net: net(z), net=shift))
    q = dg.model(x=dg.Input(1), z=dg.deterministic(lambda x, net: net(x), net=nn.Linear(1, 1)))

    class Critic(nn.Module):
        def forward(self, z, x):
            return (z + 2 * x).squeeze(1)

    x = torch.randn(6, 1)
    game = dg.JS(dg.data("x") * q, p, critic=Critic())
    torch.manual_seed(3)
    loss = game.losses(x, players=["model"])["model"]
    torch.manual_seed(3)
    z = torch.randn(6, 1)
    fake, real = z + 2 * (z + 1), q.sample(given={"x": x})["z"] + 2 * x
    softplus = nn.functional.softplus
    torch.testing.assert_close(loss.detach(), softplus(-fake).mean() + softplus(real).mean())
    own = [*q.parameters(), *p.parameters()]
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, own))
    fixed = dg.model(z=code, x=dg.deterministic(lambda z: z + 1))
    loss = dg.JS(dg.data("x") * q, fixed, critic=Critic()).losses(x, players=["model"])["model"]
    torch.testing.assert_close(loss, softplus(real).mean())  # what cannot move is left out


def test_a_conditional_critic_sees_the_inputs_last():
    """Mirza and Osindero (2014, arXiv 1411.1784)."""
    p = dg.model(
        c=dg.Input(2),
        z=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda z, c: torch.cat([z, c], 1)),
    )
    seen = []

    class Critic(nn.Module):
        def forward(self, x, c):
            seen.append((x.clone(), c.clone()))
            return x[:, 0] + c[:, 0]

    x, c = torch.full([4, 3], 7.0), torch.randn(4, 2)
    game = dg.gan(p, Critic())
    assert game.given == ("x", "c")
    seen.clear()  # of the check without data
    game.losses({"x": x, "c": c})
    (real, c_real), (fake, c_fake), _ = seen
    assert torch.equal(real, x)
    assert torch.equal(fake[:, 1:], c)  # drawn for the same conditions
    assert torch.equal(c_real, c)
    assert torch.equal(c_fake, c)


def test_a_projection_critic_is_linear_in_the_embedded_condition():
    """Miyato and Koyama (2018, arXiv 1802.05637)."""
    features, embed = dg.nn.mlp(3, 8, 4), nn.Linear(2, 4, bias=False)
    critic = dg.nn.Projection(features, embed, width=4)
    x, c = torch.randn(5, 3), torch.eye(2)[[0, 1, 0, 1, 1]]
    phi = features(x)
    expected = critic.head(phi)[:, 0] + (embed.weight.T[[0, 1, 0, 1, 1]] * phi).sum(1)
    torch.testing.assert_close(critic(x, c), expected)
    p = dg.model(
        c=dg.Input(2),
        z=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda z, c: torch.cat([z, c], 1)),
    )
    losses = dg.gan(p, critic).losses({"x": x, "c": c})
    gradients = torch.autograd.grad(losses["critic"], [*critic.parameters()], allow_unused=True)
    assert all(g is not None for g in gradients[:-1])


def test_a_critic_with_the_wrong_output_is_refused():
    for width in (2, 3):
        with pytest.raises(
            dg.GraphError, match=rf"one logit per example.*returned \[n, {width}\]"
        ):
            dg.gan(Moved(), dg.nn.mlp(1, 4, width).double())
    for shape in ((5,), (5, 1)):
        critic = nn.Sequential(nn.Flatten(0), Reshaped(shape))
        assert dg.gan(Moved(), critic).losses(torch.zeros(5, 1).double(), players=["model"])


def test_a_critic_that_reads_its_input_is_checked_when_it_is_called():
    class Reading(nn.Module):
        def forward(self, x):
            return x if x.max().item() > 9 else x.repeat(1, 2)

    game = dg.gan(Moved(), Reading())
    with pytest.raises(dg.GraphError, match=r"one logit per example, \[5\].*returned \[5, 2\]"):
        game.losses(torch.zeros(5, 1).double())


def test_a_critic_one_column_off_is_found_before_any_data():
    with pytest.raises(dg.GraphError) as error:
        dg.gan(Moved(), dg.nn.mlp(2, 8, 1).double())
    message = str(error.value)
    assert message.startswith("the critic (x -> the critic)")
    assert "in layer Linear(in_features=2, out_features=8" in message
    assert "x has shape [n, 1]" in message


@pytest.mark.parametrize(
    "critic", [nn.Linear, len, 3, lambda x: x], ids=["class", "function", "number", "lambda"]
)
def test_a_critic_that_is_no_module_is_refused(critic):
    with pytest.raises(TypeError, match=r"critic must be an nn\.Module"):
        dg.gan(Moved(), critic)


def test_what_cannot_be_drawn_pathwise_is_refused():
    p = dg.model(
        z=Normal(torch.zeros(2), 1.0),
        x=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=nn.Linear(2, 3)),
    )
    with pytest.raises(dg.InadmissibleError, match=r"x \(z -> x\).*Bernoulli.*no pathwise"):
        dg.gan(p, nn.Linear(3, 1))


def test_the_data_comes_first():
    with pytest.raises(dg.InadmissibleError, match=r"data as its first side: JS\(data, p"):
        dg.JS(Moved(), dg.data("x"), critic=Optimal(1.0))


def test_a_latent_on_one_side_only_is_refused():
    p = dg.model(z=Normal(torch.zeros(1), 1.0), x=dg.deterministic(lambda z: z))
    with pytest.raises(dg.GraphError, match=r"z is on one side only; restrict it with \['x'\]"):
        dg.JS(dg.data("x"), p, critic=Optimal(1.0))
