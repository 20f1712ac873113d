"""Options of a fit as `key=value`: what the command line takes and a run's folder keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from daguerre.graph import did_you_mean
from daguerre.train.turns import Turn, turns_of
from daguerre.train.weights import Sharding

__all__ = ["Settings", "fit_options", "parse_settings"]

Settings = Mapping[str, float | int | bool]

SWITCHES = ("compile", "bf16", "shard", "shard_weights")
PLAIN = ("epochs", "steps", "batch_size", *SWITCHES, "seed", "every", "keep", "patience")
TURN = ("lr", *(field.name for field in fields(Turn) if field.name != "optimizer"))


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read options: numbers, true or false; `key.player=value` is for one player alone.

    Raises:
        ValueError: No `key=value`, an unknown key, a value that is none of these.

    Example:
        >>> parse_settings(["epochs=3", "updates.critic=5", "compile=false"])
        {'epochs': 3, 'updates.critic': 5, 'compile': False}
    """
    return dict(_pair(pair) for pair in pairs)


def _pair(pair: str) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    name, dot, player = key.strip().partition(".")
    known = (*PLAIN, *TURN)
    if not equals or name not in known or (dot and (name in PLAIN or not player)):
        hint = did_you_mean(name, known)
        raise ValueError(f"a setting is key=value, or key.player=value, not {pair!r}{hint}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is a number, true or false, not {text!r}")
    if isinstance(value, bool) != (name in SWITCHES):
        raise ValueError(f"{key} is {_kind(name)}, not {text}")
    if name == "seed" and not isinstance(value, int):
        raise ValueError(f"{key} is a whole number, not {text}")
    return key.strip(), value


def _kind(name: str) -> str:
    return "true or false" if name in SWITCHES else "a number"


def fit_options(
    players: Sequence[str], base: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    """Put settings over the options that a game brings; return keywords of `dg.fit`.

    Args:
        players: Who moves.
        base: What the game brings.
        settings: What is asked instead; those of checkpoints and stopping are left out.

    Raises:
        ValueError: A setting for a player that does not move, or out of range.

    Example:
        >>> options = fit_options(["critic", "model"], {"epochs": 9}, {"steps": 5, "lr.critic": 1})
        >>> options["steps"], options["optimizer"]["critic"].optimizer.lr
        (5, 1)
    """
    turns = turns_of(players, base.get("optimizer"), base.get("lr"))
    options = {k: v for k, v in base.items() if k not in ("optimizer", "lr")}
    if "steps" in settings or "epochs" in settings:
        options = {k: v for k, v in options.items() if k not in ("steps", "epochs")}
    for key, value in settings.items():
        name, _, player = key.partition(".")
        if name in TURN:
            if player and player not in players:
                raise ValueError(f"{key}: no player {player!r}{did_you_mean(player, players)}")
            for one in [player] if player else players:
                turns[one] = _changed(turns[one], name, value)
        elif name == "bf16":
            options["precision"] = torch.bfloat16 if value else None
        elif name == "shard_weights":
            options["shard"] = Sharding(weights=True) if value else settings.get("shard", False)
        elif name not in ("every", "keep", "patience"):
            options[name] = value
    return {**options, "optimizer": turns}


def _changed(turn: Turn, name: str, value: Any) -> Turn:
    if name == "lr":
        return turns_of(["model"], turn, value)["model"]
    return replace(turn, **{name: value})
