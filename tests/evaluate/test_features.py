"""Distances between features: closed forms, hand formulas, and the packages that compute them."""

import sys
import warnings

import pytest
import torch
from measured import Generator, data
from torch.distributions import Categorical, Normal

import daguerre as dg
from daguerre import measures as m
from daguerre.evaluate import manifold
from daguerre.evaluate.classes import class_score
from daguerre.evaluate.features import train_classifier
from daguerre.evaluate.frechet import fid, kid
from daguerre.evaluate.jackknife import jackknife
from daguerre.evaluate.manifold import nearest, overlap
from daguerre.evaluate.memory import rank_test


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# FID and KID


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T


def test_fid_is_the_frechet_distance_of_the_fitted_gaussians():
    """With the symmetric form of the root, tr (A^1/2 B A^1/2)^1/2."""
    x = normal(1, 300, 4).double() @ normal(2, 4, 4).double()
    y = normal(3, 200, 4).double() + 1
    a, b = x.T.cov(), y.T.cov()
    cross = root(root(a) @ b @ root(a)).trace()
    exact = (x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross
    assert fid(x, y).item() == pytest.approx(exact.item(), rel=1e-9)


def test_fid_of_large_samples_is_that_of_their_laws():
    """N(0, I) against N(1, 4 I) in three dimensions: 3 + 3."""
    x, y = normal(1, 40_000, 3), 2 * normal(2, 40_000, 3) + 1
    found = jackknife(fid, x, y)
    assert abs(found.value - 6) < 4 * found.stderr + 1e-3


def test_fid_is_biased_and_kid_is_not():
    p = dg.model(x=Normal(torch.zeros(20), 1.0))
    scores = dg.evaluate(p, data=normal(1, 200, 20), measures=[m.FID(), m.KID()])
    assert scores["FID"].value > 1
    assert abs(scores["KID"].value) < 4 * scores["KID"].spread
    assert "N = 200" in scores["FID"].note


def test_kid_is_the_one_of_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics.image.kid")
    x, y = normal(1, 60, 5), normal(2, 60, 5) + 0.5

    class Given(torch.nn.Module):
        def forward(self, x):
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = torchmetrics.KernelInceptionDistance(Given(), subsets=1, subset_size=60)
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert kid(x, y).item() == pytest.approx(metric.compute()[0].item(), rel=1e-4)


def test_without_torchmetrics_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"FID needs .*pip install 'daguerre\[metrics\]'"
    ):
        fid(data(20), data(20))


# Precision, recall, density, coverage


def test_overlap_is_what_its_definition_says():
    real, fake = normal(1, 40, 2), normal(2, 30, 2) * 0.5
    apart = (real[:, None] - fake).square().sum(2).sqrt()
    radii = [(v[:, None] - v).square().sum(2).sqrt().sort(1).values[:, 3] for v in (real, fake)]
    found = overlap(real, fake, k=3)
    assert found.precision == (apart <= radii[0][:, None]).any(0).double().mean()
    assert found.recall == (apart <= radii[1]).any(1).double().mean()
    assert found.density == pytest.approx((apart <= radii[0][:, None]).sum().item() / (3 * 30))
    assert found.coverage == (apart <= radii[0][:, None]).any(1).double().mean()


def test_blocks_of_distances_change_nothing(monkeypatch):
    real, fake = normal(1, 101, 2), normal(2, 57, 2)
    whole = overlap(real, fake), nearest(real, fake, 2)
    monkeypatch.setattr(manifold, "CELLS", 57 * 9)
    assert overlap(real, fake) == whole[0]
    assert torch.equal(nearest(real, fake, 2), whole[1])


def test_equal_laws_have_the_density_and_coverage_that_theory_says():
    """Coverage 1 - product of (n - 1 - i) / (2n - 1 - i), density 1 (Naeem et al. 2020)."""
    score = dg.evaluate(Generator(), data=data(2000), measures=[m.Manifold()])
    expected = float(score["coverage"].note.split(",")[1].split()[0])
    assert expected == pytest.approx(0.97, abs=0.01)
    assert abs(score["coverage"].value - expected) < 4 * score["coverage"].spread + 0.005
    assert abs(score["density"].value - 1) < 4 * score["density"].spread


def test_a_model_that_drops_a_mode_keeps_precision_and_loses_recall():
    real = torch.cat([normal(1, 200, 2), normal(2, 200, 2) + 20])
    found = overlap(real, normal(3, 400, 2))
    assert found.precision > 0.9
    assert found.recall < 0.6
    assert 0.4 < found.coverage < 0.6


# A classifier of one's own


def blobs(n=300):
    y = torch.arange(n) % 3
    return normal(4, n, 6) + 4 * torch.eye(3, 6)[y], y


def test_a_classifier_learns_and_names_what_is_measured_by_it():
    x, y = blobs()
    before = torch.get_rng_state()
    net = train_classifier(x, y, name="blob")
    assert torch.equal(torch.get_rng_state(), before)
    assert net.accuracy > 0.9
    assert not net.training
    assert len(net.digest) == 8
    other = train_classifier(x, y, name="other")
    assert net.digest == other.digest
    other.head.bias.data += 1
    assert net.digest != other.digest
    p = dg.model(x=Normal(torch.zeros(6), 1.0))
    measures = [m.FID(net.features), m.KID(net.features), m.ClassScore(net)]
    scores = dg.evaluate(p, data=x, measures=measures)
    assert [score.name for score in scores] == ["blob-FID", "blob-KID", "class score"]
    assert scores["blob-KID"].value > 4 * scores["blob-KID"].spread
    assert 2.8 < float(scores["class score"].note.split()[3]) <= 3


@pytest.mark.parametrize(
    ("x", "y", "error", "text"),
    [
        (torch.zeros(30, 2).long(), torch.zeros(30).long(), TypeError, "x must be floats"),
        (torch.zeros(30, 2), torch.zeros(30), TypeError, "y integers, not .* torch.float32"),
        (torch.zeros(5, 2), torch.zeros(5).long(), ValueError, "20 rows or more"),
        (torch.zeros(30, 2), torch.zeros(30).long() - 1, ValueError, "from -1"),
        (torch.zeros(30, 2), torch.zeros(29).long(), ValueError, r"x \[30, 2\] and y \[29\]"),
    ],
)
def test_labels_that_make_no_sense_are_refused(x, y, error, text):
    with pytest.raises(error, match=text):
        train_classifier(x, y, name="bad")


def test_the_class_score_is_that_of_its_definition():
    logits = normal(1, 50, 4).double()
    each = logits.softmax(1)
    exact = (each * (each / each.mean(0)).log()).sum(1).mean().exp()
    assert class_score(logits).item() == pytest.approx(exact.item(), rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_the_class_score_takes_logits_of_any_size(scale):
    """Sure of one class only: 1; sure of each of four, all alike: 4."""
    assert class_score(scale * 40 * torch.eye(4)[[1, 1, 1]]).item() == pytest.approx(1)
    assert class_score(scale * 40 * torch.eye(4)).item() == pytest.approx(4)


# Copies


def test_ranks_are_those_of_mann_and_whitney():
    a, b = normal(1, 40), normal(2, 30) + 0.5
    found = rank_test(a, b)
    assert found.share == pytest.approx((a[:, None] < b).double().mean().item())
    assert rank_test(torch.zeros(9), torch.zeros(9)).share == 0.5
    assert rank_test(torch.zeros(9), torch.zeros(9)).p_value == pytest.approx(0.5)


def test_ranks_of_equal_laws_have_a_uniform_p_value():
    """In 400 pairs the share of p < 0.1 is 0.1 to 4 standard errors, 0.06."""
    rate = sum(rank_test(normal(s, 50), normal(s + 999, 40)).p_value < 0.1 for s in range(400))
    assert abs(rate / 400 - 0.1) < 0.06


def test_copies_are_found_and_new_rows_are_not():
    train, held_out = normal(1, 300, 2), normal(2, 300, 2)
    copier = dg.model(i=Categorical(torch.ones(300)), x=lambda i: Normal(train[i], 0.02))
    fresh = dg.model(x=Normal(torch.zeros(2), 1.0))
    measure = m.Memorisation(train)
    copied, new = (dg.evaluate(p, data=held_out, measures=[measure]) for p in (copier, fresh))
    assert copied["memorisation"].value > 0.8
    assert abs(new["memorisation"].value - 0.5) < 4 * new["memorisation"].spread


# The jackknife


def test_the_jackknife_of_a_smooth_statistic_is_its_standard_error():
    """The log of a mean: 1 / sqrt(n) by the delta method, to a half of it with ten groups."""
    found = jackknife(lambda x: x.mean().log(), normal(1, 2000).exp() / 1.6487)
    delta = ((torch.e - 1) / 2000) ** 0.5
    assert 0.5 < found.stderr.item() / delta < 1.6
