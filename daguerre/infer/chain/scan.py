"""Prefixes of an associative operation, in logarithmic depth."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Elements", "prefixes", "suffixes"]

Elements = tuple[Tensor, ...]
Combine = Callable[[Elements, Elements], Elements]


def prefixes(combine: Combine, elements: Elements) -> Elements:
    r"""Return $e_0,\ e_0 \circ e_1,\ e_0 \circ e_1 \circ e_2, \dots$ by an up and down sweep.

    Args:
        combine: An associative operation on batches: `[m, ...]` and `[m, ...]` give `[m, ...]`.
        elements: Tensors `[n, ...]` with n >= 1.

    Returns:
        Tensors `[n, ...]`.

    References:
        Blelloch (1990), Prefix sums and their applications.

    Example:
        >>> prefixes(lambda a, b: (a[0] + b[0],), (torch.arange(6),))
        (tensor([ 0,  1,  3,  6, 10, 15]),)
    """
    n = len(elements[0])
    if n < 2:
        return elements
    pairs = combine(tuple(e[: n - 1 : 2] for e in elements), tuple(e[1::2] for e in elements))
    odd = prefixes(combine, pairs)  # those of 2, 4, ... elements
    if n == 2:
        even = tuple(e[:1] for e in elements)
    else:
        more = combine(tuple(o[: (n - 1) // 2] for o in odd), tuple(e[2::2] for e in elements))
        even = tuple(torch.cat([e[:1], m]) for e, m in zip(elements, more, strict=True))
    return tuple(_interleave(a, b) for a, b in zip(even, odd, strict=True))


def suffixes(combine: Combine, elements: Elements) -> Elements:
    r"""Return $e_0 \circ \dots \circ e_{n-1},\ e_1 \circ \dots \circ e_{n-1}, \dots$.

    Example:
        >>> suffixes(lambda a, b: (a[0] + b[0],), (torch.arange(4),))
        (tensor([6, 6, 5, 3]),)
    """
    flipped = prefixes(lambda a, b: combine(b, a), tuple(e.flip(0) for e in elements))
    return tuple(e.flip(0) for e in flipped)


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    both = torch.stack([even[: len(odd)], odd], 1).flatten(0, 1)
    return both if len(even) == len(odd) else torch.cat([both, even[-1:]])
