"""The main job: one graph and two costs on real handwritten digits, as a table and a page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from daguerre.data import digits
from daguerre.evaluate import Scores, evaluate
from daguerre.evaluate.images import grid, png_bytes
from daguerre.evaluate.two_sample import classifier_accuracy, mmd2
from daguerre.files import write_whole
from daguerre.gallery import GAMES
from daguerre.game import Game
from daguerre.report import Panel, page
from daguerre.runs import means, pictures, samples
from daguerre.table import Table
from daguerre.train.checkpoint import save
from daguerre.train.fit import fit
from daguerre.train.history import History

__all__ = ["demo"]


@dataclass(frozen=True)
class Played:
    """A game after its fit: what happened, and how good it is on held-out data."""

    name: str
    game: Game
    history: History
    scores: Scores


def demo(out: Path, say: Callable[[str], object]) -> Table:
    """Fit the VAE and the GAN of the gallery to the digits and write a report.

    Args:
        out: The folder of the report; made if it does not exist.
        say: Prints a line.

    Returns:
        The table of scores that is also printed and in the report.
    """
    start = time.perf_counter()
    split = digits()
    train, test = split.train["x"], split.test["x"]
    say(f"{len(train)} digits to learn from, {len(test)} held out")
    played = [_play(name, train, test, say) for name in ("vae", "gan")]
    table = _table(played, train, test)
    out.mkdir(parents=True, exist_ok=True)
    for one in played:
        save(one.game.modules, out / f"{one.name}.safetensors")
    html = page([_panel(one) for one in played], table, _picture(test[:40]))
    write_whole(out / "report.html", html.encode())
    say(f"\n{table}\n\nwrote {out / 'report.html'} after {time.perf_counter() - start:.0f} s")
    return table


def _play(name: str, train: Tensor, test: Tensor, say: Callable[[str], object]) -> Played:
    torch.manual_seed(0)
    game = GAMES[name](train.shape[1])
    say(f"\n{name.upper()}: {game.p.graph}\n{game.objective.explain()}")
    history = fit(game.objective, train, **game.options)
    say(str(history))
    return Played(name, game, history, evaluate(game.p, game.q, test))


def _table(played: list[Played], train: Tensor, test: Tensor) -> Table:
    """Lay out the scores, with real digits against real digits as the mark to reach."""
    columns = ("", "ELBO (nats)", "IWAE-100 (nats)", "MMD² x 1000", "classifier accuracy")
    rows = [(one.name.upper(), *(_cell(one.scores, m) for m in _MEASURES)) for one in played]
    distance = mmd2(test, train[: len(test)])
    accuracy = classifier_accuracy(test, train[: len(test)])
    real = (
        f"{1000 * distance.value:.2f} ± {1000 * distance.null_std:.2f}",
        f"{accuracy.value:.3f} ± {accuracy.stderr:.3f}",
    )
    return Table(columns, (*rows, ("other real digits", "-", "-", *real)))


_MEASURES = ("elbo", "iwae", "mmd2", "c2st")


def _cell(scores: Scores, measure: str) -> str:
    if measure not in scores:
        return "no density"
    scale, places = {"mmd2": (1000, 2), "c2st": (1, 3)}.get(measure, (1, 2))
    score = scores[measure]
    return f"{scale * score.value:.{places}f} ± {scale * score.spread:.{places}f}"


def _panel(one: Played) -> Panel:
    losses = {name: values.tolist() for name, values in one.history.losses.items()}
    shown = {"samples": samples(one.game, 40, seed=1)}
    if (centres := means(one.game, 40, seed=1)) is not None:
        shown["means of p(x | z) for the same z"] = centres
    images = {title: _picture(values) for title, values in shown.items()}
    return Panel(one.name.upper(), one.game.objective, losses, one.history.steps, images)


def _picture(values: Tensor) -> bytes:
    return png_bytes(grid(pictures(values), columns=10, scale=6))
