"""The four-part chorales of Bach as piano rolls."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import cast

import torch
from torch import Tensor

from daguerre.data.split import NUMBERS, Split, read_text

__all__ = ["chorales"]

FILE = "jsb-chorales-quarter.json"
MOST = 1 << 26  # bytes of a file; what is parsed takes ten times as much
PARTS = ("train", "valid", "test")
LOWEST, KEYS = 21, 88  # the keys of a piano, as MIDI pitches 21 to 108
_NOTES = "lists of pieces, of steps, of MIDI pitches 21 to 108"


def chorales(path: str | os.PathLike[str]) -> Split:
    r"""Read the JSB chorales, or other polyphonic music in their JSON: which keys sound when.

    The file is an object of `train`, `valid` and `test`, each a list of pieces; a piece is a list
    of time steps, a step a list of MIDI pitches. Published log-likelihoods are in nats per time
    step: sums over all pieces, divided by the steps in all pieces.

    Args:
        path: The file, or the folder of a file `jsb-chorales-quarter.json`.

    Returns:
        x: float32 [N, T, 88], 1 where a key sounds and 0 where it does not; T is the longest
        piece of the part, and NaN marks the steps beyond the end of a shorter one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such JSON; says which piece and step, and what came.

    References:
        Boulanger-Lewandowski, Bengio and Vincent (2012, arXiv 1206.6392) for the split; Allan and
        Williams (2005), *Harmonising chorales by probabilistic inference*, for the pieces.

    Example:
        >>> import tempfile
        >>> parts = {"train": [[[60, 64], [62]], [[60]]], "valid": [[[60]]], "test": [[[]]]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "own.json").write_text(json.dumps(parts))
        ...     split = chorales(f"{folder}/own.json")
        >>> split
        Split(train: x [2, 2, 88]; valid: x [1, 1, 88]; test: x [1, 1, 88])
        >>> split.train["x"].nansum((1, 2))  # keys that sound in each piece
        tensor([3., 1.])
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    content = _parsed(path)
    if not isinstance(content, dict) or not {*PARTS} <= {*content}:
        came = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{path}: expected an object of train, valid and test, came {shorten(str(came), 100)}"
        )
    train, valid, test = ({"x": _rolls(content[part], f"{path}: {part}")} for part in PARTS)
    return Split(train, test, valid)


def _parsed(path: Path) -> object:
    content = read_text(path, most=MOST)
    try:
        return json.loads(content)
    except (RecursionError, ValueError) as error:  # the latter for whole numbers without end, too
        raise ValueError(f"{path} is no JSON: {shorten(str(error), 100)}") from None


def _rolls(pieces: object, where: str) -> Tensor:
    """Return the piano rolls of a part, padded with NaN: `[N, T, 88]`."""
    pieces = _listed(pieces, where)
    for i, piece in enumerate(pieces):
        _listed(piece, f"{where}[{i}]")
    rolls = cast(Sequence[Sequence[object]], pieces)
    longest = max(map(len, rolls))
    if len(rolls) * longest * KEYS > NUMBERS:
        raise ValueError(
            f"{where}: {len(rolls):,} pieces of up to {longest:,} steps are more than"
            f" {NUMBERS:,} numbers when padded; cut the longest pieces"
        )
    x = torch.full((len(rolls), longest, KEYS), torch.nan)
    for i, piece in enumerate(rolls):
        x[i, : len(piece)] = 0
        sounding = [
            (t, pitch)
            for t, step in enumerate(piece)
            for pitch in {*_pitches(step, f"{where}[{i}][{t}]")}
        ]
        if sounding:
            steps, pitches = torch.tensor(sounding).T
            x[i, steps, pitches - LOWEST] = 1
    return x


def _listed(value: object, where: str) -> list[object]:
    if not isinstance(value, list) or not value:
        came = shorten(json.dumps(value), 60)
        raise ValueError(f"{where}: expected {_NOTES}, with something in it, came {came}")
    return value


def _pitches(step: object, where: str) -> list[int]:
    """Return the pitches of a step; none where nothing sounds."""
    if not isinstance(step, list) or not all(map(_is_pitch, step)):
        came = shorten(json.dumps(step), 60)
        raise ValueError(f"{where}: expected a list of MIDI pitches 21 to 108, came {came}")
    return step


def _is_pitch(value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and LOWEST <= value < LOWEST + KEYS  # type: ignore[operator]
