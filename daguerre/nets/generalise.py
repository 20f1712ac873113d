"""From two recordings of one net, for n rows and for 2n, to one for any number of rows.

What differs between the two are sizes: `b` where the other has `a` is `(b - a) / n` entries a row
and `2a - b` besides. Anything else that differs depends on the data, and then there is no such
recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from daguerre.nets.checks import Expect
from daguerre.nets.noise import Law
from daguerre.nets.recording import Layout, Op, Recording, Size

__all__ = ["generalised"]


class _UnlikeError(Exception):
    """The two recordings differ by more than sizes."""


def generalised(one: Recording, two: Recording, n: int) -> Recording | None:
    """Return a recording for any batch that agrees with one for n rows and one for 2n.

    Returns:
        The recording, or None if the two differ by more than sizes.
    """
    same = one.outputs == two.outputs and one.constants.keys() == two.constants.keys()
    if not same or len(one.ops) != len(two.ops):
        return None
    if not all(torch.equal(t, two.constants[name]) for name, t in one.constants.items()):
        return None
    try:
        ops = tuple(_op(a, b, n) for a, b in zip(one.ops, two.ops, strict=True))
    except _UnlikeError:
        return None
    return replace(one, ops=ops, least=1, most=None)


def _op(a: Op, b: Op, n: int) -> Op:
    if (a.label, a.path, a.role) != (b.label, b.path, b.role) or not _alike(
        a.function, b.function
    ):
        raise _UnlikeError
    layout = _layout(a.layout, b.layout, n)
    function = a.function
    if isinstance(function, Law) and layout is not None:
        function = replace(function, event=layout.event)
    arguments = _merged(a.arguments, b.arguments, n)
    options = _merged(a.options, b.options, n)
    return replace(a, function=function, arguments=arguments, options=options, layout=layout)


def _alike(a: Any, b: Any) -> bool:
    match a, b:
        case Law(), Law():
            return _alike(a.family, b.family) and a.values == b.values
        case partial(), partial():
            return (a.func, a.args, a.keywords) == (b.func, b.args, b.keywords)
        case Expect(), Expect():
            return a.value == b.value
    return a == b


def _merged(a: Any, b: Any, n: int) -> Any:
    """Return what holds for any number of rows."""
    if type(a) is int and type(b) is int and a != b:
        factor, rest = divmod(b - a, n)
        if rest:
            raise _UnlikeError
        return Size(factor, 2 * a - b)
    if isinstance(a, Mapping) and isinstance(b, Mapping) and a.keys() == b.keys():
        return {key: _merged(value, b[key], n) for key, value in a.items()}
    if isinstance(a, list | tuple) and isinstance(b, Sequence) and len(a) == len(b):
        return type(a)(_merged(x, y, n) for x, y in zip(a, b, strict=True))
    if type(a) is not type(b) or a != b:
        raise _UnlikeError
    return a


def _layout(a: Layout | None, b: Layout | None, n: int) -> Layout | None:
    """Find the batch where the sizes differ."""
    if a is None or b is None or len(a.shape) != len(b.shape):
        if a is not b:
            raise _UnlikeError
        return None
    sizes = enumerate(_merged(a.shape, b.shape, n))
    grown = [(i, s.factor) for i, s in sizes if isinstance(s, Size) and not s.offset]
    dim, inner = grown[0] if grown else (None, 1)
    return a._replace(dim=dim, inner=inner)
