"""Two-sample measures against closed forms, their own definitions and known error rates."""

import math
from itertools import combinations

import pytest
import torch

from daguerre.data import digits
from daguerre.evaluate import two_sample as module
from daguerre.evaluate.two_sample import classifier_accuracy, mmd2, mmd2_unbiased
from daguerre.kernels import as_rows, imq, median_kernel, rbf


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def phi(t):
    return 0.5 * (1 + math.erf(t / math.sqrt(2)))


def energy(a, b):
    return -torch.cdist(a, b)


MEASURES = [
    lambda x, y: mmd2_unbiased(x, y, rbf(1.0)),
    mmd2,
    lambda x, y: classifier_accuracy(x, y, folds=2),
]

# Kernels


def test_a_kernel_is_its_formula_and_a_mixture_the_mean_of_its_parts():
    a, b = normal(5, 3), normal(7, 3, seed=1)
    squares = (a[:, None] - b).square().sum(-1)
    assert torch.allclose(rbf(0.7)(a, b), torch.exp(-squares / (2 * 0.49)), rtol=1e-12)
    mixture = (rbf(0.5)(a, b) + rbf(1.0)(a, b) + rbf(3.0)(a, b)) / 3
    assert torch.allclose(rbf(0.5, 1.0, 3.0)(a, b), mixture, rtol=1e-12)
    assert torch.allclose(imq(0.7)(a, b), 0.7 / (0.7 + squares), rtol=1e-12)
    mixture = (imq(0.5)(a, b) + imq(4.0)(a, b)) / 2
    assert torch.allclose(imq(0.5, 4.0)(a, b), mixture, rtol=1e-12)
    assert torch.allclose(imq(0.5, 4.0)(a, a).diagonal(), torch.ones(5).double(), rtol=1e-12)


def test_distances_keep_their_digits_far_from_the_origin():
    a = normal(50, 4)
    assert torch.allclose(rbf(1.0)(a + 1e6, a + 1e6), rbf(1.0)(a, a), atol=1e-8)
    assert rbf(1e-3)(a, a).max() <= 1
    with_outlier = torch.cat([torch.full((1, 4), 1e30, dtype=torch.float64), a])
    assert torch.allclose(rbf(1.0)(with_outlier, with_outlier)[1:, 1:], rbf(1.0)(a, a))


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0), (math.nan,), (math.inf,)])
@pytest.mark.parametrize("kernel", [rbf, imq])
def test_a_scale_is_positive(kernel, scales):
    with pytest.raises(ValueError, match="expected positive finite numbers"):
        kernel(*scales)


def test_the_median_is_over_distinct_pairs_and_scales_with_the_data():
    x, probe = normal(41, 3), normal(4, 3, seed=1)
    median = torch.tensor([(a - b).norm() for a, b in combinations(x, 2)]).median().item()
    factors = (0.5, 1, 2, 5, 10)
    expected = rbf(*(median * f for f in factors))(probe, probe)
    assert torch.allclose(median_kernel(x)(probe, probe), expected, rtol=1e-12)
    assert torch.allclose(median_kernel(x * 9)(probe * 9, probe * 9), expected, rtol=1e-9)


def test_the_median_of_a_large_sample_is_over_rows_spread_evenly():
    x = torch.cat([torch.zeros(50_000, 1), torch.ones(50_000, 1)])  # sorted, as labels often are
    with pytest.raises(ValueError, match=r"median distance is 0; .*kernel=rbf"):
        median_kernel(x[:50_000])
    probe = torch.tensor([[0.0], [3.0]], dtype=torch.float64)
    expected = rbf(0.5, 1, 2, 5, 10)(probe, probe)
    assert torch.allclose(median_kernel(x)(probe, probe), expected)


# Squared MMD


@pytest.mark.parametrize(
    ("lengthscale", "expected"),
    [(0.5, 0.132841731389), (1.0, 0.17726763492), (2.0, 0.130566924162)],
)
@pytest.mark.parametrize(("n", "m"), [(2, 3), (40, 25)])
def test_the_estimate_is_unbiased(lengthscale, expected, n, m):
    # E k of a normal difference in closed form; a chance of 6e-5 a case to fail for another seed
    draws = 3000
    x, y = normal(draws, n), normal(draws, m, seed=1) + 1
    estimates = torch.stack(
        [mmd2_unbiased(*xy, rbf(lengthscale)) for xy in zip(x, y, strict=True)]
    )
    assert (estimates.mean() - expected).abs() < 4 * estimates.std() / draws**0.5
    assert estimates.min() < 0  # never clipped


@pytest.mark.parametrize("kernel", [rbf(0.8), rbf(0.5, 3.0), energy], ids=["rbf", "mix", "energy"])
def test_the_estimate_is_its_definition(kernel):
    x, y = normal(7, 3), normal(5, 3, seed=1) + 0.3
    xx = sum(kernel(x[[i]], x[[j]]).item() for i in range(7) for j in range(7) if i != j) / 42
    yy = sum(kernel(y[[i]], y[[j]]).item() for i in range(5) for j in range(5) if i != j) / 20
    xy = sum(kernel(x[[i]], y[[j]]).item() for i in range(7) for j in range(5)) / 35
    assert mmd2_unbiased(x, y, kernel).item() == pytest.approx(xx + yy - 2 * xy, rel=1e-12)
    assert mmd2(x, y, kernel=kernel).value == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_blocks_change_nothing(monkeypatch):
    x, y = normal(30, 2), normal(23, 2, seed=1)
    whole = mmd2(x, y, permutations=50)
    monkeypatch.setattr(module, "_BLOCK", 53 * 7)
    parts = mmd2(x, y, permutations=50)
    assert parts.value == pytest.approx(whole.value, abs=1e-14)
    assert parts.null_std == pytest.approx(whole.null_std, rel=1e-9)
    assert parts.p_value == whole.p_value


def test_the_kernel_matrix_is_evaluated_once_whatever_the_permutations():
    entries = []

    def counted(a, b):
        entries.append(len(a) * len(b))
        return rbf(1.0)(a, b)

    mmd2(normal(20, 2), normal(30, 2, seed=1), kernel=counted, permutations=200)
    assert sum(entries) == 50**2


def test_the_estimate_has_the_gradient_of_its_definition():
    x, y = normal(4, 2).requires_grad_(), normal(3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: mmd2_unbiased(a, b, rbf(0.9)), (x, y))


def test_the_null_spread_is_that_of_fresh_samples():
    draws = [normal(60, 3, seed=s) for s in range(400)]
    estimates = torch.stack(
        [mmd2_unbiased(a, b, rbf(2.0)) for a, b in zip(draws[::2], draws[1::2], strict=True)]
    )
    null = torch.tensor(
        [
            mmd2(a, b, kernel=rbf(2.0), permutations=100).null_std
            for a, b in zip(draws[:40:2], draws[1:40:2], strict=True)
        ]
    )
    assert null.mean().item() == pytest.approx(estimates.std().item(), rel=0.2)  # 4 std. errors


@pytest.mark.parametrize("kernel", [None, rbf(1.0)])
def test_alike_samples_get_uniform_p_values(kernel):
    p = torch.tensor(
        [
            mmd2(
                normal(25, 3, seed=2 * s),
                normal(40, 3, seed=2 * s + 1),
                kernel=kernel,
                permutations=99,
                seed=s,
            ).p_value
            for s in range(300)
        ]
    )
    for level in (0.05, 0.2, 0.5):
        share = (p <= level).double().mean().item()
        assert abs(share - level) < 4 * math.sqrt(level * (1 - level) / 300)


def test_other_samples_get_the_smallest_p_value():
    apart = mmd2(normal(100, 5), normal(80, 5, seed=1) + 0.5, permutations=199)
    assert apart.p_value == 1 / 200
    assert apart.value > 5 * apart.null_std


def test_a_permutation_that_ties_counts_against_the_difference():
    # of the six ways to deal four rows to two pairs, two tie for the largest estimate, up to
    # rounding: so every such p-value is the same, near 1/3
    p = {
        mmd2(normal(2, 3, seed=s), normal(2, 3, seed=s + 100) + 9, kernel=rbf(3.0)).p_value
        for s in range(100)
    }
    assert len(p) == 1
    assert p.pop() == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 500))


def test_mmd_refuses_what_it_cannot_use():
    x = normal(5, 2)
    with pytest.raises(ValueError, match="permutations=1; expected at least 2"):
        mmd2(x, x, permutations=1)
    with pytest.raises(
        ValueError, match=r"kernel maps \[10, 2\] and \[10, 2\] to \[10\]; expected"
    ):
        mmd2(x, x, kernel=lambda a, b: (a - b).sum(1))
    with pytest.raises(ValueError, match="kernel returns NaN"):
        mmd2(x, x, kernel=lambda a, b: rbf(1.0)(a, b) * torch.nan)


# Classifier two-sample test


def test_alike_samples_cannot_be_told_apart():
    for seed in range(8):
        x, y = normal(150, 4, seed=2 * seed), normal(200, 4, seed=2 * seed + 1)
        accuracy = classifier_accuracy(x, y, seed=seed)
        assert accuracy.n == 300
        assert abs(accuracy.value - 0.5) < 3 * accuracy.stderr


@pytest.mark.parametrize(("shift", "width", "n"), [(1.0, 2, 1000), (2.0, 2, 1000), (2.0, 10, 800)])
def test_shifted_normals_reach_the_bayes_accuracy(shift, width, n):
    direction = torch.ones(width) / math.sqrt(width)
    x, y = normal(n, width), normal(n, width, seed=1) + shift * direction
    accuracy = classifier_accuracy(x, y)
    assert accuracy.value < phi(shift / 2) + 3 * accuracy.stderr
    assert accuracy.value > phi(shift / 2) - 0.03


def test_a_difference_that_no_line_separates_is_found():
    x, y = normal(600, 2), 3 * normal(600, 2, seed=1)
    cut = 9 / 4 * math.log(9)  # of r^2, where both densities are equal
    bayes = 0.5 * (1 - math.exp(-cut / 2) + math.exp(-cut / 18))
    assert classifier_accuracy(x, y).value == pytest.approx(bayes, abs=0.03)


def test_real_digits_are_alike_and_noise_is_not():
    split = digits()
    held, fresh = split.test["x"], split.train["x"][:360]
    alike = classifier_accuracy(held, fresh)
    assert abs(alike.value - 0.5) < 3 * alike.stderr
    assert mmd2(held, fresh).p_value > 0.01
    uniform = torch.rand(360, 64, generator=torch.Generator().manual_seed(0))
    assert classifier_accuracy(held, uniform).value > 0.99


def test_rows_without_a_pattern_cannot_be_learnt_by_heart():
    # so wide that the net separates whatever rows it saw: one leak and it scores near 1
    accuracy = classifier_accuracy(normal(60, 300), normal(60, 300, seed=1))
    assert abs(accuracy.value - 0.5) < 3 * accuracy.stderr


def test_standardisation_and_training_see_no_held_out_row(monkeypatch):
    seen = []
    real = module._standardise

    def spy(train, test):
        seen.append((train, test))
        return real(train, test)

    monkeypatch.setattr(module, "_standardise", spy)
    x, y = normal(23, 3), normal(31, 3, seed=1)
    classifier_accuracy(x, y, folds=4)
    held = torch.cat([test for _, test in seen])
    assert len(seen) == 4
    assert len(held.unique(dim=0)) == len(held) == 46  # each kept row is held out once
    for train, test in seen:
        assert len(train) + len(test) == 46
        assert not (train[:, None] == test).all(-1).any()
        in_x = (test[:, None] == x).all(-1).any(1)
        assert in_x.sum() * 2 == len(test)  # balanced
    scaled = real(*seen[0])[0]
    assert torch.allclose(scaled.mean(0), torch.zeros(3), atol=1e-6)
    assert torch.equal(real(seen[0][0], seen[0][1] * 100)[0], scaled)


def test_the_larger_sample_is_cut_by_a_random_draw():
    x = normal(100, 1)
    y = torch.cat([normal(100, 1, seed=1), normal(900, 1, seed=2) + 50])
    assert classifier_accuracy(x, y).value > 0.85  # the first 100 alone would look alike


def test_the_standard_error_follows_its_formula():
    accuracy = classifier_accuracy(normal(50, 2), normal(50, 2, seed=1) + 1, folds=2)
    binomial = accuracy.value * (1 - accuracy.value) / 100
    assert accuracy.stderr == pytest.approx(math.sqrt(3 * binomial))


def test_constant_columns_are_harmless_and_identical_rows_are_chance():
    x, y = normal(100, 2), normal(100, 2, seed=1) + 8
    x[:, 1] = y[:, 1] = 0.1
    assert classifier_accuracy(x, y).value == 1
    assert classifier_accuracy(torch.ones(20, 3), torch.ones(20, 3)).value == 0.5


@pytest.mark.parametrize("folds", [-1, 0, 1, 11])
def test_folds_are_two_to_the_rows_of_the_smaller_sample(folds):
    with pytest.raises(ValueError, match=rf"folds={folds}; expected 2 to 10, the rows"):
        classifier_accuracy(normal(10, 2), normal(30, 2), folds=folds)


# Both


@pytest.mark.parametrize("measure", MEASURES)
def test_the_global_state_is_left_alone_and_does_not_matter(measure):
    x, y = normal(30, 4).float().requires_grad_(), normal(40, 2, 2, seed=1).float()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = measure(x, y)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            second = measure(x, y)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        third = measure(x * 1, y * 1)
    assert first == second == third
    assert x.grad is None


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type_is_measured(measure, dtype):
    x, y = normal(20, 2).to(dtype), normal(20, 2, seed=1).to(dtype)
    assert measure(x, y) == measure(x.double(), y.double())


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        ([[1.0], [2.0]], TypeError, "is a list; expected a tensor"),
        (
            torch.zeros(5, 3, dtype=torch.int64),
            TypeError,
            "has the type torch.int64; expected floats",
        ),
        (torch.zeros(5, 3, dtype=torch.complex64), TypeError, "has the type torch.complex64"),
        (torch.zeros(5, 3, dtype=torch.bool), TypeError, "has the type torch.bool"),
        (
            torch.tensor(1.0),
            ValueError,
            r"has the shape \[\]; expected \[N, ...\] with at least two",
        ),
        (torch.zeros(0, 3), ValueError, r"has the shape \[0, 3\]"),
        (torch.zeros(1, 3), ValueError, r"has the shape \[1, 3\]"),
        (torch.zeros(5, 0), ValueError, r"has the shape \[5, 0\]"),
        (
            torch.tensor([[0, 1, 2], [0, torch.nan, 1]]),
            ValueError,
            r"\[1, 1\] is nan; expected finite",
        ),
        (torch.tensor([[0, 1, -torch.inf]] * 2), ValueError, r"\[0, 2\] is -inf"),
        (
            torch.full((2, 3), 1e200, dtype=torch.float64),
            ValueError,
            r"\[0, 0\] is 1e\+200; .* below 1e\+150",
        ),
    ],
)
def test_a_bad_sample_is_named(measure, name, sample, error, message):
    good = normal(6, 3)
    pair = (sample, good) if name == "x" else (good, sample)
    with pytest.raises(error, match=f"^{name} ?{message}"):
        measure(*pair)


@pytest.mark.parametrize("measure", MEASURES)
def test_samples_are_equally_wide(measure):
    with pytest.raises(ValueError, match="x has 4 numbers a row but y has 3"):
        measure(normal(6, 2, 2), normal(6, 3))


def test_rows_are_flattened_in_place_of_their_trailing_dimensions():
    assert torch.equal(
        as_rows(torch.arange(8.0).reshape(2, 2, 2), "x")[1], torch.tensor([4.0, 5, 6, 7]).double()
    )
    assert as_rows(torch.zeros(3), "x").shape == (3, 1)
