"""Runs beside one another: what they were told, how far they are, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from daguerre.plot import curves_svg, smooth
from daguerre.runs import read_run
from daguerre.table import Table
from daguerre.train.history import History, read_history

__all__ = ["compare", "curves", "find_runs"]


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Return the runs among folders and in them, each once, by name.

    Raises:
        FileNotFoundError: There is no such folder, or none holds a run.
    """
    found: dict[Path, None] = {}
    for folder in (folders := list(folders)):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        inner = [folder] if (folder / "run.json").exists() else sorted(folder.iterdir())
        found |= dict.fromkeys(path for path in inner if (path / "run.json").exists())
    if not found:
        raise FileNotFoundError(f"there are no runs in {', '.join(map(str, folders))}")
    return list(found)


def compare(folders: Sequence[Path]) -> Table:
    """Lay out runs, one a row: settings, steps, mean losses of the last 100, last measures.

    Args:
        folders: The runs.
    """
    rows = [_row(folder) for folder in folders]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(tuple(names), tuple(tuple(row.get(n, "") for n in names) for row in rows))


def _row(folder: Path) -> dict[str, str]:
    run, history = read_run(folder), _history(folder)
    settings = ", ".join(f"{key}={value}" for key, value in run.settings.items())
    is_done = (folder / "weights.safetensors").exists()
    cells = {
        "run": str(folder),
        "model": run.name,
        "data": Path(run.data).name,
        "settings": settings,
        "steps": str(len(history)),
        "state": "done" if is_done else "to be resumed",
    }
    cells |= {f"loss of {name}": f"{value:.4g}" for name, value in history.last().items()}
    last = {name: series.values[-1].item() for name, series in history.metrics.items()}
    return cells | {name: f"{value:.4g}" for name, value in last.items()}


def _history(folder: Path) -> History:
    path = folder / "history.jsonl"
    return read_history(path) if path.exists() else History({}, steps=0)


def curves(folders: Sequence[Path]) -> str:
    """Draw the losses of the model in several runs into one SVG.

    Raises:
        ValueError: No run has taken a step.
    """
    losses = {str(folder): _history(folder).losses.get("model") for folder in folders}
    taken = {name: values for name, values in losses.items() if values is not None}
    steps = max(map(len, taken.values()), default=0)
    shown = {name: smooth(values.tolist()) for name, values in taken.items()}
    return curves_svg(shown, steps=steps, unit="loss")
