"""State spaces against the dense Gaussian of all states and observations."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.chain.plan import Plan
from daguerre.infer.chain.ssm import StateSpace
from daguerre.infer.chain.states import (
    draw_states,
    filtered_states,
    plan_of_states,
    smoothed_states,
    state_evidence,
)

DOUBLE = torch.float64


def close(a: Tensor, b: Tensor, *, atol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=atol)


def dense(model: StateSpace, b: int) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior mean, covariance and log-evidence of one sequence, all states at once."""
    (d, _), (batch, steps) = model.sizes, model.values.shape[:2]
    length = steps if model.lengths is None else int(model.lengths[b])

    def at(x: Tensor, inner: int, n: int) -> Tensor:
        return x.expand(batch, n, *x.shape[x.dim() - inner :])[b]

    f, off, q = (
        at(model.transition, 2, steps - 1),
        at(model.offset, 1, steps - 1),
        at(model.noise, 2, steps - 1),
    )
    h, c, r = (
        at(model.emission, 2, steps),
        at(model.emission_offset, 1, steps),
        at(model.emission_noise, 2, steps),
    )
    mean = [model.mean.expand(batch, d)[b]]
    cov = torch.zeros(length, d, length, d, dtype=DOUBLE)
    cov[0, :, 0] = model.covariance.expand(batch, d, d)[b]
    for t in range(1, length):
        mean.append(f[t - 1] @ mean[-1] + off[t - 1])
        for s in range(t):
            cov[t, :, s] = f[t - 1] @ cov[t - 1, :, s]
            cov[s, :, t] = cov[t, :, s].T
        cov[t, :, t] = f[t - 1] @ cov[t - 1, :, t - 1] @ f[t - 1].T + q[t - 1]
    mu, sigma = torch.cat(mean), cov.reshape(length * d, length * d)
    big_h = torch.block_diag(*h[:length])
    seen = ~model.values[b, :length].flatten().isnan()
    y = model.values[b, :length].flatten()[seen]
    loc = (big_h @ mu + c[:length].flatten())[seen]
    big_h = big_h[seen]
    s = big_h @ sigma @ big_h.T + torch.block_diag(*r[:length])[seen][:, seen]
    gain = torch.linalg.solve(s, big_h @ sigma).T
    evidence = torch.distributions.MultivariateNormal(loc, s).log_prob(y) if len(y) else loc.sum()
    return (
        (mu + gain @ (y - loc)).reshape(length, d),
        (sigma - gain @ big_h @ sigma).reshape(length, d, length, d),
        evidence,
    )


def model_of(kind: str, *, steps: int = 5) -> StateSpace:
    g = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=DOUBLE)

    def covariance(*shape: int) -> Tensor:
        a = normal(*shape, shape[-1])
        return a @ a.mT + 0.1 * torch.eye(shape[-1], dtype=DOUBLE)

    d, m, batch = 3, 2, 2
    model = StateSpace(
        normal(d) * 3,
        covariance(d),
        normal(d, d),
        normal(d),
        covariance(d),
        normal(m, d),
        normal(m),
        covariance(m),
        normal(batch, steps, m),
    )
    match kind:
        case "independent noise":
            model = replace(
                model, emission_noise=torch.diag(torch.tensor([0.5, 1.5], dtype=DOUBLE))
            )
        case "missing":
            values = model.values.clone()
            values[0, 0, 1] = values[0, 2] = values[1, 3, 0] = math.nan
            values[1, 0] = math.nan
            model = replace(model, values=values)
        case "missing, independent":
            values = model.values.clone()
            values[0, 1, 1] = values[1, 4] = math.nan
            diagonal = torch.diag(torch.tensor([0.5, 1.5], dtype=DOUBLE))
            model = replace(model, values=values, emission_noise=diagonal)
        case "ragged":
            model = replace(model, values=normal(4, steps, m), lengths=torch.tensor([5, 1, 2, 4]))
        case "singular":
            loading = normal(d, 1)
            model = replace(
                model, noise=loading @ loading.T, covariance=torch.zeros(d, d, dtype=DOUBLE)
            )
        case "exact":
            noise = torch.tensor([[1.0, 0], [0, 0]], dtype=DOUBLE)
            model = replace(model, emission_noise=noise)
        case "per step":
            model = replace(
                model,
                transition=normal(steps - 1, d, d),
                offset=normal(batch, steps - 1, d),
                noise=covariance(batch, steps - 1, d),
                emission=normal(steps, m, d),
                emission_offset=normal(batch, steps, m),
                emission_noise=covariance(steps, m),
                mean=normal(batch, d),
                covariance=covariance(batch, d),
            )
    return model


KINDS = (
    "plain",
    "independent noise",
    "missing",
    "missing, independent",
    "ragged",
    "singular",
    "exact",
    "per step",
)
PLANS = (Plan(4), Plan(4, 2), Plan(4, 3), Plan(4, 2, tree=True), Plan(4, 4), Plan(4, 4, tree=True))
every = pytest.mark.parametrize("kind", KINDS)
planned = pytest.mark.parametrize("plan", PLANS, ids=str)


@every
@planned
def test_posteriors_are_those_of_the_dense_gaussian(kind: str, plan: Plan) -> None:
    model = model_of(kind)
    found, ahead = smoothed_states(model, plan=plan), filtered_states(model, plan=plan)
    for b in range(len(model.values)):
        mean, cov, evidence = dense(model, b)
        n = len(mean)
        close(found.log_evidence[b], evidence)
        close(ahead.log_evidence[b], evidence)
        close(state_evidence(model, plan=plan)[b], evidence)
        close(found.mean[b, :n], mean)
        for t in range(n):
            close(found.covariance[b, t], cov[t, :, t])
            if t:
                close(found.cross[b, t - 1], cov[t - 1, :, t])
        close(ahead.mean[b, n - 1], mean[-1])
        close(ahead.covariance[b, n - 1], cov[-1, :, -1])


def test_what_is_filtered_knows_only_the_past() -> None:
    model = model_of("missing")
    ahead = filtered_states(model, plan=Plan(4, 2))
    for t in range(1, 6):
        mean, cov, _ = dense(replace(model, values=model.values[:, :t]), 0)
        close(ahead.mean[0, t - 1], mean[-1])
        close(ahead.covariance[0, t - 1], cov[-1, :, -1])


@every
@pytest.mark.parametrize("plan", [Plan(4), Plan(4, 3), Plan(4, 4, tree=True)], ids=str)
def test_the_gradient_is_that_of_finite_differences(kind: str, plan: Plan) -> None:
    model = model_of(kind)
    names = [f.name for f in fields(model) if f.name != "lengths"]
    leaves = {name: getattr(model, name).clone().requires_grad_() for name in names}
    weight = torch.linspace(1, 2, len(model.values), dtype=DOUBLE)
    (state_evidence(replace(model, **leaves), plan=plan) * weight).sum().backward()
    for name in names:
        tensor, gradient = getattr(model, name), leaves[name].grad
        g = torch.Generator().manual_seed(1)
        direction = torch.randn(tensor.shape, generator=g, dtype=DOUBLE)
        if "noise" in name or name == "covariance":
            direction = direction + direction.mT
        if kind == "exact" and name == "emission_noise":
            direction = torch.diag(torch.tensor([1.0, 0.0], dtype=DOUBLE))
        ends = [
            (state_evidence(replace(model, **{name: tensor + s * direction})) * weight).sum()
            for s in (-1e-6, 1e-6)
        ]
        assert gradient is not None
        slope = (gradient * direction).sum()
        close(slope, (ends[1] - ends[0]) / 2e-6, atol=2e-6 * max(1.0, abs(slope.item())))


def test_the_gradient_has_a_gradient() -> None:
    model = model_of("plain", steps=3)

    def evidence(transition: Tensor, values: Tensor) -> Tensor:
        return state_evidence(
            replace(model, transition=transition, values=values), plan=Plan(2, 2)
        )

    leaves = (model.transition.requires_grad_(), model.values.requires_grad_())
    assert torch.autograd.gradgradcheck(evidence, leaves)


@every
def test_draws_have_the_moments_of_the_posterior(kind: str) -> None:
    model, n = model_of(kind), 4000
    torch.manual_seed(0)
    draws = draw_states(model, n)
    for b in range(len(model.values)):
        mean, cov, _ = dense(model, b)
        length, d = mean.shape
        drawn = draws[:, b, :length].flatten(1)
        cov = cov.reshape(length * d, length * d)
        scale = cov.diagonal().clamp(min=0).sqrt()
        assert ((drawn.mean(0) - mean.flatten()).abs() <= 5 * scale / math.sqrt(n) + 1e-6).all()
        bound = 8 * scale.unsqueeze(-1) * scale / math.sqrt(n) + 1e-6
        assert ((drawn.T.cov() - cov).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_long_chains_agree_however_they_are_scanned(dtype: torch.dtype) -> None:
    model = model_of("missing", steps=200)
    model = replace(model, transition=model.transition / model.transition.norm() * 0.9)
    model = replace(model, lengths=torch.tensor([200, 77]))
    typed = {
        f.name: getattr(model, f.name).to(dtype) for f in fields(model) if f.name != "lengths"
    }
    model = replace(model, **typed)
    alone = smoothed_states(model, plan=Plan(199))
    assert alone.mean.dtype == alone.log_evidence.dtype == dtype
    tolerance = {torch.float32: 1e-5, DOUBLE: 1e-10}[dtype]
    for plan in (Plan(199, 9), Plan(199, 199, tree=True), Plan(199, 20, tree=True)):
        found = smoothed_states(model, plan=plan)
        for name in ("mean", "covariance", "cross", "log_evidence"):
            a, b = getattr(found, name), getattr(alone, name)
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_a_single_step() -> None:
    model = replace(model_of("plain"), values=torch.ones(1, 1, 2, dtype=DOUBLE))
    mean, cov, evidence = dense(model, 0)
    found = smoothed_states(model)
    close(found.mean[0], mean)
    close(found.covariance[0, 0], cov[0, :, 0])
    close(found.log_evidence[0], evidence)
    assert draw_states(model, 2).shape == (2, 1, 1, 3)
    leaf = model.mean.clone().requires_grad_()
    state_evidence(replace(model, mean=leaf)).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().min() > 0


def test_the_plan_is_a_value() -> None:
    model = model_of("plain")
    long = replace(model, values=torch.zeros(1, 100_000, 2, dtype=DOUBLE))
    assert 50 < plan_of_states(long).blocks < 5000


def test_a_number_that_is_known_beforehand_is_refused() -> None:
    model = model_of("singular")
    model = replace(model, emission_noise=torch.zeros(2, 2, dtype=DOUBLE))
    with pytest.raises(InadmissibleError, match=r"number 0 .* at step 0 .* known beforehand"):
        state_evidence(model)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mean": torch.zeros(2)}, r"covariance has the shape \[3, 3\]; expected \[2, 2\]"),
        ({"transition": torch.zeros(5, 3, 3)}, "transition has the shape"),
        ({"values": torch.zeros(5, 2)}, r"expected \[B, T, m\]"),
        ({"lengths": torch.tensor([0, 5])}, "lengths are from 1 to 5"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, Tensor], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        replace(model_of("plain"), **change)
