"""Ways to watch a net run, to be tried in order: export, draft export, the net run as it is.

Each gives the operations that ran, with the module calls they ran in. The first follows the net
for every batch size and fails on control flow that depends on the data; the other two follow the
path that the example takes, and record what must hold for it to be the right one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import Any, NamedTuple

import torch
import torch.fx.traceback as labels
import torch.utils._pytree as pytree
from torch import SymInt, Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, TensorArgument
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from daguerre.graph import GraphError
from daguerre.nets.examples import batch_size, map_rows
from daguerre.program import validation

__all__ = ["RUNGS", "SEED", "Rung", "Trace"]

_ENDLESS = 2**40  # torch's word for infinity is larger
SEED = 0  # of the run that is watched, so that it can be replayed


@dataclass(frozen=True)
class Trace:
    """What one rung of the ladder saw.

    Attributes:
        graph: Operations in order, as `torch.fx` nodes.
        inputs: The placeholder of each tensor that the net was called with.
        held: Placeholders and attributes that stand for a parameter or buffer, by name.
        constants: The others, tensors that the net holds under no name.
        structure: Where the outputs go in what the net returns.
        rows: The least and most rows it is good for, as far as torch can tell; None for any.
        notes: What was done, and what cannot be seen.
        replay: Whether values read out of tensors were fixed without a check of their own.
    """

    graph: fx.Graph
    inputs: tuple[str, ...]
    held: Mapping[str, str]
    constants: Mapping[str, Any]
    structure: pytree.TreeSpec
    rows: tuple[int, int | None]
    notes: tuple[str, ...] = ()
    replay: bool = False


class Rung(NamedTuple):
    """One way to watch a net run, and what it is called."""

    name: str
    watch: Callable[[nn.Module, tuple[Any, ...]], Trace]

    def __call__(self, net: nn.Module, example: Sequence[Any]) -> Trace:
        """Watch the net quietly, from a fixed seed, and leave torch as it was."""
        with _quiet(), validation(enabled=False), torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return self.watch(net, tuple(example))


def _exported(net: nn.Module, example: tuple[Any, ...]) -> Trace:
    program = torch.export.export(net, example, dynamic_shapes=_batched(example), strict=False)
    return _of_program(program, ("read by torch.export",))


def _drafted(net: nn.Module, example: tuple[Any, ...]) -> Trace:
    program = torch.export.draft_export(net, example, dynamic_shapes=_batched(example))
    note = (
        "read by torch.export.draft_export along the path that the example takes; values that"
        " the path depends on are checked at each run"
    )
    return _of_program(program, (note,))


def _batched(example: tuple[Any, ...]) -> Any:
    """Say which dimensions may grow: the first of every tensor that is as long as the first's."""
    grows = object()
    marked = map_rows(lambda _: grows, example, n=batch_size(example))
    first = {0: torch.export.Dim.AUTO}
    return pytree.tree_map(lambda leaf: first if leaf is grows else None, marked)


def _of_program(program: ExportedProgram, notes: tuple[str, ...]) -> Trace:
    if any(_mutates(node) for node in program.graph.nodes):
        program = program.run_decompositions({})
    specs = program.graph_signature.input_specs
    held = {
        s.arg.name: s.target
        for s in specs
        if s.kind in (InputKind.PARAMETER, InputKind.BUFFER) and s.target is not None
    }
    constants = {
        s.arg.name: program.constants[s.target]
        for s in specs
        if s.kind is InputKind.CONSTANT_TENSOR and s.target is not None
    }
    given = [s.arg for s in specs if s.kind is InputKind.USER_INPUT]
    inputs = tuple(arg.name for arg in given if isinstance(arg, TensorArgument))
    if program.graph_signature.buffers_to_mutate:
        changed = ", ".join(sorted(set(program.graph_signature.buffers_to_mutate.values())))
        raise GraphError(
            f"the net changes its own buffers while it runs ({changed}), so its rows and runs"
            " depend on each other; call net.eval() first"
        )
    modules = {
        node.target: getattr(program.graph_module, str(node.target))
        for node in program.graph.nodes
        if node.op == "get_attr"
    }
    structure = program.call_spec.out_spec
    assert structure is not None
    rows = _rows(program, inputs)
    return Trace(program.graph, inputs, held, {**constants, **modules}, structure, rows, notes)


def _rows(program: ExportedProgram, inputs: Sequence[str]) -> tuple[int, int | None]:
    """Return the least and most rows that the program is good for."""
    values = (n.meta.get("val") for n in program.graph.nodes if n.name in inputs)
    sizes = [v.shape[0] for v in values if isinstance(v, Tensor) and v.dim()]
    symbols = {s for n in sizes if isinstance(n, SymInt) for s in n.node.expr.free_symbols}
    ranges = [program.range_constraints[s] for s in symbols if s in program.range_constraints]
    if not symbols:
        fixed = next(iter(sizes), 1)
        return int(fixed), int(fixed)
    least = max((int(r.lower) for r in ranges), default=1)
    most = min((int(r.upper) for r in ranges if r.upper < _ENDLESS), default=None)
    return max(least, 1), most


def _watched(net: nn.Module, example: tuple[Any, ...], *, composite: bool = True) -> Trace:
    """Run the net as it is and note every operation that torch dispatches.

    With `composite=False` operations that torch makes of others come apart, which shows the
    dropout inside of an LSTM, and in-place operations are written as pure ones.
    """
    leaves, structure = pytree.tree_flatten(example)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    returned: list[pytree.TreeSpec] = []

    def flat(*tensors: Tensor) -> tuple[Any, ...]:
        full = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            full[place] = tensor
        outputs, out = pytree.tree_flatten(net(*pytree.tree_unflatten(full, structure)))
        returned.append(out)
        return tuple(outputs)

    tensors = [leaves[place] for place in places]
    pure = flat if composite else torch.func.functionalize(flat, remove="mutations")
    module = _dispatched(net, pure, tensors, composite=composite)
    if composite and any(map(_mutates, module.graph.nodes)):
        raise NotImplementedError("tensors are changed in place")
    _write_as_new(module.graph)
    names = {
        id(t): name
        for name, t in (*net.named_parameters(remove_duplicate=False), *net.named_buffers())
    }
    attributes = {
        str(n.target): getattr(module, str(n.target))
        for n in module.graph.nodes
        if n.op == "get_attr"
    }
    held = {key: names[id(t)] for key, t in attributes.items() if id(t) in names}
    constants = {key: t for key, t in attributes.items() if key not in held}
    inputs = tuple(n.name for n in module.graph.nodes if n.op == "placeholder")
    note = (
        "read by watching it run on the example; values that it read out of tensors are checked"
        " at each run, what it computed outside torch cannot be seen"
    )
    n = batch_size(example)
    return Trace(module.graph, inputs, held, constants, returned[-1], (n, n), (note,), replay=True)


def _dispatched(
    net: nn.Module, function: Callable[..., Any], tensors: Sequence[Tensor], *, composite: bool
) -> fx.GraphModule:
    from torch.fx.experimental.proxy_tensor import make_fx

    with labels.preserve_node_meta(), _module_calls(net):
        return make_fx(
            function,
            tracing_mode="real",
            pre_dispatch=composite,
            record_stack_traces=True,
            _error_on_data_dependent_ops=False,
        )(*tensors)


@contextmanager
def _module_calls(net: nn.Module) -> Iterator[None]:
    """Label what runs with the module calls that are open, as torch.export does."""
    paths = {id(module): path for path, module in net.named_modules()}
    calls: dict[str, int] = {}
    open_: list[tuple[str, tuple[str, str]]] = []

    def enter(module: nn.Module, _: Any) -> None:
        if id(module) in paths:
            path = paths[id(module)]
            calls[path] = count = calls.get(path, -1) + 1
            open_.append((f"{path}@{count}" if count else path, (path, type(module).__name__)))
            labels.current_meta["nn_module_stack"] = dict(open_)

    def leave(module: nn.Module, *_: Any) -> None:
        if id(module) in paths:
            open_.pop()
            labels.current_meta["nn_module_stack"] = dict(open_)

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mutates(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _write_as_new(graph: fx.Graph) -> None:
    """Turn what operations of torch change in place inside of themselves into new values."""
    for node in [n for n in graph.nodes if _mutates(n)]:
        changed, name = node.args[0], node.target.overloadpacket.__name__
        if any(_is_view(n) for n in (changed, *changed.users)):
            raise NotImplementedError(f"a part of a tensor is changed in place by {name}")
        changed.replace_all_uses_with(node, delete_user_cb=lambda user, at=node: user > at)
        pure = getattr(torch.ops.aten, name.removesuffix("_"))
        if torch.Tag.nondeterministic_seeded not in node.target.tags:
            node.target = getattr(pure, node.target._overloadname)


def _is_view(node: fx.Node) -> bool:
    returns = getattr(getattr(node.target, "_schema", None), "returns", ())
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from printing and logging at length, some into files, what a note will say."""
    log, off = logging.getLogger("torch.__trace"), logging.root.manager.disable
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(off)
        log.setLevel(level)


RUNGS = (
    Rung("torch.export", _exported),
    Rung("draft export", _drafted),
    Rung("watched", _watched),
    Rung("watched closely", partial(_watched, composite=False)),
)
