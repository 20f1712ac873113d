"""Which method is chosen, what is said of it, and what is refused."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal

import daguerre as dg
from daguerre.cpds import Tabular
from daguerre.infer import (
    ABC,
    NUTS,
    Importance,
    LikelihoodWeighting,
    explain,
    log_evidence,
    posterior,
    sample_posterior,
)


class Autoencoder(dg.Model):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))

    @dg.rv
    def z(self):
        return Normal(torch.zeros(2), 1.0)

    @dg.rv
    def x(self, z):
        return Bernoulli(logits=self.net(z))


class Generator(Autoencoder):
    @dg.deterministic
    def x(self, z):
        return self.net(z)


class Encoder(dg.Model):
    x = dg.Input(5)

    @dg.rv
    def z(self, x):
        return Normal(x[:, :2] / 2, 1.5)


def coins():
    return dg.model(a=Tabular([0.8, 0.2]), b=Tabular([[0.9, 0.1], [0.2, 0.8]], "a"))


X = torch.tensor([[0.0, 1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("p", "how", "engine"),
    [
        (Autoencoder(), {}, "likelihood weighting"),
        (Autoencoder(), {"q": Encoder()}, "importance sampling with q"),
        (Generator(), {}, "kernel conditioning"),
        (Generator(), {"method": ABC(1000, keep=0.1)}, "kernel conditioning"),
    ],
)
def test_one_call_chooses_by_the_graph_and_says_what_it_chose(p, how, engine):
    torch.manual_seed(0)
    found = posterior(p, "z", given={"x": X}, **how)
    assert not found.exact
    assert found.method.startswith(engine)
    assert found.mean.shape == (2, 2)
    assert found.sample(7).shape == (7, 2, 2)
    assert (found.diagnostics["ess"] > 5).all()
    plan = explain(p, "z", given=["x"], **how)
    assert not plan.is_exact
    assert [part.engine for part in plan.parts] == [engine]
    assert plan.parts[0].variables == ("z",)
    assert "p(z | x): approximate\n" in str(plan)


def test_what_has_an_exact_answer_gets_it_unless_a_method_is_named():
    assert posterior(coins(), "a", given={"b": 1}).exact
    assert posterior(coins(), "a", given={"b": 1}, exact=True).exact
    found = posterior(coins(), "a", given={"b": 1}, method=LikelihoodWeighting(100))
    assert not found.exact
    assert explain(coins(), "a", given=["b"], exact=True).is_exact
    plan = explain(coins(), "a", given=["b"], method=LikelihoodWeighting(100))
    assert plan.parts[0].why == "100 draws: as asked"
    assert explain(coins(), "a", method=NUTS()).parts[0].engine == "NUTS"


def test_the_reason_for_an_approximation_is_the_variable():
    plan = explain(Autoencoder(), "z", given=["x"])
    assert "x is neither finite nor linear Gaussian" in plan.parts[0].why


def test_log_evidence_is_exact_or_by_a_named_method():
    torch.manual_seed(0)
    p, x = Autoencoder(), {"x": X}
    with pytest.raises(dg.InadmissibleError, match="name a method to estimate it"):
        log_evidence(p, x)
    by_p = log_evidence(p, x, method=LikelihoodWeighting(20_000))
    by_q = log_evidence(p, x, q=Encoder(), method=Importance(20_000))
    torch.testing.assert_close(by_p, by_q, rtol=0, atol=0.1)
    with pytest.raises(dg.InadmissibleError, match="ABC draws from the posterior"):
        log_evidence(p, x, method=ABC())


def test_draws_of_the_posterior_by_a_method():
    torch.manual_seed(0)
    drawn = sample_posterior(
        coins(), "a", 4000, given={"b": 1}, method=LikelihoodWeighting(20_000)
    )
    assert isinstance(drawn, torch.Tensor)
    assert drawn.double().mean().item() == pytest.approx(2 / 3, abs=0.04)


def test_exact_refuses_what_is_approximate_and_says_what_would_be_instead():
    for p, other in ((Autoencoder(), "LikelihoodWeighting"), (Generator(), "ABC")):
        with pytest.raises(
            dg.InadmissibleError, match=rf"x is neither finite.*infer\.{other}\(\)"
        ):
            posterior(p, "z", given={"x": X}, exact=True)
    with pytest.raises(dg.InadmissibleError, match="x is neither finite"):
        explain(Autoencoder(), "z", given=["x"], exact=True)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"exact": True, "q": Encoder()}, dg.InadmissibleError, "exact=True, but q proposes"),
        ({"exact": True, "method": ABC()}, dg.InadmissibleError, "exact=True, but ABC"),
        ({"method": Importance()}, dg.GraphError, "give it as q="),
        ({"method": ABC(), "q": Encoder()}, dg.GraphError, "q is for importance sampling"),
        ({"method": LikelihoodWeighting}, TypeError, "method is one of"),
        ({"metod": ABC()}, TypeError, "did you mean 'method'"),
    ],
)
def test_words_that_contradict_are_refused(how, error, message):
    with pytest.raises(error, match=message):
        posterior(Autoencoder(), "z", given={"x": X}, **how)
    with pytest.raises(error, match=message):
        explain(Autoencoder(), "z", given=["x"], **how)
    with pytest.raises(error, match=message):
        log_evidence(Autoencoder(), {"x": X}, **how)


def test_methods_that_do_not_fit_the_model_are_refused():
    with pytest.raises(dg.InadmissibleError, match=r"x is implicit.*method=dg\.infer\.ABC"):
        posterior(Generator(), "z", given={"x": X}, method=LikelihoodWeighting())
    with pytest.raises(dg.GraphError, match="x must be given in every row"):
        posterior(Encoder(), "z", method=LikelihoodWeighting(10))
    k = dg.model(k=Categorical(torch.ones(3)), z=lambda k: Normal(1.0 * k, 1.0))
    with pytest.raises(dg.GraphError, match="z is a target and given"):
        posterior(k, "z", given={"z": 1.0}, method=LikelihoodWeighting())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Importance(0),
        lambda: LikelihoodWeighting(draws=-3),
        lambda: ABC(draws=0),
        lambda: ABC(keep=0.0),
        lambda: ABC(bandwidth=-1.0),
        lambda: NUTS(chains=0),
    ],
)
def test_numbers_of_methods_are_checked(wrong):
    with pytest.raises(dg.GraphError, match=r"number of draws|share|above 0"):
        wrong()
