"""Deterministic variables that are functions of what is observed: an RNN over known inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from daguerre.infer.chain.reading import Reading

__all__ = ["determine"]


def determine(reading: Reading) -> Reading:
    """Compute the deterministic variables that data determine, so that they are data too.

    All steps at once where a map says them so, or none depends on another of an earlier slice,
    else step by step.
    """
    left = _determined(reading)
    while left:
        name = next((n for n in left if not (_parents(reading, n) - {n}) & {*left}), None)
        if name is None:  # some feed each other
            return _stepped(reading, left)
        left.remove(name)
        if name not in _parents(reading, name):
            reading = _with(reading, {name: _apart(reading, name)})
        elif reading.steps[name].whole is not None:
            reading = _with(reading, {name: _at_once(reading, name)})
        else:
            reading = _stepped(reading, [name])
    return reading


def _apart(reading: Reading, name: str) -> Tensor:
    """Return all steps of a map, none of which depends on another."""
    parts = [_computed(reading, name, first=True).unsqueeze(1)]
    if not _parents(reading, name):
        return parts[0].expand(*reading.size, *parts[0].shape[2:])
    if reading.size[1] > 1:
        later = _computed(reading, name, first=False)
        parts.append(later.unflatten(0, (-1, reading.size[1] - 1)))
    return torch.cat([_over(part, reading.size[0]) for part in parts], 1)


def _at_once(reading: Reading, name: str) -> Tensor:
    """Return all steps of a recursion that says them at once, `over_time`."""
    step = reading.steps[name]
    arguments = [reading.data[parent] for parent in step.arguments]
    for lagged in reading.lags(name):
        if lagged.variable == name:
            start = reading.start(name, lagged)
            assert isinstance(start, Tensor), "a map has no law"
            arguments.append(_over(start[None], reading.size[0]))
        else:
            arguments.append(reading.shifted(name, lagged))
    return step.at_once(arguments, reading.lengths)


def _determined(reading: Reading) -> list[str]:
    """Return the deterministic variables below data alone, parents first."""
    left = {n for n in reading.hidden if reading.steps[n].variable.map == "deterministic"}
    while lost := {n for n in left if not {*reading.data, *left}.issuperset(_parents(reading, n))}:
        left -= lost
    return [n for n in reading.hidden if n in left]


def _parents(reading: Reading, name: str) -> set[str]:
    return {*reading.steps[name].arguments, *(x.variable for x in reading.lags(name))}


def _computed(reading: Reading, name: str, *, first: bool) -> Tensor:
    arguments = [reading.now(p, first=first) for p in reading.steps[name].arguments]
    arguments += [reading.before(name, lagged, first=first) for lagged in reading.lags(name)]
    found = reading.call(name, arguments)
    assert isinstance(found, Tensor)
    return found


def _stepped(reading: Reading, names: list[str]) -> Reading:
    """Step through time."""
    batch, steps = reading.size
    known = {name: list(value.unbind(1)) for name, value in reading.data.items()}
    for t in range(steps):
        for name in names:
            arguments = [known[p][t] for p in reading.steps[name].arguments]
            for lagged in reading.lags(name):
                start = reading.start(name, lagged)
                assert isinstance(start, Tensor)
                ago = t - lagged.steps
                arguments.append(
                    known[lagged.variable][ago] if ago >= 0 else start.expand(batch, *start.shape)
                )
            found = reading.call(name, arguments)
            assert isinstance(found, Tensor)
            known.setdefault(name, []).append(_over(found, batch))
    return _with(reading, {name: torch.stack(known[name], 1) for name in names})


def _over(values: Tensor, batch: int) -> Tensor:
    return values.expand(batch, *values.shape[1:])


def _with(reading: Reading, values: Mapping[str, Tensor]) -> Reading:
    return replace(reading, data={**reading.data, **values})
