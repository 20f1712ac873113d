"""The bound of a particle filter, against exact evidence and the importance-weighted bound."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre.objectives.density import in_rows
from daguerre.objectives.filtering import Filtering
from daguerre.objectives.objective import Round
from daguerre.objectives.recipes import fivo
from daguerre.repeats import Sizes

NAN = math.nan


def walk() -> dg.Model:
    """A linear Gaussian state, seen with noise."""
    start = Normal(0.0, 1.0)
    return dg.model(
        z=lambda last=dg.lag("z", init=start): Normal(0.9 * last, 0.8),
        x=lambda z: Normal(z, 0.6),
    )


def remembering() -> dg.Model:
    """A state that follows the two before."""
    start = Normal(0.0, 1.0)
    return dg.model(
        z=lambda last=dg.lag("z", init=start), old=dg.lag("z", 2, init=start): Normal(
            0.9 * last - 0.2 * old, 0.8
        ),
        x=lambda z: Normal(z, 0.6),
    )


def reader() -> dg.Model:
    """A posterior that hears what is to come, and moves from the state before."""
    torch.manual_seed(0)
    return dg.model(
        x=dg.Input(),
        b=dg.deterministic(lambda x, after=dg.lag("b", -1, init=0.0): 0.5 * after + 0.5 * x),
        z=dg.rv(
            lambda b, net, last=dg.lag("z", init=0.0): Normal(
                net(torch.stack((b, last), 1))[:, 0], 0.9
            ),
            net=torch.nn.Linear(2, 1),
        ),
    )


def estimates(p: dg.Model, q: dg.Model, x: torch.Tensor, particles: int) -> torch.Tensor:
    """Return the estimate of the log-evidence of each row."""
    ((_, term),) = fivo(p, q, particles=particles, partial=["x"]).parts
    assert isinstance(term, Filtering)
    with torch.no_grad():
        return term.log_evidence(Round(len(x), {"x": x}))


def test_the_estimate_of_the_evidence_is_unbiased_for_sequences_of_any_length():
    """Means over 20,000 filters within five standard errors: it fails once in a million runs."""
    p, q = walk(), reader()
    x = torch.tensor([[0.4, -0.9, 1.3, 0.2], [0.4, -0.9, NAN, NAN]])
    exact = dg.log_evidence(p, {"x": x})
    torch.manual_seed(1)
    ratio = (estimates(p, q, x.repeat(20_000, 1), 4).unflatten(0, (-1, 2)) - exact).exp()
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert ((ratio.mean(0) - 1).abs() < 5 * error).all()
    assert (error < 0.02).all()


def test_without_choice_it_is_the_importance_weighted_bound_with_its_gradient(monkeypatch):
    monkeypatch.setattr(Sizes, "without_ends", lambda self: self)  # so that both draw the same
    p, q = remembering(), reader()
    x = torch.tensor([[0.4, -0.9, 1.3, 0.2], [0.1, 2.0, NAN, NAN]])
    found = []
    for objective in (
        fivo(p, q, particles=5, threshold=0.0, partial=["x"]),
        dg.iwae(p, q, particles=5, partial=["x"]),
    ):
        torch.manual_seed(2)
        loss = objective.losses({"x": x})["model"]
        found.append((loss, torch.autograd.grad(loss, [*q.parameters()])))
    torch.testing.assert_close(found[0], found[1])


def test_long_chains_stay_near_the_evidence():
    p, q = walk(), reader()
    torch.manual_seed(3)
    x = p.sample(50, t=60)["x"]
    exact = dg.log_evidence(p, {"x": x}).mean().item()
    with torch.no_grad():
        filtered = -fivo(p, q, particles=16).losses({"x": x})["model"].item()
        weighted = -dg.iwae(p, q, particles=16).losses({"x": x})["model"].item()
    assert weighted < filtered < exact
    assert exact - filtered < (exact - weighted) / 3


def test_one_particle_is_the_elbo():
    p, q = walk(), reader()
    x = p.sample(20_000, t=3)["x"]
    with torch.no_grad():
        one = fivo(p, q, particles=1).losses({"x": x})["model"].item()
        assert one == pytest.approx(dg.elbo(p, q).losses({"x": x})["model"].item(), abs=0.4)


def test_maps_of_the_particles_are_chosen_with_them():
    """h sums the states before: forgotten with a particle, or the estimate would be biased."""
    p = dg.model(
        h=dg.deterministic(
            lambda h_last=dg.lag("h", init=0.0), z_last=dg.lag("z", init=0.0): h_last + z_last
        ),
        z=lambda h: Normal(-0.3 * h, 1.0),
        x=lambda z, h: Normal(z + h, 0.5),
    )
    q = dg.model(
        x=dg.Input(),
        z=lambda x, last=dg.lag("z", init=0.0): Normal((x - last) / 2, 1.2),
    )
    plain = dg.model(  # the same with s = h + z, a chain of its own
        s=lambda last=dg.lag("s", init=Normal(0.0, 1.0)): Normal(0.7 * last, 1.0),
        x=lambda s: Normal(s, 0.5),
    )
    x = torch.tensor([[1.0, 0.2, -1.1]])
    exact = dg.log_evidence(plain, {"x": x})
    torch.manual_seed(4)
    ratio = (estimates(p, q, x.repeat(20_000, 1), 5) - exact).exp()
    assert (ratio.mean() - 1).abs() < 5 * ratio.std() / math.sqrt(len(ratio))


def test_it_trains_a_proposal():
    p, q = walk(), reader()
    torch.manual_seed(5)
    x = p.sample(32, t=10)["x"]
    objective = fivo(p, q, particles=8)
    history = dg.fit(objective, {"x": x}, steps=100, batch_size=32, lr=0.02, progress=False)
    assert history["model"][-10:].mean() < history["model"][:10].mean() - 0.3
    assert "chosen anew" in str(objective.explain())
    assert r"\prod_{t=1}^{T}" in str(objective.latex())


def test_what_is_no_filter_is_refused():
    p, q = walk(), reader()
    flat = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
    encoder = dg.model(x=dg.Input(), z=lambda x: Normal(x, 1.0))
    with pytest.raises(dg.InadmissibleError, match=r"no variable of p .* earlier time slice"):
        fivo(flat, encoder)
    ahead = dg.model(x=dg.Input(), z=lambda x, z=dg.lag("z", -1, init=0.0): Normal(z + x, 1.0))
    with pytest.raises(dg.InadmissibleError, match="z follows z of a later time slice"):
        fivo(p, ahead)
    coin = dg.model(
        z=lambda last=dg.lag("z", init=0.0): Bernoulli(0.2 + 0.6 * last),
        x=lambda z: Normal(z, 1.0),
    )
    guess = dg.model(
        x=dg.Input(1),
        z=dg.rv(
            lambda x, net, last=dg.lag("z", init=0.0): Bernoulli(logits=net(x)[:, 0] + last),
            net=torch.nn.Linear(1, 1),
        ),
    )
    coin = dg.replace(coin, x=lambda z: Normal(z[:, None], 1.0))
    with pytest.raises(dg.InadmissibleError, match="carry no pathwise gradient"):
        fivo(coin, guess).losses({"x": torch.zeros(2, 3, 1)})
    with pytest.raises(ValueError, match="particles is a number of draws, 1 or more, not 0"):
        fivo(p, q, particles=0)
    with pytest.raises(ValueError, match=r"share of the particles, 0 to 1, not 2"):
        fivo(p, q, threshold=2)


def test_rows_are_arranged_before():
    """A round that has been arranged is not arranged again."""
    ((_, term),) = fivo(walk(), reader(), particles=2).parts
    x = torch.tensor([[0.4, -0.9]])
    at = in_rows(Round(1, {"x": x}), term.plates)
    assert isinstance(term, Filtering)
    torch.manual_seed(6)
    first = term.log_evidence(at)
    torch.manual_seed(6)
    torch.testing.assert_close(first, term.log_evidence(Round(1, {"x": x})))
