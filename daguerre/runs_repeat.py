"""Doing a run again: what it was made with, and whether the same came of it."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daguerre import __version__
from daguerre.data import Split
from daguerre.runs import Run, read_run
from daguerre.train.checkpoint import load

__all__ = ["compared", "data_checksum", "git_state", "stamped"]


def stamped(run: Run, split: Split) -> Run:
    """Note what a run is made with now: the data, versions, and the state of git."""
    versions = {
        "daguerre": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": python_version(),
    }
    return replace(run, checksum=data_checksum(split), versions=versions, git=git_state())


def compared(one: Path, other: Path) -> str:
    """Say whether two runs ended with the same weights, and what they were not made alike with.

    Args:
        one: A run.
        other: The one that repeats it.
    """
    ends = [folder / "weights.safetensors" for folder in (one, other)]
    if not all(path.exists() for path in ends):
        return f"{one} or {other} has not come to its end: there are no weights to compare"
    a, b = (load(path).tensors for path in ends)
    if _is_equal(a, b):
        return f"the weights are those of {one}, to the bit"
    before, now = read_run(one), read_run(other)
    parts = [
        f"{name} {there.get(name)} then, {here.get(name)} now"
        for there, here in ((before.versions, now.versions), (before.git, now.git))
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    return f"the weights differ from those of {one}; " + ("; ".join(parts) or "made alike")


def _is_equal(
    a: Mapping[str, Mapping[str, Tensor]], b: Mapping[str, Mapping[str, Tensor]]
) -> bool:
    """Whether two modules or more have the same tensors, to the bit."""
    one, other = (
        {(m, name): tensor for m, part in all_.items() for name, tensor in part.items()}
        for all_ in (a, b)
    )
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def data_checksum(split: Split) -> str:
    """Return a checksum of what a run is fitted to.

    Example:
        >>> data_checksum(Split({"x": torch.zeros(2, 3)}, {}))
        '[2, 3] torch.float32 a3c1ca20'
    """
    x = split.train["x"].contiguous().cpu()
    return f"{list(x.shape)} {x.dtype} {zlib.crc32(x.numpy().data):08x}"


def git_state() -> dict[str, Any]:
    """Return the commit of the current folder, and whether files differ; nothing without git."""
    try:
        commit, changes = (
            subprocess.run(["git", *words], capture_output=True, check=True, text=True).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit.strip(), "changed": bool(changes.strip())}
