"""Nets as models: every module call a deterministic CPD, every random draw a latent variable."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.distributions import Distribution

from daguerre.declare import Input
from daguerre.devices import device_of, on_device_of
from daguerre.draw.notation import Figure, figure
from daguerre.draw.repeats import folded
from daguerre.graph import GraphError
from daguerre.joint import as_joint
from daguerre.locate import located
from daguerre.model import Model
from daguerre.nets.plan import Block, Plan, plan
from daguerre.nets.recording import HeldBy, Layout, Op, Recording, Result, Scene, run
from daguerre.program import Outcome, Step, realise

__all__ = ["Imported", "Run"]


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
        is_layer = type(net).__module__.startswith("torch.nn.")
        self.plan: Plan = plan(recording, depth, is_layer=is_layer)
        self.graph = self.plan.graph
        for name, constant in recording.constants.items():
            self.register_buffer(name, constant, persistent=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """How the net was read."""
        recording = self.recording
        if not recording.is_bounded:
            return recording.notes
        return (*recording.notes, f"for batches of {recording.rows} rows")

    @property
    def outputs(self) -> Any:
        """What the net returns, with the names of variables in place of its tensors."""
        names = self.plan.names

        def name(leaf: Any) -> Any:
            return names[leaf.number] if isinstance(leaf, Result) else leaf

        return pytree.tree_map(name, self.recording.outputs)

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

    def figure(self) -> Figure:
        """Return what `dg.draw` draws: equal blocks in a row once, with a count.

        The graph, `dg.draw(model.graph)`, shows each.
        """
        modules = dict(self.net.named_modules())
        called = {
            ".".join(parts[: k + 1])
            for parts in (name.split(".") for name in self.graph.names)
            for k in range(len(parts))
        }
        at = {name: re.sub("@[0-9]+", "", name) for name in called}
        kinds = {name: repr(modules[path]) for name, path in at.items() if path in modules}
        return folded(figure(self.graph, kinds=kinds))

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
        known = {**dict(zip(wanted, tensors, strict=True)), **draws}
        batched = [i for i in wanted if self._layout(i).dim is not None]
        n = known[batched[0]].shape[self._layout(batched[0]).dim or 0] if batched else 1
        given = {names[i]: self._layout(i).rows(x, n) for i, x in known.items() if i in names}
        found = self._draw(n, given)
        results = {i: self._layout(i).value(found[name]) for i, name in names.items()}
        scene = Scene(results, self.held(), n, torch.get_default_device())
        return pytree.tree_map(scene.resolve, self.recording.outputs)

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
        if parents and not self.recording.fits(n):
            raise GraphError(
                f"this net was read for batches of {self.recording.rows} rows, and {n} came; read"
                " it with an example of that size"
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
