"""How good a run is on data that it has not seen: what applies, as a file and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from daguerre.data import Split
from daguerre.evaluate.bounds import ELBO, IWAE
from daguerre.evaluate.evaluation import applicable
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

__all__ = ["score_run"]


def score_run(
    folder: Path, game: Game, split: Split, *, particles: int, rows: int, seed: int
) -> Scores:
    """Measure a game on the test data of a run and write `evaluation.json`.

    Bounds are of all test data. Samples are as many as rows, of both the first `rows`.

    Args:
        folder: Of the run; an older evaluation is overwritten.
        game: With its weights.
        split: The data of the run.
        particles: K of the importance-weighted bound.
        rows: How many rows of data and samples are compared at most.
        seed: Of all draws.

    Raises:
        OSError: The folder cannot be written to.
    """
    test, train = _flat(split.test), _flat(split.train)
    few = {name: value[:rows] for name, value in test.items()}
    coded: list[Measure] = [ELBO(), IWAE(particles), RateDistortion(), ActiveUnits()]
    drawn: list[Measure] = [MMD2(), C2ST(), Manifold(), Memorisation(train["x"][: 5 * rows])]
    if "critic" in game.modules:
        drawn.append(CriticRatio(game.objective))
    with mode(game.modules.values(), training=False):
        parts = [applicable(Subject(game.p, None, few, seed), drawn)]
        if game.q is not None:
            of = Subject(game.p, game.q, test, seed)
            parts.insert(0, applicable(of, [*coded, AggregateSplit(rows)]))
    scores = Scores(
        tuple(score for part in parts for score in part.scores),
        tuple(reason for part in parts for reason in part.refused),
    )
    settings = {
        "particles": particles,
        "rows": len(few["x"]),
        "seed": seed,
        "test": len(test["x"]),
    }
    content = {"scores": scores.json(), "settings": settings}
    write_whole(folder / "evaluation.json", json.dumps(content, indent=2).encode())
    return scores


def _flat(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**part, "x": part["x"].flatten(1)}
