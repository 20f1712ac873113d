"""Small networks: flows against change of variables, experts against Bayes."""

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

import daguerre as dg


def shaken(flow):
    torch.manual_seed(0)
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.5)
    return flow.double()


@pytest.mark.parametrize("width", [2, 3, 5])
def test_a_coupling_flow_is_a_bijection_with_the_jacobian_it_says(width):
    flow = shaken(dg.nn.Coupling(width, layers=3, hidden=8))
    z = torch.randn(4, width, dtype=torch.float64)
    transform = flow()
    x = transform(z)
    torch.testing.assert_close(transform.inv(x), z)
    exact = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: flow()(v), row).slogdet()[1] for row in z]
    )
    torch.testing.assert_close(transform.log_abs_det_jacobian(z, x), exact)


def test_the_density_of_a_flow_integrates_to_one():
    flow = shaken(dg.nn.Coupling(2, layers=2, hidden=4))
    p = dg.model(
        z=Normal(torch.zeros(2, dtype=torch.float64), 1.0),
        x=dg.bijection("z", flow=flow)(lambda flow: flow()),
    )
    axis = torch.linspace(-12, 12, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        total = p.log_prob({"x": grid}).exp().sum() * (axis[1] - axis[0]) ** 2
    assert total.item() == pytest.approx(1.0, abs=1e-3)


def test_a_flow_with_a_context_bends_a_posterior_towards_the_exact_one():
    """A correlated Gaussian posterior, which no diagonal q can be."""
    torch.manual_seed(0)
    p = dg.model(z=Normal(torch.zeros(2), 1.0), x=lambda z: Normal(z.sum(1, keepdim=True), 0.5))

    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(1, 2)
            self.scale = nn.Parameter(torch.zeros(2))

    class Flow(dg.Model):
        x = dg.Input(1)

        def __init__(self):
            super().__init__()
            self.net, self.flow = Scaled(), dg.nn.Coupling(2, layers=2, hidden=16, context=1)

        @dg.rv
        def e(self, x):
            return Normal(self.net(x), self.net.scale.exp())

        @dg.bijection("e")
        def z(self, x):
            return self.flow(x)

    x = torch.full([200, 1], 1.0)
    q = Flow()
    dg.fit(dg.elbo(p, q), x, steps=600, batch_size=200, lr=0.01, progress=False, compile=False)
    loss = dg.elbo(p, q).losses(x.repeat(50, 1))["model"].item()
    evidence = MultivariateNormal(torch.zeros(1), torch.eye(1) * 2.25).log_prob(x[0]).item()
    diagonal = 0.5 * torch.tensor(25 / 9).log().item()  # what a factorised q loses
    assert -evidence - 0.01 < loss < -evidence + 0.2 * diagonal


def test_experts_multiply_to_the_posterior_of_a_linear_gaussian_model():
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    held = torch.tensor([True, False])
    ones = torch.ones_like(x)
    q = dg.nn.product_of_experts([x, 3 * ones], [0.5 * ones, 2 * ones], [held, ~held])
    # N(z; 0, 1) N(x; z, s^2): precision 1 + 1 / s^2, mean x / s^2 over it
    torch.testing.assert_close(q.loc.flatten(), torch.tensor([4 / 5, 0.75 / 1.25]).double())
    torch.testing.assert_close(q.scale.flatten() ** -2, torch.tensor([5.0, 1.25]).double())
    missing = dg.nn.product_of_experts([x * float("nan")], [ones], [torch.tensor([False, False])])
    assert missing.loc.tolist() == [[0.0], [0.0]]
    with pytest.raises(ValueError, match="2 means, 1 scales and 1 masks"):
        dg.nn.product_of_experts([x, x], [ones], [held])


def test_a_codebook_finds_the_nearest_codes_and_counts_those_in_use():
    torch.manual_seed(0)
    book = dg.nn.Codebook(7, 3)
    h = torch.randn(4, 5, 3)
    assert torch.equal(book.index(h), torch.cdist(h, book.codes.expand(4, 7, 3)).argmin(-1))
    assert book(h).shape == h.shape
    assert book.perplexity(book.codes.detach()).item() == pytest.approx(7.0)
    assert book.perplexity(book.codes[:1].detach()).item() == pytest.approx(1.0)
    h = h.requires_grad_()
    z = book.passed(h, book(h))
    torch.testing.assert_close(z, book(h))
    assert torch.autograd.grad(z.sum(), h)[0].eq(1).all()


def test_a_vector_too_short_for_two_halves_is_refused():
    with pytest.raises(ValueError, match="two or more, not 1"):
        dg.nn.Coupling(1)
