"""A run on disk: one folder with weights, what made them, losses, samples and the picture.

| file | holds |
|---|---|
| `run.json` | the game, the data with a checksum, the settings, versions, the state of git |
| `graph.svg` | model, auxiliaries and cost |
| `history.jsonl` | the losses of each step, and what was measured, as it goes |
| `checkpoints/` | everything that moves; the newest ones |
| `samples/` | samples of the same noise as training goes, where they are square pictures |
| `weights.safetensors` | every module at the end, averaged if asked, and the graphs of models |
| `losses.svg`, `samples.png` | the same at the end |
| `tensorboard/` | the log for TensorBoard, where it is asked for |
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.data import Split
from daguerre.devices import device_of
from daguerre.draw import draw
from daguerre.evaluate.images import grid, write_png
from daguerre.files import write_whole
from daguerre.game import Game
from daguerre.modes import mode
from daguerre.settings import fit_options
from daguerre.train.callbacks import Callback, early_stop, every, sample_grid, validation
from daguerre.train.checkpoint import load, save
from daguerre.train.fit import fit
from daguerre.train.history import History
from daguerre.train.processes import processes
from daguerre.train.store import Checkpoints, restore
from daguerre.train.tensorboard import tensorboard

__all__ = [
    "Run",
    "is_square",
    "means",
    "open_folder",
    "pictures",
    "read_game",
    "read_run",
    "samples",
    "train",
]

LOOKS = 10  # at the validation data and at samples, in a run


@dataclass(frozen=True)
class Run:
    """What made a run: enough to do it again.

    Attributes:
        name: `vae`, `gan`, or `module:Class` of the user's own.
        data: `digits`, `mnist`, or a path.
        pixels: The size of x.
        options: Options of the command that differ from the defaults.
        settings: Of the fit, `{key: value}`.
        folder: Where the data are.
        versions: Of daguerre and torch.
        git: The commit that the current folder was at, and whether files differed from it.
        checksum: Of the data that it was fitted to.

    Raises:
        TypeError: A field of another type.
    """

    name: str
    data: str
    pixels: int
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    folder: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)
    checksum: str = ""

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{name} is a {kind.__name__}, not {value!r}")


_KINDS = {"name": str, "data": str, "pixels": int, "options": dict, "settings": dict, "git": dict}


def train(folder: Path, run: Run, game: Game, split: Split, *, resume: bool) -> History:
    """Fit a game into a folder, or go on with it; each file is whole or absent.

    Where `torchrun` started several processes all of them call this, and process 0 writes.

    Raises:
        FileExistsError: The folder holds a run, which is not to be resumed.
    """
    peers = processes(device_of(game.modules.values()))
    if not resume:
        peers.once(lambda: _begin(folder, run, game))
    train_x, valid = _flat(split.train), _flat(split.valid or split.test)
    players = [p.name for p in game.objective.players if p.parameters()]
    options = fit_options(players, game.options, run.settings)
    history = fit(
        game.objective,
        train_x,
        **options,
        callbacks=_callbacks(folder, run, game, valid, _spacing(options, len(train_x["x"]))),
        out=Checkpoints(folder, run.settings.get("every"), keep=run.settings.get("keep", 3)),
        resume=resume,
    )
    peers.once(lambda: _finish(folder, run, game, history))
    return history


def _begin(folder: Path, run: Run, game: Game) -> None:
    """Write what a run starts with."""
    open_folder(folder)
    draw(game.objective).save(folder / "graph.svg")
    write_whole(folder / "run.json", json.dumps(asdict(run), indent=2).encode())


def _flat(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**part, "x": part["x"].flatten(1)}


def _spacing(options: Mapping[str, Any], rows: int) -> int:
    """Return the steps between two looks."""
    batches = max(1, rows // options.get("batch_size", 128))
    steps = options.get("steps") or round(options.get("epochs", 1) * batches)
    return max(1, steps // LOOKS)


def _callbacks(
    folder: Path, run: Run, game: Game, valid: Mapping[str, Tensor], spacing: int
) -> list[Callback]:
    found = [every(spacing, validation(valid))]
    if is_square(run.pixels):
        found.append(every(spacing, sample_grid(game.p, folder / "samples")))
    if patience := run.settings.get("patience"):
        found.append(early_stop("validation model", patience=patience))
    if run.options.get("tensorboard"):
        shown = game.p if is_square(run.pixels) else None
        found.append(tensorboard(folder / "tensorboard", p=shown, grids=spacing))
    return found


def _finish(folder: Path, run: Run, game: Game, history: History) -> None:
    """Write what a run ends with; one that was interrupted is to go on."""
    if history.interrupted:
        return
    save(game.modules, folder / "weights.safetensors", notes=asdict(run))
    write_whole(folder / "losses.svg", history.svg.encode())
    if is_square(run.pixels):
        drawn = pictures(samples(game, 64, seed=0))
        write_png(folder / "samples.png", grid(drawn, columns=16, scale=4))


def open_folder(folder: Path) -> None:
    """Make a folder for a run, before any work is done for it.

    Raises:
        FileExistsError: The folder holds a run already.
        OSError: It cannot be made or written to.
    """
    traces = ("history.jsonl", "weights.safetensors", "checkpoints")
    if any((folder / name).exists() for name in traces):
        raise FileExistsError(
            f"{folder} holds a run already; choose another --out, or go on with it: daguerre"
            f" resume {folder}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"the folder {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to")


def read_run(folder: Path) -> Run:
    """Read what made a run.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: Its description is damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no run: there is no {path}")
    try:
        return Run(**json.loads(path.read_text()))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_game(folder: Path, build: Callable[[Run], Game]) -> Game:
    """Build the game of a run again and load its weights, or those of its newest checkpoint.

    Args:
        folder: The run.
        build: What builds a game from its description.

    Raises:
        FileNotFoundError: The folder holds no run, or no weights yet.
        ValueError: A file of it is damaged.
    """
    game = build(read_run(folder))
    if (weights := folder / "weights.safetensors").exists():
        load(weights, into=game.modules)
    else:
        restore(game.objective, folder)
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
