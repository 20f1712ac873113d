"""The same numbers by fewer operations: each one costs microseconds, as often as there are slices.

Whoever traces a gradient finds what nobody would write: values detached from one another, slopes
of one, and products that are added up in an operation of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.fx import Graph, Node

__all__ = ["short", "shorten"]

Operation = tuple[Any, tuple[Any, ...], dict[str, Any]]

_aten = torch.ops.aten
_SHORT: dict[object, Callable[..., Any]] = {
    _aten.add.Tensor: torch.add,
    _aten.addcmul.default: torch.addcmul,
    _aten.addmm.default: torch.addmm,
    _aten.div.Tensor: torch.div,
    _aten.exp.default: torch.exp,
    _aten.mm.default: torch.mm,
    _aten.mul.Scalar: torch.mul,
    _aten.mul.Tensor: torch.mul,
    _aten.randn.default: torch.randn,
    _aten.sigmoid.default: torch.sigmoid,
    _aten.softplus.default: torch.nn.functional.softplus,
    _aten.sub.Tensor: torch.sub,
    _aten.tanh.default: torch.tanh,
}
_ADDING: dict[object, Callable[..., Any]] = {
    _aten.mm.default: _aten.addmm.default,
    _aten.mul.Tensor: _aten.addcmul.default,
}


def short(operation: Any) -> Any:
    """Return the same operation, but for what a call costs."""
    return _SHORT.get(operation, operation)


def shorten(graph: Graph) -> None:
    """Leave out what changes nothing; let what multiplies add, and scale, in the same operation.

    Args:
        graph: Operations of ATen, none of them in place.
    """
    for node in graph.nodes:
        if _is_same(node):
            node.replace_all_uses_with(node.args[0])
        elif (shorter := _added(node) or _scaled(node)) is not None:
            with graph.inserting_before(node):
                one = graph.call_function(*shorter)
            one.meta = node.meta
            node.replace_all_uses_with(one)
    graph.eliminate_dead_code()


def _is_same(node: Node) -> bool:
    """Whether a node gives what it takes."""
    if node.target in (_aten.mul.Scalar, _aten.mul.Tensor):
        value, factor = node.args
        return isinstance(factor, int | float) and factor == 1 and _kind(value) == _kind(node)
    return node.target is _aten.detach.default


def _added(node: Node) -> Operation | None:
    """Return what multiplies and adds, for the sum of a product that is used once."""
    own = _kind(node)
    if node.target is not _aten.add.Tensor or node.kwargs or not own[1].is_floating_point:
        return None
    for product, other in (node.args, node.args[::-1]):
        if not _is_only_for(product, node) or _kind(other) != own:
            continue
        operation = _ADDING.get(product.target)
        if operation is not None and {_kind(factor)[1:] for factor in product.args} == {own[1:]}:
            return operation, (other, *product.args), {}
    return None


def _scaled(node: Node) -> Operation | None:
    """Return what multiplies, adds and scales, for a sum with a product times a number."""
    if node.target not in (_aten.div.Tensor, _aten.mul.Tensor):
        return None
    total, factor = node.args
    if not _is_only_for(total, node) or total.target is not _aten.addmm.default or total.kwargs:
        return None
    if not isinstance(factor, int | float) or not 0 < abs(factor) < inf:
        return None
    rate = factor if node.target is _aten.mul.Tensor else 1 / factor
    return total.target, total.args, {"beta": rate, "alpha": rate}


def _is_only_for(one: Any, node: Node) -> TypeGuard[Node]:
    """Whether one value is computed for a node alone, of its shape and type."""
    return isinstance(one, Node) and [*one.users] == [node] and _kind(one) == _kind(node)


def _kind(node: Any) -> tuple[Any, ...]:
    """Return the shape and the type of what a node gives; nothing where that is no tensor.

    Sizes by their names: to compare them, where they are unknown, would be to assume something.
    """
    value = node.meta.get("val") if isinstance(node, Node) else None
    return ([*map(str, value.shape)], value.dtype) if isinstance(value, Tensor) else ()
