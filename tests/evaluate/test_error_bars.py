"""Error bars cover: over many data sets a score spreads as it says.

Each ratio is of the standard deviation of 25 values to their mean error bar, which has itself a
relative error of 0.14; the bounds are 4 of these away for a right bar, and wider for the jackknife
of ten groups, which is noisy and rather too large. One failure in 10,000 each.
"""

import pytest
import torch
from measured import MEASURES, data

pytestmark = pytest.mark.slow
SEEDS = 25
CASES = [
    (name, score)
    for name, score in [
        ("ELBO", "elbo"),
        ("IWAE", "iwae"),
        ("rate and distortion", "rate"),
        ("rate and distortion", "distortion"),
        ("unit rates", "rate z[0]"),
        ("aggregate split", "information"),
        ("aggregate split", "marginal kl"),
        ("FID", "FID"),
        ("KID", "KID"),
        ("overlap", "precision"),
        ("overlap", "recall"),
        ("overlap", "density"),
        ("overlap", "coverage"),
        ("class score", "class score"),
        ("memorisation", "memorisation"),
        ("critic", "critic js"),
        ("critic", "critic kl"),
    ]
]
BY_NAME = {entry.name: entry for entry in MEASURES}


@pytest.fixture(scope="module")
def spreads():
    """The values and error bars of each score, of a model that is shifted, over data sets."""
    found = {}
    for name in dict.fromkeys(name for name, _ in CASES):
        entry = BY_NAME[name]
        p = entry.model()
        p.get_parameter("shift").data.fill_(0.7)
        for seed in range(SEEDS):
            for score in entry.scores(p, seed=seed, x=data(200, seed=1000 + seed)):
                found.setdefault((name, score.name), []).append((score.value, score.spread))
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_score_spreads_as_its_error_bar_says(case, spreads):
    values, bars = torch.tensor(spreads[case]).T
    ratio = values.std() / bars.mean()
    assert 0.45 < ratio < 1.6
