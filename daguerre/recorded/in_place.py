"""What changes a tensor in place, written as what makes a new one."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Graph, Node

__all__ = ["Unfit", "out_of_place"]

Memory = tuple[Any, ...]

_PLAIN = {  # under another name
    torch.ops.aten.bernoulli_.float: torch.ops.aten.bernoulli.p,
    torch.ops.aten.normal_.default: torch.ops.aten.normal_functional.default,
}


class Unfit(Exception):  # noqa: N818 - not an error: the function is run as it is
    """Why a function cannot be parted."""


def out_of_place(graph: Graph) -> None:
    """Let nothing change in place, where what is changed was made by the graph.

    Raises:
        Unfit: Something else is changed, or seen through another tensor later.
    """
    memory: dict[Node, Memory] = {}
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if not _is_mutable(node):
            memory[node] = _memory(node, memory)
            continue
        changed, new = node.args[0], _functional(node.target)
        assert isinstance(changed, Node)
        if new is None or memory[changed][0].op != "call_function":
            raise Unfit(f"{node.target} changes a tensor in place")
        others = [other for other in memory if other is not changed]
        for other in others:
            if _overlap(memory[other], memory[changed]) and any(
                order[user] > order[node] and not _is_beside(user, memory, changed)
                for user in other.users
            ):
                raise Unfit(f"{node.target} changes a tensor that is seen through another")
        later = [user for user in changed.users if order[user] > order[node]]
        for user in later:
            user.replace_input_with(changed, node)
        node.target, memory[node] = new, (node,)


def _is_mutable(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _functional(target: Any) -> Any:
    """Return the same operation that makes a new tensor, if there is one."""
    if target in _PLAIN:
        return _PLAIN[target]
    packet = target.overloadpacket
    name = packet.__name__
    plain = getattr(torch.ops.aten, name.removesuffix("_"), None)
    overload = getattr(plain, target._overloadname, None) if name.endswith("_") else None
    return None if overload is None or overload._schema.is_mutable else overload


def _memory(node: Node, memory: dict[Node, Memory]) -> Memory:
    """Say which memory the value of a node is in: that of what it views, or a part of it."""
    if node.op != "call_function" or not node.all_input_nodes:
        return (node,)
    source = node.all_input_nodes[0]
    if node.target is operator.getitem:
        return (*memory[source], node.args[1])
    schema = getattr(node.target, "_schema", None)
    is_view = schema is not None and any(one.alias_info is not None for one in schema.returns)
    return memory[source] if is_view else (node,)


def _overlap(one: Memory, other: Memory) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))


def _is_beside(user: Node, memory: dict[Node, Memory], changed: Node) -> bool:
    """Whether what uses a whole only takes a part of it that does not change."""
    if user.target is not operator.getitem:
        return False
    whole = user.all_input_nodes[0]
    return not _overlap((*memory[whole], user.args[1]), memory[changed])
