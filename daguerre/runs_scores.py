"""How good a run is on data that it has not seen: what applies, as a file and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from daguerre.data import Split
from daguerre.evaluate.annealed import AIS
from daguerre.evaluate.bounds import ELBO, IWAE
from daguerre.evaluate.classes import ClassScore
from daguerre.evaluate.evaluation import applicable
from daguerre.evaluate.features import train_classifier
from daguerre.evaluate.frechet import FID, KID
from daguerre.evaluate.latents import ActiveUnits, AggregateSplit, RateDistortion
from daguerre.evaluate.manifold import Manifold
from daguerre.evaluate.memory import Memorisation
from daguerre.evaluate.ratio import CriticRatio
from daguerre.evaluate.samples import C2ST, MMD2
from daguerre.evaluate.scores import Scores
from daguerre.evaluate.subject import Measure, Subject
from daguerre.files import write_whole
from daguerre.game import Game
from daguerre.modes import mode
from daguerre.runs import Run

__all__ = ["Asked", "score_run"]


@dataclass(frozen=True)
class Asked:
    """What is measured of a run.

    Attributes:
        particles: K of the importance-weighted bound.
        rows: How many rows of data and samples are compared at most.
        seed: Of all draws.
        annealed: For how many rows log p(x) is annealed too, which is slow.
        classes: Whether samples are judged by a classifier of the data's labels as well.
    """

    particles: int = 100
    rows: int = 2000
    seed: int = 0
    annealed: int = 0
    classes: bool = False


def score_run(folder: Path, game: Game, run: Run, split: Split, asked: Asked) -> Scores:
    """Measure a game on the test data of a run and write `evaluation.json`.

    Bounds are of all test data. Samples are as many as rows, of both the first `rows`.

    Args:
        folder: Of the run; an older evaluation is overwritten.
        game: With its weights.
        run: Its settings.
        split: The data of the run.
        asked: What to measure.

    Raises:
        ValueError: A classifier is asked for, but the data has no labels.
        OSError: The folder cannot be written to.
    """
    test = _flat(split.test)
    few = {name: value[: asked.rows] for name, value in test.items()}
    with mode(game.modules.values(), training=False):
        parts = [
            applicable(Subject(game.p, None, few, asked.seed), _by_p(game, run, split, asked))
        ]
        if game.q is not None:
            of = Subject(game.p, game.q, test, asked.seed)
            parts.insert(0, applicable(of, _by_q(asked)))
    scores = Scores(
        tuple(score for part in parts for score in part.scores),
        tuple(reason for part in parts for reason in part.refused),
    )
    settings = {**asdict(asked), "rows": len(few["x"]), "test": len(test["x"])}
    content = {"scores": scores.json(), "settings": settings}
    write_whole(folder / "evaluation.json", json.dumps(content, indent=2).encode())
    return scores


def _by_q(asked: Asked) -> list[Measure]:
    """Measures that take draws of q."""
    bounds = (ELBO(), IWAE(asked.particles), RateDistortion(), ActiveUnits())
    return [*bounds, AggregateSplit(asked.rows)]


def _by_p(game: Game, run: Run, split: Split, asked: Asked) -> list[Measure]:
    """Measures that take draws of p."""
    train = _flat(split.train)
    found: list[Measure] = [MMD2(), C2ST(), Manifold(), Memorisation(train["x"][: 5 * asked.rows])]
    if "critic" in game.modules:
        found.append(CriticRatio(game.objective))
    if asked.classes:
        if "y" not in train:
            raise ValueError(f"the data {run.data} has no labels to train a classifier on")
        net = train_classifier(train["x"], train["y"], name=run.data, seed=asked.seed)
        found += [FID(net.features), KID(net.features), ClassScore(net)]
    if asked.annealed:
        found.append(AIS(asked.annealed))
    return found


def _flat(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**part, "x": part["x"].flatten(1)}
