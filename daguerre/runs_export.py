"""From a run to what other programs need of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from daguerre.export import Exported, export
from daguerre.game import Game
from daguerre.graph import did_you_mean
from daguerre.model import Model

__all__ = ["export_run"]


def export_run(
    game: Game,
    pixels: int,
    outputs: Sequence[str] | None,
    given: Sequence[str] | None,
    *,
    of: str = "p",
) -> Exported:
    """Export what a module of a run computes; see `dg.export`.

    Args:
        game: The game, with its weights.
        pixels: The size of x.
        outputs: What is asked for; by default the mean or value of the first leaf of p, and the
            parameters of all that q draws.
        given: The inputs; by default what is needed.
        of: Which module: `p` or `q`.

    Raises:
        ValueError: There is no such module, or it is no model.
    """
    models = {role: module for role, module in game.modules.items() if isinstance(module, Model)}
    if of not in models:
        raise ValueError(f"--of names a model of the run, not {of!r}{did_you_mean(of, models)}")
    graph = models[of].graph
    if not outputs:
        leaf = graph[graph.leaves[0]]
        mean = f"{leaf.name}.mean" if leaf.map == "stochastic" else leaf.name
        drawn = [v.name for v in graph.variables if v.map == "stochastic"]
        outputs = [mean] if of == "p" else drawn
    example = {"x": torch.rand(2, pixels)} if "x" in graph.inputs else None
    return export(models[of], outputs, given=given or None, example=example)
