"""A run on disk: one folder with weights, what made them, losses, samples and the picture.

| file | holds |
|---|---|
| `run.json` | the game, the data, the options, the versions |
| `weights.safetensors` | every module, and the graphs of the models |
| `losses.csv` | the loss of each player at each step |
| `samples.png` | a grid of samples, where they are square pictures |
| `graph.svg` | model, auxiliaries and cost |
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.draw import draw
from daguerre.evaluate.images import grid, write_png
from daguerre.files import write_whole
from daguerre.game import Game
from daguerre.modes import mode
from daguerre.train.checkpoint import load, save
from daguerre.train.history import History

__all__ = [
    "Run",
    "is_square",
    "means",
    "open_folder",
    "pictures",
    "read_run",
    "samples",
    "write_run",
]


@dataclass(frozen=True)
class Run:
    """What made a run: enough to build the game again.

    Attributes:
        name: `vae`, `gan`, or `module:Class` of the user's own.
        data: `digits`, `mnist`, or a path.
        pixels: The size of x.
        options: Options of the command that differ from the defaults.
        versions: Of daguerre and torch.
    """

    name: str
    data: str
    pixels: int
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def write_run(folder: Path, run: Run, game: Game, history: History) -> None:
    """Write a run into a folder; each file is whole or absent.

    Raises:
        FileExistsError: The folder holds a run already.
    """
    open_folder(folder)
    save(game.modules, folder / "weights.safetensors", notes=asdict(run))
    write_whole(folder / "losses.csv", _csv(history).encode())
    draw(game.objective).save(folder / "graph.svg")
    if is_square(run.pixels):
        drawn = pictures(samples(game, 64, seed=0))
        write_png(folder / "samples.png", grid(drawn, columns=16, scale=4))
    text = json.dumps(asdict(run), indent=2)
    write_whole(folder / "run.json", text.encode())


def open_folder(folder: Path) -> None:
    """Make a folder for a run, before any work is done for it.

    Raises:
        FileExistsError: The folder holds a run already.
        OSError: It cannot be made or written to.
    """
    if (folder / "run.json").exists():
        raise FileExistsError(f"{folder} holds a run already; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to")


def read_run(folder: Path, build: Callable[[Run], Game]) -> Game:
    """Build the game of a run again and load its weights.

    Args:
        folder: The run.
        build: What builds a game from its description.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: A file of it is damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no run: there is no {path}")
    try:
        run = Run(**json.loads(path.read_text()))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    game = build(run)
    load(folder / "weights.safetensors", into=game.modules)
    return game


def samples(game: Game, n: int, *, seed: int) -> Tensor:
    """Draw the leaves of a game's model, the first of them, `[n, *event]`, in evaluation mode."""
    with mode([game.p], training=False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return game.p.sample(n)[game.p.graph.leaves[0]]


def means(game: Game, n: int, *, seed: int) -> Tensor | None:
    """Return the means of the CPD that `samples` of the same seed were drawn from.

    None where the leaf is no draw but a function of its parents.
    """
    with mode([game.p], training=False), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        values = game.p.sample(n)
        step = next(s for s in game.p.steps() if s.name == game.p.graph.leaves[0])
        outcome = step.outcome(values)
    return outcome.mean if isinstance(outcome, Distribution) else None


def pictures(values: Tensor) -> Tensor:
    """Shape vectors of a square number of pixels into pictures in [0, 1].

    Raises:
        ValueError: Vectors that are no squares.

    Example:
        >>> pictures(torch.rand(3, 64)).shape
        torch.Size([3, 8, 8])
    """
    rows = values.flatten(1)
    if not is_square(rows.shape[1]):
        raise ValueError(f"{rows.shape[1]} values are no square picture; save them as .npy")
    side = isqrt(rows.shape[1])
    return rows.float().clamp(0, 1).view(-1, side, side)


def is_square(pixels: int) -> bool:
    """Whether so many pixels make a square picture."""
    return isqrt(pixels) ** 2 == pixels


def _csv(history: History) -> str:
    names = list(history.losses)
    rows = zip(*(history[name].tolist() for name in names), strict=True)
    lines = (f"{i}," + ",".join(f"{v:.6g}" for v in row) for i, row in enumerate(rows))
    return "\n".join([",".join(["step", *names]), *lines]) + "\n"
