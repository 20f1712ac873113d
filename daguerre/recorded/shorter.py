"""The same numbers by fewer operations: each one costs microseconds, as often as there are slices.

Whoever traces a gradient finds what nobody would write: values detached from one another, slopes
of one, and products that are added up in an operation of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

__all__ = ["short", "shorten"]

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
_ADDING = {_aten.mm.default: _aten.addmm.default, _aten.mul.Tensor: _aten.addcmul.default}


def short(operation: Any) -> Any:
    """Return the same operation, but for what a call costs."""
    return _SHORT.get(operation, operation)


def shorten(graph: Graph) -> None:
    """Leave out what changes nothing, and add products to what they are added to.

    Args:
        graph: Operations of ATen, none of them in place.
    """
    for node in graph.nodes:
        if _is_same(node):
            node.replace_all_uses_with(node.args[0])
        elif node.target is _aten.add.Tensor and not node.kwargs:
            _add_product(graph, node)
    graph.eliminate_dead_code()


def _is_same(node: Node) -> bool:
    """Whether a node gives what it takes."""
    if node.target is _aten.mul.Scalar:
        value, factor = node.args
        return factor == 1 and _kind(value) == _kind(node)
    return node.target is _aten.detach.default


def _add_product(graph: Graph, total: Node) -> None:
    """Let a product that is used once be added by the operation that multiplies."""
    for product, other in (total.args, total.args[::-1]):
        if not isinstance(product, Node) or product.target not in _ADDING:
            continue
        of_one_type = {_kind(factor)[1:] for factor in product.args} == {_kind(other)[1:]}
        if of_one_type and len(product.users) == 1 and _kind(product) == _kind(other):
            with graph.inserting_before(total):
                both = graph.call_function(_ADDING[product.target], (other, *product.args))
            both.meta = total.meta
            total.replace_all_uses_with(both)
            return


def _kind(node: Any) -> tuple[Any, ...]:
    """Return the shape and the type of what a node gives; nothing where that is no tensor."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return (value.shape, value.dtype) if isinstance(value, Tensor) else ()
