"""Questions to small models, against enumeration of all states and dense Gaussians."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, ExpTransform, Normal

import daguerre as dg
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.infer import explain, log_evidence, most_probable, posterior, sample_posterior

F64 = torch.float64


def table(*rows):
    return torch.tensor(rows, dtype=F64)


def sprinkler():
    """Oracle G7."""
    return dg.model(
        cloudy=Tabular(torch.tensor([0.5, 0.5], dtype=F64)),
        sprinkler=Tabular(table([0.5, 0.5], [0.9, 0.1]), "cloudy"),
        rain=Tabular(table([0.8, 0.2], [0.2, 0.8]), "cloudy"),
        wet=Tabular(
            torch.tensor([[[1, 0], [0.1, 0.9]], [[0.1, 0.9], [0.01, 0.99]]], dtype=F64),
            "sprinkler",
            "rain",
        ),
    )


def test_the_sprinkler_network_answers_as_published():
    p = sprinkler()
    found = posterior(p, ["sprinkler", "rain"], given={"wet": 1})
    assert found.log_evidence.exp().item() == pytest.approx(0.6471, abs=1e-9)
    assert found.probs["sprinkler"][0, 1].item() == pytest.approx(0.429763560501, abs=1e-9)
    assert found.probs["rain"][0, 1].item() == pytest.approx(0.70792767733, abs=1e-9)
    both = posterior(p, "sprinkler", given={"wet": 1, "rain": 1})
    assert both.probs[0, 1].item() == pytest.approx(0.194499017682, abs=1e-9)
    assert found.exact
    assert "elimination" in found.method


def test_probabilistic_pca_has_its_closed_posterior():
    """Oracle A1."""
    p = dg.model(
        z=Normal(torch.zeros((), dtype=F64), 1.0),
        x=LinearGaussian(
            torch.tensor([0.5, -1], dtype=F64),
            torch.tensor([0.5, 0.5], dtype=F64),
            weights={"z": torch.tensor([2, 1], dtype=F64)},
        ),
    )
    found = posterior(p, "z", given={"x": torch.tensor([[1.5, 0.5]], dtype=F64)})
    assert found.log_evidence.item() == pytest.approx(-3.80717725748, abs=1e-9)
    assert found.mean.item() == pytest.approx(2 / 3, abs=1e-9)
    assert found.variance.item() == pytest.approx(0.047619047619, abs=1e-9)


def test_two_causes_explain_one_effect_away():
    """Oracle A6, with a CPD that is code."""
    p = dg.model(
        a=Normal(torch.zeros((), dtype=F64), 1.0),
        b=Normal(torch.zeros((), dtype=F64), 1.0),
        x=lambda a, b: Normal(a + b, 1.0),
    )
    found = posterior(p, ["a", "b"], given={"x": torch.tensor([3.0, 6.0], dtype=F64)})
    torch.testing.assert_close(found.mean["a"], torch.tensor([1.0, 2.0], dtype=F64))
    torch.testing.assert_close(found.variance["b"], torch.full((2,), 2 / 3, dtype=F64))
    at = {"a": torch.tensor([1.0, 1.0], dtype=F64), "b": torch.tensor([0.5, 0.5], dtype=F64)}
    covariance = torch.tensor([[2 / 3, -1 / 3], [-1 / 3, 2 / 3]], dtype=F64)
    expected = torch.distributions.MultivariateNormal(
        torch.tensor([[1.0, 1.0], [2.0, 2.0]], dtype=F64), covariance
    ).log_prob(torch.tensor([1.0, 0.5], dtype=F64))
    torch.testing.assert_close(found.log_prob(at), expected)


def test_a_mixture_assigns_points_to_its_components():
    p = dg.model(
        k=Categorical(torch.tensor([0.25, 0.75], dtype=F64)),
        x=lambda k: Normal(torch.tensor([0.0, 4.0], dtype=F64)[k], 1.0),
    )
    x = torch.tensor([0.0, 2.0, 5.0], dtype=F64)
    found = posterior(p, "k", given={"x": x})
    logs = Normal(torch.tensor([0.0, 4.0], dtype=F64), 1.0).log_prob(x[:, None])
    logs = logs + torch.tensor([0.25, 0.75], dtype=F64).log()
    torch.testing.assert_close(found.probs, logs.softmax(1))
    torch.testing.assert_close(found.log_evidence, logs.logsumexp(1))
    assert posterior(p, "x").mean.item() == pytest.approx(3.0)


def clg():
    """Eight variables: three discrete, one a function of two, four continuous."""
    g = torch.Generator().manual_seed(0)
    r = lambda *s: torch.rand(s, generator=g, dtype=F64)  # noqa: E731
    return dg.model(
        a=Tabular(r(2).softmax(0)),
        b=Tabular(r(2, 3).softmax(1), "a"),
        c=dg.deterministic(lambda a, b: (a + b) % 2),
        d=Tabular(r(2, 5).softmax(1), "c"),
        u=LinearGaussian(r(3), r(3), given=["b"]),
        v=LinearGaussian(r(2, 2), r(2, 2), weights={"u": r(2, 2)}, given=["c"]),
        w=LinearGaussian(r(5), r(5), weights={"v": r(5, 2), "u": r(5)}, given=["d"]),
        y=LinearGaussian(r(1)[0], 0.0, weights={"w": 2.0}),
    )


def enumerated(p, x):
    """All states of a, b, d beside rows of continuous values; the joint log-density."""
    logs = {}
    n = len(x["u"])
    for a in range(2):
        for b in range(3):
            for d in range(5):
                state = {k: torch.full((n,), s) for k, s in (("a", a), ("b", b), ("d", d))}
                logs[a, b, d] = p.log_prob({**state, **x})
    return logs


def test_a_conditional_gaussian_network_agrees_with_enumeration():
    p = dg.replace(clg(), y=LinearGaussian(torch.tensor(0.0, dtype=F64), 0.5, weights={"w": 2.0}))
    torch.manual_seed(1)
    x = {k: v.to(F64) for k, v in p.sample(4).items() if k in "uvwy"}
    logs = enumerated(p, x)
    total = torch.stack(list(logs.values())).logsumexp(0)
    torch.testing.assert_close(log_evidence(p, x), total)
    found = posterior(p, ["a", "d"], given=x)
    for a in range(2):
        part = torch.stack([v for k, v in logs.items() if k[0] == a]).logsumexp(0)
        torch.testing.assert_close(found.probs["a"][:, a], (part - total).exp())


def test_continuous_targets_of_a_conditional_gaussian_are_mixtures():
    p = clg()
    found = posterior(p, ["u", "y"], given={"d": torch.tensor([1, 4])})
    torch.manual_seed(0)
    drawn = p.sample(200_000)
    for row, d in enumerate((1, 4)):
        kept = drawn["y"][drawn["d"] == d]
        error = kept.std() / len(kept) ** 0.5
        assert abs(found.mean["y"][row] - kept.mean()) < 4 * error
        assert found.variance["y"][row].item() == pytest.approx(kept.var().item(), rel=0.03)


def test_rows_with_missing_values_have_the_answers_of_their_own_evidence():
    p = clg()
    torch.manual_seed(0)
    x = p.sample(24)
    given = {k: x[k].clone() for k in ("b", "d", "w", "v")}
    for i, (k, value) in enumerate(given.items()):
        lost = torch.arange(24) % (i + 2) == 0
        given[k] = value.masked_fill(
            lost.reshape(-1, *[1] * (value.dim() - 1)), math.nan if k in "wv" else -1
        )
    targets = ["a", "u"]
    found = posterior(p, targets, given=given)
    for row in range(24):
        one = {k: v[row : row + 1] for k, v in given.items()}
        one = {k: v for k, v in one.items() if not (v.isnan().any() if k in "wv" else v < 0)}
        alone = posterior(p, targets, given=one)
        torch.testing.assert_close(found.log_evidence[row], alone.log_evidence[0])
        torch.testing.assert_close(found["a"].probs[row], alone["a"].probs[0])
        torch.testing.assert_close(found.mean["u"][row], alone.mean["u"][0])
        torch.testing.assert_close(found.variance["u"][row], alone.variance["u"][0])


def test_draws_of_the_posterior_have_its_moments():
    p = clg()
    torch.manual_seed(3)
    given = {"w": torch.tensor([1.0, 2.5], dtype=F64)}
    found = posterior(p, ["a", "v", "u"], given=given)
    drawn = found.sample(20_000)
    assert drawn["v"].shape == (20_000, 2, 2)
    assert drawn["a"].shape == (20_000, 2)
    for name in ("u", "v"):
        error = (found.variance[name] / 20_000).sqrt()
        assert ((drawn[name].mean(0) - found.mean[name]).abs() < 4.5 * error).all()
    share = drawn["a"].to(F64).mean(0)
    assert (share - found["a"].probs[:, 1]).abs().max() < 0.02
    # dependence between targets, too
    both = (drawn["u"] * drawn["v"][..., 0]).mean(0) - drawn["u"].mean(0) * drawn["v"][
        ..., 0
    ].mean(0)
    assert both.abs().max() > 0


def test_soft_evidence_weighs_states():
    p = sprinkler()
    soft = torch.tensor([[1.0, 3.0]], dtype=F64)
    found = posterior(p, "rain", soft={"wet": soft})
    wet = posterior(p, "wet").probs[0]
    rain = [posterior(p, "rain", given={"wet": i}).probs[0] for i in range(2)]
    expected = wet[0] * soft[0, 0] * rain[0] + wet[1] * soft[0, 1] * rain[1]
    torch.testing.assert_close(found.probs[0], expected / expected.sum())
    assert found.log_evidence.exp().item() == pytest.approx((wet * soft[0]).sum().item())


def test_interventions_cut_what_leads_to_the_variable():
    p = sprinkler()
    done = dg.do(p, sprinkler=torch.tensor(1))
    found = posterior(done, "rain", given={"wet": 1})
    prior = posterior(p, "rain").probs[0]
    expected = prior * torch.tensor([0.9, 0.99], dtype=F64)
    torch.testing.assert_close(found.probs[0], expected / expected.sum())
    assert not torch.allclose(
        found.probs[0], posterior(p, "rain", given={"wet": 1, "sprinkler": 1}).probs[0]
    )


def test_a_net_inside_a_network_is_exact_and_gets_gradients():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3).double()
    p = dg.model(
        image=dg.Input(4),
        y=dg.rv(lambda image, net: Categorical(logits=net(image)), net=net),
        a=Tabular(torch.rand(3, 2, dtype=F64).softmax(1), "y"),
        b=Tabular(torch.rand(2, 5, dtype=F64).softmax(1), "a"),
    )
    image = torch.randn(6, 4, dtype=F64)
    found = posterior(p, "y", given={"image": image, "b": torch.arange(6) % 5})
    tables = {m.parents[0]: m.probs for m in p.modules() if isinstance(m, Tabular)}
    likelihood = torch.einsum("ya,ab->yb", tables["y"], tables["a"])
    joint = net(image).softmax(1) * likelihood.T[torch.arange(6) % 5]
    torch.testing.assert_close(found.probs, joint / joint.sum(1, keepdim=True))
    gradient = torch.autograd.grad(found.log_evidence.sum(), net.weight)[0]
    expected = torch.autograd.grad(joint.sum(1).log().sum(), net.weight)[0]
    torch.testing.assert_close(gradient, expected)


def test_bernoulli_events_of_several_pixels_are_finite():
    p = dg.model(
        z=Bernoulli(torch.tensor([0.2, 0.7], dtype=F64)),
        x=lambda z: Normal(z @ torch.tensor([1.0, 2.0], dtype=F64), 1.0),
    )
    x = torch.tensor([0.0, 3.0], dtype=F64)
    found = posterior(p, "z", given={"x": x})
    states = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=F64)
    assert found["z"].states.tolist() == states.tolist()
    prior = torch.tensor([0.24, 0.56, 0.06, 0.14], dtype=F64)
    weights = (
        prior
        * Normal(states @ torch.tensor([1.0, 2.0], dtype=F64), 1.0).log_prob(x[:, None]).exp()
    )
    torch.testing.assert_close(found.probs, weights / weights.sum(1, keepdim=True))
    torch.testing.assert_close(found.mean, found.probs @ states)


def test_the_most_probable_explanation_and_marginal_map():
    p = sprinkler()
    best = most_probable(p, given={"wet": torch.tensor([0, 1])})
    assert best.values["rain"].tolist() == [0, 1]
    torch.testing.assert_close(
        best.log_prob, p.log_prob({**best.values, "wet": torch.tensor([0, 1])})
    )
    one = most_probable(p, "sprinkler", given={"wet": 1})
    assert one.values["sprinkler"].tolist() == [0]
    assert one.log_prob.exp().item() == pytest.approx(0.6471 * (1 - 0.429763560501), abs=1e-9)


def test_names_of_states_are_evidence():
    p = dg.model(
        rain=Tabular([0.8, 0.2], states=["no", "yes"]),
        wet=Tabular([[0.9, 0.1], [0.2, 0.8]], "rain", states=["dry", "wet"]),
    )
    assert posterior(p, "rain", given={"wet": ["wet", "dry", None]}).probs.shape == (3, 2)
    with pytest.raises(dg.GraphError, match=r"no state 'wte'; did you mean 'wet'"):
        posterior(p, "rain", given={"wet": "wte"})


def test_contradictions_are_minus_infinity_and_an_error():
    p = sprinkler()
    given = {"wet": torch.tensor([1, 1]), "rain": 0, "sprinkler": torch.tensor([1, 0])}
    assert log_evidence(p, given)[1] == -math.inf
    with pytest.raises(dg.GraphError, match="row 1 of the evidence has probability zero"):
        posterior(p, "cloudy", given=given)


@pytest.mark.parametrize(
    ("targets", "given", "message"),
    [
        ("rian", {}, "did you mean 'rain'"),
        ("rain", {"wte": 1}, "did you mean 'wet'"),
        ("rain", {"rain": 1}, "target and given"),
        ("rain", {"wet": 2}, r"states 0 to 1, but the evidence holds \[2\]"),
        ("rain", {"wet": 0.5}, "states 0 to 1"),
        ("rain", {"wet": torch.zeros(2, 2)}, "states 0 to 1"),
        ("rain", {"wet": torch.zeros(2), "sprinkler": torch.zeros(3)}, "rows of evidence"),
        ("rain", {"wet": "yes"}, "states have no names"),
        ([], {}, "targets is empty"),
    ],
)
def test_wrong_questions_are_refused(targets, given, message):
    with pytest.raises(dg.GraphError, match=message):
        posterior(sprinkler(), targets, given=given)


def test_a_plan_says_what_would_be_done():
    plan = explain(sprinkler(), "sprinkler", given=["wet", "cloudy"])
    assert plan.is_exact
    assert plan.pruned == ()
    assert "elimination" in str(plan)
    plan = explain(sprinkler(), "sprinkler", given=["cloudy"])
    assert set(plan.pruned) == {"rain", "wet"}
    with pytest.raises(dg.InadmissibleError, match="max_memory"):
        explain(sprinkler(), "sprinkler", max_memory=10)


def test_sampling_is_a_question_too():
    torch.manual_seed(0)
    drawn = sample_posterior(sprinkler(), "rain", 4000, given={"wet": 1})
    assert drawn.shape == (4000, 1)
    assert drawn.double().mean().item() == pytest.approx(0.7079, abs=0.03)


def test_a_known_bijection_tells_what_it_is_a_function_of():
    p = dg.model(
        m=Normal(torch.zeros((), dtype=F64), 1.0),
        z=lambda m: Normal(m, 0.5),
        x=dg.bijection("z", ExpTransform()),
    )
    x = torch.tensor([0.5, 3.0], dtype=F64)
    found = posterior(p, "m", given={"x": x})
    torch.testing.assert_close(found.mean, x.log() / 1.25)
    expected = Normal(0.0, 1.25**0.5).log_prob(x.log()) - x.log()
    torch.testing.assert_close(found.log_evidence, expected)


def test_a_point_mass_that_the_rest_rules_out_does_not_outweigh_a_density():
    p = dg.model(
        h=Tabular(torch.tensor([0.5, 0.5], dtype=F64)),
        s=Tabular(table([1.0, 0.0], [0.5, 0.5]), "h"),
        x=LinearGaussian(
            torch.zeros(2, dtype=F64), torch.tensor([0.0, 1.0], dtype=F64), given=["h"]
        ),
    )
    zero = torch.zeros(1, dtype=F64)
    assert posterior(p, "h", given={"x": zero}).probs[0].tolist() == [1, 0]
    found = posterior(p, "h", given={"x": zero, "s": 1})
    assert found.probs[0].tolist() == [0, 1]
    assert found.log_evidence.item() == pytest.approx(math.log(0.25) - 0.5 * math.log(2 * math.pi))


def test_rows_that_take_turns_leave_out_what_is_separated(monkeypatch):
    """Evidence that no engine takes stands apart from the target: it is left out of every turn."""
    p = dg.model(
        k=Categorical(torch.ones(2)),
        x=lambda k: Normal(2.0 * k, 1.0),
        w=Normal(0.0, 1.0),
        y=lambda w: Normal(w.abs(), 1.0),
    )
    given = {"x": torch.linspace(-1, 3, 7), "y": torch.zeros(7)}
    together = posterior(p, "k", given=given)
    monkeypatch.setattr("daguerre.infer.question.CLOSE", 64)
    apart = posterior(p, "k", given=given)
    assert together.exact
    assert apart.exact
    torch.testing.assert_close(apart.probs, together.probs)
