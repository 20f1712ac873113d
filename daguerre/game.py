"""A game ready to be played: the modules, the objective, and how long to fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from daguerre.model import Model
from daguerre.objectives.objective import Objective

__all__ = ["Game"]


@dataclass(frozen=True, eq=False)
class Game:
    """What a gallery entry builds and the command line fits, saves and samples.

    Attributes:
        modules: By role: `"p"` the model, `"q"` its inference model, `"critic"` its critic.
        objective: The cost.
        options: Keywords for `dg.fit`.
    """

    modules: Mapping[str, nn.Module]
    objective: Objective
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def p(self) -> Model:
        """The model."""
        return self._model("p")

    @property
    def q(self) -> Model | None:
        """The inference model, where there is one."""
        return self._model("q") if "q" in self.modules else None

    def _model(self, role: str) -> Model:
        module = self.modules[role]
        if not isinstance(module, Model):
            raise TypeError(f"{role} must be a dg.Model, not {type(module).__name__}")
        return module
