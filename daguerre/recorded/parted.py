"""A function of rows and its gradient, traced once: three pieces of straight-line code.

The gradient of a recursion runs back slice by slice only as far as it flows into slices before.
Everything else, the gradients of weights above all, is one computation on the rows of all slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import getitem
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from daguerre.recorded.cells import written_out
from daguerre.recorded.in_place import Unfit, out_of_place
from daguerre.recorded.shorter import short, shorten

__all__ = ["Parted", "Piece"]

Code = Callable[..., Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Piece:
    """Straight-line code.

    Attributes:
        rows: What it takes that has rows.
        fixed: What it takes, after these, that is the same for all rows.
        sizes: What it takes last: numbers that follow from the number of rows.
        run: The code.
    """

    rows: tuple[Node, ...]
    fixed: tuple[Node, ...]
    sizes: tuple[Node, ...]
    run: Code

    @classmethod
    def of(cls, nodes: Iterable[Node], gives: Sequence[Node | None], fixed: set[Node]) -> Piece:
        """Write the code of some nodes, which are in order, that gives some, None for none."""
        graph, own = Graph(), dict.fromkeys(nodes)
        needed = [source for node in own for source in node.all_input_nodes]
        needed += [node for node in gives if node is not None]
        takes = [node for node in dict.fromkeys(needed) if node not in own]
        sizes = tuple(node for node in takes if _is_size(node))
        kept = tuple(node for node in takes if node in fixed and node not in sizes)
        rows = tuple(node for node in takes if node not in fixed and node not in sizes)
        found = {node: graph.placeholder(node.name) for node in (*rows, *kept, *sizes)}
        for node in own:
            found[node] = copy = graph.node_copy(node, found.__getitem__)
            copy.target = short(node.target)
        graph.output(tuple(None if node is None else found[node] for node in gives))
        return cls(rows, kept, sizes, GraphModule({}, graph).forward)


@dataclass(frozen=True, eq=False)
class Parted:
    """A function of rows, of what was made before and what is known, and its gradient.

    Attributes:
        before: Inputs whose gradient must be found before that of the slices before can be.
        known: Other inputs with rows.
        held: Inputs that are the same for all rows.
        outputs: What it returns, all with rows.
        slopes: The gradients by outputs that are given, None where an output has none.
        forwards: Code that gives the outputs, then `kept`.
        back: Code that gives the gradients by `before`, then `left`.
        rest: Code that gives those by `known`, then by `held`, from rows of one slice or more.
        kept: What is needed later of what the way forwards computes.
        left: What is needed later of what the way back computes.
    """

    before: tuple[Node, ...]
    known: tuple[Node, ...]
    held: tuple[Node, ...]
    outputs: tuple[Node, ...]
    slopes: tuple[Node | None, ...]
    forwards: Piece
    back: Piece
    rest: Piece
    kept: tuple[Node, ...]
    left: tuple[Node, ...]
    _hoisted: tuple[Node, ...]
    _constants: Mapping[Node, Tensor]
    _conditions: tuple[Any, ...]
    _checked: set[int] = field(default_factory=set)
    _sizes: dict[tuple[int, Node], int] = field(default_factory=dict)

    @classmethod
    def of(cls, module: GraphModule, before: Sequence[int], known: Sequence[int]) -> Parted:
        """Trace a function and its gradient, and part them.

        Args:
            module: The function, as the compiler found it, with the shapes of its inputs.
            before: The numbers of inputs that the slices before have made.
            known: Those of other inputs with rows.

        Raises:
            Unfit: It cannot be parted; says why.
        """
        joint = _Joint.of(written_out(module))
        made, given = [joint.inputs[i] for i in before], [joint.inputs[i] for i in known]
        held = [n for n in joint.inputs if n not in (*made, *given) and not _is_size(n)]
        hoisted = _hoisted(joint, held)
        fixed = {*hoisted, *held, *joint.constants}
        first = [joint.gradients.get(n) for n in made]
        later = [joint.gradients.get(n) for n in (*given, *held)]
        forth = joint.behind([*joint.outputs, *joint.random], fixed)
        back = joint.behind(first, fixed | forth)
        with_rows = {node for node in forth | back if _has_rows(node)}
        rest = joint.behind(later, fixed | with_rows)  # what has no rows is computed again
        _check(joint, rest)
        of_back, of_rest = _needed(back, first), _needed(rest, later)
        kept = [n for n in dict.fromkeys([*of_back, *of_rest]) if n in forth]
        kept = [n for n in kept if n not in joint.outputs]
        left = [n for n in dict.fromkeys(of_rest) if n in back]
        return cls(
            before=(*made,),
            known=(*given,),
            held=(*held,),
            outputs=(*joint.outputs,),
            slopes=(*joint.slopes,),
            forwards=Piece.of(joint.sorted(forth), [*joint.outputs, *kept], fixed),
            back=Piece.of(joint.sorted(back), [*first, *left], fixed),
            rest=Piece.of(joint.sorted(rest), later, fixed),
            kept=(*kept,),
            left=(*left,),
            _hoisted=(*hoisted,),
            _constants=joint.constants,
            _conditions=joint.conditions,
        )

    @property
    def pool(self) -> list[Node]:
        """All that the code of a slice may take that has rows, inputs first."""
        slopes = (slope for slope in self.slopes if slope is not None)
        return [*self.before, *self.known, *self.outputs, *self.kept, *slopes]

    @property
    def is_short(self) -> bool:
        """Whether some of it is computed in bfloat16."""
        rows = (node for piece in (self.forwards, self.back, self.rest) for node in piece.rows)
        values = map(_meta, (*rows, *self._hoisted))
        return any(isinstance(v, Tensor) and v.dtype == torch.bfloat16 for v in values)

    def fixed(self, held: Sequence[Tensor]) -> dict[Node, Any]:
        """Compute once what is the same for all rows."""
        found: dict[Node, Any] = {**self._constants, **dict(zip(self.held, held, strict=True))}
        for node in self._hoisted:
            args, kwargs = map_arg((node.args, node.kwargs), found.__getitem__)
            value = node.target(*args, **kwargs)  # type: ignore[operator]
            found[node] = value.contiguous() if isinstance(value, Tensor) else value
        return found

    def check(self, rows: int) -> None:
        """Check that what was traced holds for so many rows.

        Raises:
            Unfit: It took another way for so many.
        """
        if rows in self._checked:
            return
        for condition in self._conditions:
            if not condition.subs(dict.fromkeys(condition.free_symbols, rows)):
                raise Unfit(f"what is computed is another thing for {rows} rows")
        self._checked.add(rows)

    def sizes(self, rows: int, node: Node) -> int:
        """Return a number that follows from the number of rows."""
        key = (rows, node)
        if key not in self._sizes:
            self._sizes[key] = _number(rows, _meta(node))
        return self._sizes[key]


class _Joint(NamedTuple):
    """A function and its gradient, traced.

    Attributes:
        nodes: All that is computed, in order.
        inputs: What the function takes.
        outputs: What it returns.
        slopes: The gradient that is given for each output; None where it has none.
        gradients: Those that are found, by input.
        constants: Tensors that belong to it.
        conditions: What was found true, of the numbers of rows, where something asked.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    slopes: Sequence[Node | None]
    gradients: Mapping[Node, Node | None]
    constants: Mapping[Node, Tensor]
    conditions: tuple[Any, ...]

    @classmethod
    def of(cls, module: GraphModule) -> _Joint:
        """Trace a function that the compiler found, on tensors without contents.

        Raises:
            Unfit: It cannot be traced, or nothing that it gives has a gradient.
        """
        given = [node.meta["example_value"] for node in module.graph.find_nodes(op="placeholder")]
        try:
            traced, flows, count = _traced(module, given)
        except RuntimeError as error:
            raise Unfit(f"torch does not trace its gradient: {error}") from error
        out_of_place(traced.graph)
        shorten(traced.graph)
        inputs = traced.graph.find_nodes(op="placeholder")
        (end,) = traced.graph.find_nodes(op="output")
        (found,) = end.args
        outputs, gradients = found[:count], found[count:]
        wanted = [i for i, v in enumerate(given) if _learns(v)]
        return cls(
            tuple(node for node in traced.graph.nodes if node.op == "call_function"),
            (*inputs[: len(given)],),
            outputs,
            [inputs[len(given) + i] if i in flows else None for i in range(count)],
            dict(zip((inputs[i] for i in wanted), gradients, strict=True)),
            {n: getattr(traced, n.target) for n in traced.graph.find_nodes(op="get_attr")},
            tuple(guard.expr for guard in _mode(given).shape_env.guards),
        )

    @property
    def random(self) -> set[Node]:
        """What draws."""
        return {n for n in self.nodes if torch.Tag.nondeterministic_seeded in _tags(n)}

    def behind(self, ends: Iterable[Node | None], beyond: set[Node]) -> set[Node]:
        """Return what some nodes are computed by, and they, as far as it is not beyond."""
        found, waiting = set(), [node for node in ends if node is not None]
        while waiting:
            node = waiting.pop()
            if node.op == "call_function" and not _is_size(node) and node not in found | beyond:
                found.add(node)
                waiting += node.all_input_nodes
        parts = {user for node in found for user in node.users if user.target is getitem}
        return found | parts

    def sorted(self, nodes: set[Node]) -> list[Node]:
        """Put nodes in the order of the trace."""
        return [node for node in self.nodes if node in nodes]


def _traced(module: GraphModule, given: Sequence[Any]) -> tuple[GraphModule, list[int], int]:
    """Trace a function and its gradient, nothing in place.

    Returns:
        What takes the inputs and a gradient by each output, and gives the outputs and the
        gradients by the inputs that have one; which outputs have one; how many there are.
    """
    wanted = [i for i, v in enumerate(given) if _learns(v)]
    with torch.enable_grad(), _mode(given):
        outputs = module(*given)
        flows = [i for i, v in enumerate(outputs) if v.requires_grad]
        if not flows:
            raise Unfit("nothing that it gives has a gradient")
        slopes = [torch.empty_like(v) for v in outputs]

        def joint(inputs: list[Any], slopes: list[Tensor]) -> list[Any]:
            inputs = [*inputs]
            for i in wanted:
                inputs[i] = inputs[i].detach().requires_grad_()
            outputs = module(*inputs)
            ends, starts = [outputs[i] for i in flows], [inputs[i] for i in wanted]
            by = [slopes[i] for i in flows]
            return [*outputs, *torch.autograd.grad(ends, starts, by, allow_unused=True)]

        traced = make_fx(joint)(given, slopes)
    return traced, flows, len(slopes)


def _mode(given: Sequence[Any]) -> Any:
    """Return what makes tensors without contents like these."""
    (mode,) = {v.fake_mode for v in given if isinstance(v, Tensor)}  # type: ignore[attr-defined]
    return mode


def _learns(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _hoisted(joint: _Joint, held: Sequence[Node]) -> list[Node]:
    """Return what follows from inputs without rows, in order."""
    fixed = {*held, *joint.constants}
    for node in joint.nodes:
        sources = node.all_input_nodes
        if sources and fixed.issuperset(sources) and node not in joint.random:
            fixed.add(node)
    return [node for node in joint.nodes if node in fixed]


def _needed(nodes: set[Node], ends: Sequence[Node | None]) -> list[Node]:
    """Return what some nodes take that they do not compute."""
    taken = [source for node in nodes for source in node.all_input_nodes]
    taken += [node for node in ends if node is not None]
    return [node for node in taken if node not in nodes]


def _is_size(node: Node) -> bool:
    return isinstance(_meta(node), int | torch.SymInt)


def _meta(node: Node) -> Any:
    return node.meta.get("val")


def _tags(node: Node) -> Sequence[torch.Tag]:
    return getattr(node.target, "tags", ())


def _number(rows: int, size: int | torch.SymInt) -> int:
    """Return a size, given the number of rows: they are all that was left open."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, rows)))


def _has_rows(node: Node) -> bool:
    """Whether a value consists of so many numbers for each row, in their order."""
    value = _meta(node)
    first, *others = [*value.shape] if isinstance(value, Tensor) and value.dim() else [0]
    fits = isinstance(first, torch.SymInt) and _number(2, first) == 2 * _number(1, first) > 0
    return fits and not any(isinstance(size, torch.SymInt) for size in others)


def _check(joint: _Joint, rest: set[Node]) -> None:
    """Refuse what slices cannot be made of.

    Raises:
        Unfit: Says what it is.
    """
    for node in (*joint.inputs, *joint.nodes):
        if not isinstance(_meta(node), Tensor | int | torch.SymInt | tuple | list):
            raise Unfit(f"{node.name} is a {type(_meta(node)).__name__}, no tensor")
    for node in joint.outputs:
        if not _has_rows(node):
            raise Unfit(f"{node.name} of shape {[*_meta(node).shape]} has no value for each row")
    if drawn := rest & joint.random:
        raise Unfit(f"{', '.join(node.name for node in drawn)} would be drawn twice")
