"""Nets as models: every module call a deterministic CPD, every random draw a latent variable."""

from __future__ import annotations

import inspect
import traceback
from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.distributions import Distribution

from daguerre.devices import device_of, on_device_of
from daguerre.graph import GraphError
from daguerre.joint import as_joint
from daguerre.locate import located
from daguerre.model import Input, Model
from daguerre.nets.generalise import generalised
from daguerre.nets.ladder import RUNGS, Rung, batch_size, example_inputs
from daguerre.nets.plan import Block, Plan, plan
from daguerre.nets.reading import record
from daguerre.nets.recording import HeldBy, Layout, Op, Recording, Result, Scene, run
from daguerre.nets.verify import verify
from daguerre.program import Outcome, Step, realise

__all__ = ["Imported", "from_module"]


_NOT_THE_NETS = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))


class Imported(Model):
    """A net read as a directed graphical model.

    Attributes:
        net: The net itself; its parameters are the model's.
        recording: What the net did when it was read.
        plan: Which of that became variables, and what computes each.
        notes: How the net was read, and what that cannot see.
        outputs: What the net returns, with names of variables in place of tensors.
    """

    def __init__(self, net: nn.Module, recording: Recording, depth: int | None) -> None:
        super().__init__()
        self.net, self.recording, self.depth = net, recording, depth
        self.plan: Plan = plan(recording, depth)
        self.graph = self.plan.graph
        for name, constant in recording.constants.items():
            self.register_buffer(name, constant, persistent=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """How the net was read."""
        recording = self.recording
        if recording.batch is None:
            return recording.notes
        return (*recording.notes, f"for batches of {recording.batch} rows only, as in the example")

    @property
    def outputs(self) -> Any:
        """What the net returns, with the names of variables in place of its tensors."""
        names = self.plan.names
        return pytree.tree_map(
            lambda leaf: names[leaf.number] if isinstance(leaf, Result) else leaf,
            self.recording.outputs,
        )

    def held(self) -> HeldBy:
        """Return what the net holds, by the names in its recording."""
        constants = {name: self._buffers[name] for name in self.recording.constants}
        return HeldBy(self.net, constants)  # type: ignore[arg-type] - none of them is None

    def inputs(self) -> dict[str, Input]:
        """Return the inputs, with the event shapes of the example."""
        found = {}
        for op in self.recording.ops:
            if op.role == "input" and op.layout is not None:
                found[op.label] = Input(*op.layout.event, dtype=op.layout.dtype)
        return found

    def steps(self) -> tuple[Step, ...]:
        """Return one step per variable."""
        ops = self.recording.ops

        def step(name: str) -> Step:
            variable = self.graph[name]
            if name not in self.plan.blocks:
                return Step(variable, None, "input")
            block = self.plan.blocks[name]
            return Step(variable, MethodType(Run(self.recording, block), self), _at(ops, block))

        return tuple(step(name) for name in self.graph.names)

    def forward(self, *inputs: Any) -> Any:
        """Call the model as the net is called, and return what the net returns.

        Raises:
            GraphError: Another number of tensors than in the example.
        """
        return self.replay(inputs, {})

    def replay(self, inputs: tuple[Any, ...], draws: Mapping[int, Tensor]) -> Any:
        """Do as `forward` does with the draws of some random operations given.

        Args:
            inputs: What the net is called with.
            draws: Per operation of the recording, its draw in the shape that the net uses.
        """
        ops, names = self.recording.ops, self.plan.names
        wanted = [i for i, op in enumerate(ops) if op.role == "input"]
        tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)]
        if len(tensors) != len(wanted):
            expected = ", ".join(ops[i].label for i in wanted)
            raise GraphError(f"expected the tensors {expected}; {len(tensors)} came")
        values = {**dict(zip(wanted, tensors, strict=True)), **draws}
        batched = [i for i in wanted if self._layout(i).dim is not None]
        n = values[batched[0]].shape[self._layout(batched[0]).dim or 0] if batched else 1
        given = {names[i]: self._layout(i).rows(x, n) for i, x in values.items() if i in names}
        found = self._draw(n, given)

        def value(leaf: Any) -> Any:
            if not isinstance(leaf, Result):
                return leaf
            return self._layout(leaf.number).value(found[names[leaf.number]])

        return pytree.tree_map(value, self.recording.outputs)

    def _draw(self, n: int, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run every step as the net does: with gradients, through draws where they carry them."""
        with located(), on_device_of([self]):
            for step in as_joint(self).program.steps:
                if step.name not in values:
                    outcome = step.outcome(values)
                    pathwise = isinstance(outcome, Distribution) and outcome.has_rsample
                    values[step.name] = realise(step, outcome, values, n, pathwise=pathwise)
        return values

    def _layout(self, number: int) -> Layout:
        layout = self.recording.ops[number].layout
        assert layout is not None  # what has a name is a tensor
        return layout

    def weights(self, name: str) -> dict[str, str]:
        """Return the tensors of the net that a variable uses, and the first name of each."""
        first: dict[int, str] = {}
        tensors = (
            *self.net.named_parameters(remove_duplicate=False),
            *self.net.named_buffers(remove_duplicate=False),
        )
        names = {alias: first.setdefault(id(t), alias) for alias, t in tensors}
        return {n: names[n] for n in self.plan.held(self.recording, name) if n in names}

    def value(
        self, name: str, weights: Mapping[str, Tensor], parents: Sequence[Tensor]
    ) -> Outcome:
        """Return what the CPD of a variable does, with other weights than the net's."""
        run = Run(self.recording, self.plan.blocks[name])
        return run.outcome(self, ChainMap(dict(weights), self.held()), parents)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        """Return the graph and how it was read."""
        return "\n".join((f"{len(self.graph.names)} variables", *self.notes))

    def __reduce__(self) -> tuple[Any, ...]:
        return Imported, (self.net, self.recording, self.depth)


class Run:
    """The CPD of a variable: runs its block on values of the variables above."""

    def __init__(self, recording: Recording, block: Block) -> None:
        self.recording, self.block = recording, block

    def __call__(self, model: Imported, *parents: Tensor) -> Outcome:
        """Return the value carried batch first, or the distribution of a noise variable."""
        return self.outcome(model, model.held(), parents)

    def outcome(
        self, model: Imported, held: Mapping[str, Tensor], parents: Sequence[Tensor]
    ) -> Outcome:
        """Do so with other tensors than those that the net holds."""
        ops, block = self.recording.ops, self.block
        n = parents[0].shape[0] if parents else 1
        if parents and self.recording.batch not in (None, n):
            raise GraphError(
                f"this net was recorded for batches of {self.recording.batch} rows, and {n} came;"
                " import it with an example of that size"
            )
        values = {
            s: ops[s].layout.value(rows)  # type: ignore[union-attr] - variables are tensors
            for s, rows in zip(block.sources, parents, strict=True)
        }
        device = next((v.device for v in values.values()), None) or device_of([model])
        scene = Scene(values, held, n, device or torch.get_default_device())
        run(ops, block.inner, scene)
        outcome, layout = scene.results[block.result], ops[block.result].layout
        if not isinstance(outcome, Tensor) or not parents:
            return outcome
        assert layout is not None
        return layout.rows(outcome, n)


def _at(ops: Sequence[Op], block: Block) -> str:
    return ops[block.result].place


def from_module(net: nn.Module, *example: Any, depth: int | None = None) -> Imported:
    r"""Read a net into a directed graphical model with deterministic CPDs.

    Each module call and each operation outside of one becomes a variable,
    $p(h \mid \mathrm{pa}(h)) = \delta(h - f(\mathrm{pa}(h)))$; random operations become latent
    variables (dropout in training mode, `randn_like`, sampling); tensors the net is called with
    become inputs. Names follow the modules (`layer1.0.conv1`), the second call of a shared module
    is `fc@1`. Edges that carry a shape alone are left out. The net is read in the mode and under
    the gradient mode that it is in, is not changed, and shares its parameters with the model.

    It is read by `torch.export`, else by draft export, else by watching it run; `notes` says by
    which and what that cannot see. Where the path depends on the data, the path of the example is
    read and each run checks that it is the right one.

    Args:
        net: Any `nn.Module`.
        example: What it is called with. The first dimension of its tensors is the batch.
        depth: How many levels of modules to look into; by default all.

    Returns:
        A Model: `model.sample(given={"x": x})` gives every variable, `model(x)` what `net(x)`
        returns, equal to the bit.

    Raises:
        GraphError: The net cannot be read, couples the rows of a batch (BatchNorm in training
            mode), draws from an unknown distribution, or does not give the same output again.
        TypeError: `net` is no module, or the example has no tensor.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> model = from_module(net, torch.randn(5, 3))
        >>> model.graph
        Graph(input; input => 0; 0 => 1; 1 => 2)
        >>> x = torch.randn(7, 3)
        >>> torch.equal(model(x), net(x))
        True
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"from_module takes an nn.Module, not {net!r}")
    if depth is not None and depth < 1:
        raise ValueError(f"depth counts levels of modules from 1, not {depth}")
    _refuse_coupling(net)
    names = _input_names(net, example)
    reasons: dict[str, list[str]] = {}
    for rung in RUNGS:
        try:
            model = Imported(net, _recorded(net, example, names, rung), depth)
            verify(model, net, example)
        except Exception as error:  # noqa: BLE001 - whatever a user's net raises is a reason
            reasons.setdefault(_reason(error), []).append(rung.name)
        else:
            return model
    why = "".join(f"\n  {', '.join(rungs)}: {reason}" for reason, rungs in reasons.items())
    raise GraphError(f"{type(net).__name__} cannot be read:{why}")


def _refuse_coupling(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise GraphError(
                f"{name or 'the net'} is a {type(module).__name__} in training mode, in which the"
                " rows of a batch depend on each other, so there is no graph of one row; call"
                " net.eval() first"
            )


def _reason(error: Exception) -> str:
    """Return what an error says and which line of the net's own code it comes from."""
    line, *_ = str(error).strip().splitlines() or [type(error).__name__]
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(_NOT_THE_NETS)]
    at = f" ({own[-1].filename}:{own[-1].lineno}: {own[-1].line})" if own else ""
    return f"{line}{at}"


def _input_names(net: nn.Module, example: tuple[Any, ...]) -> tuple[str, ...]:
    """Name each tensor of the example after the parameter it is passed as."""
    if not example_inputs(example):
        raise TypeError(
            f"from_module needs what {type(net).__name__} is called with: from_module(net, x)"
        )
    parameters = list(inspect.signature(net.forward).parameters.values())
    names: list[str] = []
    for i, argument in enumerate(example):
        p = parameters[min(i, len(parameters) - 1)]
        name = f"{p.name}_{i}" if p.kind is p.VAR_POSITIONAL else p.name
        leaves, _ = pytree.tree_flatten_with_path(argument)
        found = [keys for keys, leaf in leaves if isinstance(leaf, Tensor)]
        names += [name + "".join(f".{_key(k)}" for k in keys) for keys in found]
    return tuple(names)


def _key(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))


def _recorded(
    net: nn.Module, example: tuple[Any, ...], names: tuple[str, ...], rung: Rung
) -> Recording:
    """Record the net for any number of rows, if need be from two numbers of them."""
    n = batch_size(example)
    if n == 1:  # which export would take for a size of its own
        example, n = _repeated(example, 1), 2
    recording = record(net, example, names, rung)
    if recording.batch is None:
        return recording
    try:
        twice = record(net, _repeated(example, n), names, rung)
    except Exception:  # noqa: BLE001 - then the net wants as many rows as the example has
        return recording
    return generalised(recording, twice, n) or recording


def _repeated(example: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    """Return the example with its n rows twice."""

    def twice(leaf: Any) -> Any:
        is_batch = isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == n
        return torch.cat([leaf, leaf]) if is_batch else leaf

    return pytree.tree_map(twice, example)
