"""Objects of a JSON file, read key by key: each value is checked before it is used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

import torch
from torch import Tensor

from daguerre.formats.text import Source, close_to, excerpt
from daguerre.graph import GraphError

__all__ = ["Entry", "parse"]

Pairs = list[tuple[str, object]]


@dataclass(frozen=True)
class Entry:
    """One object of a file.

    Attributes:
        where: What errors about it begin with.
        fields: Its values by key.
    """

    where: str
    fields: dict[str, object]

    @classmethod
    def of(cls, where: str, value: object) -> Entry:
        """Check that a value is an object, whose keys are text."""
        if not isinstance(value, dict):
            raise GraphError(f"{where}: expected an object, found {_shown(value)}")
        for key in value:
            _check_text(where, key)
        return cls(where, value)

    def error(self, message: str) -> GraphError:
        """Return an error about this object."""
        return GraphError(f"{self.where}: {message}")

    def only(self, *keys: str) -> None:
        """Refuse other keys than these."""
        for key in self.fields:
            if key not in keys:
                raise self.error(f"unknown key {excerpt(key)}{close_to(key, keys)}")

    def object(self, key: str) -> Entry:
        """Return an object inside this one; no such key, an empty one."""
        return Entry.of(f"{self.where}, {key}", self.fields.get(key, {}))

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of names, each once; no such key, no names."""
        found = self.fields.get(key, [])
        if not isinstance(found, list):
            raise self.error(f"{key}: expected a list of names, found {_shown(found)}")
        names = []
        for name in found:
            if not isinstance(name, str):
                raise self.error(f"{key}: expected a name, found {_shown(name)}")
            _check_text(self.where, name)
            names.append(name)
        if len(set(names)) != len(names):
            raise self.error(f"{key}: a name stands twice")
        return tuple(names)

    def count(self, key: str, value: object, most: int) -> int:
        """Return a value of a key as a whole number from 1."""
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self.error(f"{key}: expected a count from 1 to {most:,}, found {_shown(value)}")
        return value

    def tensor(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """Return nested lists of numbers of a known shape, in float64.

        Raises:
            GraphError: No such key, other lengths, something else than finite numbers.
        """
        if key not in self.fields:
            raise self.error(f"expected the key {key!r}, with numbers of shape {list(shape)}")
        flat: list[object] = [self.fields[key]]
        for depth, size in enumerate(shape):
            for part in flat:
                if not isinstance(part, list) or len(part) != size:
                    raise self.error(
                        f"{key}: expected numbers of shape {list(shape)}; found {_shown(part)}"
                        f" instead of a list of {size} at depth {depth}"
                    )
            flat = [value for part in flat if isinstance(part, list) for value in part]
        for value in flat:
            if not _is_finite(value):
                raise self.error(
                    f"{key}: expected finite numbers of shape {list(shape)}, found {_shown(value)}"
                )
        return torch.tensor(flat, dtype=torch.float64).reshape(shape)


def parse(source: Source) -> object:
    """Parse JSON as its standard says: no NaN, no key twice.

    Raises:
        GraphError: It is no JSON, or nested too deep to be a network.
    """

    def constant(name: str) -> Never:
        raise GraphError(f"{source.name}: JSON has no {name}; expected finite numbers")

    def once(pairs: Pairs) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))
            raise GraphError(f"{source.name}: the key {excerpt(twice)} stands twice in one object")
        return found

    return _loads(source, constant, once)


def _loads(
    source: Source, constant: Callable[[str], Never], once: Callable[[Pairs], object]
) -> object:
    try:
        return json.loads(source.text, parse_constant=constant, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise source.error(error.pos, f"no JSON: {error.msg}") from None
    except RecursionError:
        raise GraphError(f"{source.name}: nested too deep for a network") from None
    except GraphError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise GraphError(f"{source.name}: {error}") from None


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check_text(where: str, name: str) -> None:
    if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):
        raise GraphError(f"{where}: the name {name[:40]!a} holds half a character")


def _shown(value: object) -> str:
    match value:
        case str():
            return ascii(value[:40])
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int():
            return str(value) if abs(value) < 10**20 else "a huge integer"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return repr(value)
