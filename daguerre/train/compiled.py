"""An update as one compiled graph, and how to run it again without asking what cannot change."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from threading import Thread
from time import perf_counter
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from daguerre.graph import InadmissibleError
from daguerre.loading import collecting
from daguerre.program import validation

if TYPE_CHECKING:
    from torch._dynamo.types import GuardFilterEntry

__all__ = ["Compiled", "Replay", "can_compile", "tracing"]

Graph = Callable[..., Sequence[Tensor]]

LONG = 1.0  # seconds: what takes longer is compiled, not found, and leaves much behind


class tracing(validation):  # noqa: N801 - a context manager, called as a function
    """Let the compiler, whenever it compiles, see through `torch.autograd.grad`.

    Like torch's checks of distributions, which it would refuse, this is a switch of the process
    that is given back after each call. So is the look for garbage, which takes a tenth of the
    time until a step runs that has been compiled before; a new one is looked through.
    """

    def __init__(self) -> None:
        super().__init__(enabled=False)
        self._collecting = collecting(enabled=False)

    def __enter__(self) -> None:
        super().__enter__()
        _forget()
        config = torch._dynamo.config  # loaded by torch when it is first used
        self._before = config.trace_autograd_ops, config.run_gc_after_compile
        config.trace_autograd_ops, config.run_gc_after_compile = True, False
        self._collecting.__enter__()

    def __exit__(self, *error: object) -> None:
        self._collecting.__exit__(*error)
        config = torch._dynamo.config
        config.trace_autograd_ops, config.run_gc_after_compile = self._before
        super().__exit__(*error)


class Compiled:
    """A method that moves tensors in place and returns one, compiled without a break.

    To call it is to check first whether anything has changed that it was compiled for: numbers,
    flags and tensors of CPDs and critics, what these read from elsewhere, the batch, and torch's
    own state. On small nets these checks take a third of the time. `replay` is the same graph
    without them.

    Torch keeps what it compiles with the code object, and tells methods apart by guards. Ours look
    only at what can change within one step, so that each step needs a code object of its own.

    Args:
        method: A method `(n, given, moves) -> loss`.
        name: What it is called in profiles.
        device: Where its tensors are.
        alone: Whether it sends no messages to other processes.
    """

    def __init__(
        self, method: MethodType, name: str, device: torch.device, *, alone: bool = True
    ) -> None:
        shared = method.__func__
        assert isinstance(shared, FunctionType)
        own = FunctionType(shared.__code__.replace(), shared.__globals__, name)
        self._options, self._alone = _options(device, alone=alone), alone
        self._probe = _probe() if device.type == "cpu" else None
        self._inductor = _inductor()
        self._run: Callable[..., Tensor] = torch.compile(
            MethodType(own, method.__self__),
            backend=self._compile,
            fullgraph=True,
            dynamic=False,
            options={"guard_filter_fn": _changeable},
        )
        self._latest: tuple[Graph, Sequence[Any]] | None = None

    def __call__(self, n: int, given: Mapping[str, Tensor], moves: bool) -> Tensor:  # noqa: FBT001 - positional for the compiler's guards
        """Run it, after a look at what may have changed.

        Raises:
            InadmissibleError: Something has changed too often.
        """
        try:
            return self._run(n, given, moves)
        except torch._dynamo.exc.FailOnRecompileLimitHit:  # type: ignore[attr-defined]
            raise InadmissibleError(
                f"the step was compiled {torch._dynamo.config.recompile_limit} times, since shapes"
                " of batches, or numbers and flags of a CPD or critic, keep changing; hold what"
                " changes in a tensor, such as a buffer, or run it with compile=False"
            ) from None

    def replay(self, given: Mapping[str, Tensor], before: Replay | None) -> Replay | None:
        """Return the graph of the last call for batches like its own.

        Args:
            given: The batch of the last call.
            before: A replay that is returned where it would be the same.

        Returns:
            None where what the graph computes from the batch cannot be told.
        """
        if self._latest is None:
            return None
        graph, inputs = self._latest
        if len({id(value) for value in given.values()}) < len(given):
            return None  # one tensor under two names: the graph has one input for both
        slots = {
            i: name
            for name, value in given.items()
            for i, found in enumerate(inputs)
            if found is value
        }
        if before is not None and before.is_of(graph, inputs, slots):
            return before
        return Replay(graph, inputs, slots, records=self._alone)

    def _compile(
        self, module: torch.fx.GraphModule, examples: Sequence[Any], options: object = None
    ) -> Graph:
        """Compile one graph, and note what it is called with: torch's hook for backends."""
        del options  # those of the guards
        if self._probe is not None:
            self._probe.join()
        begin = perf_counter()
        with collecting(enabled=True):
            graph = self._compiled(module, examples)
        config = torch._dynamo.config
        config.run_gc_after_compile = perf_counter() - begin > LONG
        (output,) = (node for node in module.graph.nodes if node.op == "output")
        is_loss_alone = len(output.args[0]) == 1  # else an attribute is to be set to the others

        def noted(*inputs: Any) -> Sequence[Tensor]:
            self._latest = (graph, inputs) if is_loss_alone else None
            return graph(*inputs)

        return noted

    def _compiled(self, module: torch.fx.GraphModule, examples: Sequence[Any]) -> Graph:
        """Hand a graph to torch's compiler, if need be again.

        Where a double number is among the inputs, torch wants to trace once more, to make it a
        constant where it is read as one, and then loses what is written to it: the state of an
        optimiser, say. The graph at hand has all, and is taken the second time.
        """
        from torch._dynamo.exc import TensorifyScalarRestartAnalysis

        try:
            return self._inductor(module, examples, config_patches=self._options)
        except TensorifyScalarRestartAnalysis:
            return self._inductor(module, examples, config_patches=self._options)
        finally:
            _forget()


class Replay:
    """A compiled graph with all that it reads but the batch.

    On a GPU it may be recorded, after some calls, as a CUDA graph, which runs without the host.

    Args:
        graph: The compiled graph.
        inputs: What it was called with.
        slots: Which of these are the batch's, and their names.
        records: Whether it may be recorded.
    """

    WARM = 3  # calls before it is recorded, in which libraries find their algorithms

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Any],
        slots: Mapping[int, str],
        *,
        records: bool = True,
    ) -> None:
        self.graph, self.inputs, self.slots = graph, [*inputs], slots
        on_gpu = records and all(value.is_cuda for value in inputs if isinstance(value, Tensor))
        self._calls_left = self.WARM if on_gpu and inputs else -1
        self._recorded: torch.cuda.CUDAGraph | None = None
        self._loss = torch.empty(0)

    def is_of(self, graph: Graph, inputs: Sequence[Any], slots: Mapping[int, str]) -> bool:
        """Whether it would do the same as a new one."""
        if graph is not self.graph or slots != self.slots:
            return False
        pairs = enumerate(zip(inputs, self.inputs, strict=True))
        return all(a is b for i, (a, b) in pairs if i not in slots)

    def __call__(self, given: Mapping[str, Tensor]) -> Tensor:
        """Run it on a batch of the same shapes."""
        if self._recorded is not None:
            for i, name in self.slots.items():
                self.inputs[i].copy_(given[name], non_blocking=True)
            self._recorded.replay()
            return self._loss.clone()
        if self._calls_left == 0:
            self._record(given)
            return self(given)
        self._calls_left -= 1
        for i, name in self.slots.items():
            self.inputs[i] = given[name]
        return self.graph(*self.inputs)[0]

    def _record(self, given: Mapping[str, Tensor]) -> None:
        """Record it for the GPU; where it cannot be, it goes on as it is, and says so."""
        self._calls_left = -1
        for i, name in self.slots.items():
            self.inputs[i] = given[name].clone()
        recorded = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(recorded):
                (self._loss,) = self.graph(*self.inputs)
        except RuntimeError as error:
            warnings.warn(f"steps run without a CUDA graph: {error}", stacklevel=2)
        else:
            self._recorded = recorded


def _inductor() -> Callable[..., Any]:
    """Return torch's compiler, which uses what torch itself has deprecated when it is loaded."""
    with collecting(enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch._inductor.compile_fx import compile_fx
    return compile_fx


@cache
def _probe() -> Thread:
    """Begin to find out which vector instructions work here, which torch's compiler remembers.

    It loads a library for each kind in a process of its own: on a second core all are done by the
    time that the first step is traced.
    """
    with collecting(enabled=False):  # all that is needed there: one thread loads what is circular
        from torch._inductor import codecache, cpp_builder  # noqa: F401
        from torch._inductor.cpu_vec_isa import pick_vec_isa
        from torch.utils import cpp_extension  # noqa: F401

    thread = Thread(target=pick_vec_isa, daemon=True)
    thread.start()
    return thread


def _forget() -> None:
    """Forget which numbers torch meant to make constants when it traced before: see `Compiled`."""
    from torch._dynamo.symbolic_convert import TensorifyState

    TensorifyState.clear()


def _options(device: torch.device, *, alone: bool) -> dict[str, Any]:
    shared = {
        "fallback_random": True,  # torch's own generator: the numbers of the eager step
        "size_asserts": False,  # shapes were checked before data was seen
        "alignment_asserts": False,
    }
    wrapped = device.type == "cpu" and alone  # a third less overhead per call, but no messages
    return shared | {"cpp_wrapper": wrapped}


def _changeable(guards: Sequence[GuardFilterEntry]) -> list[bool]:
    """Leave out the guards that cannot fail: those on the parts of a step, and on library code.

    The objective, programs and optimiser of one step never change, and to look at all of their
    parts at each call takes a fifth of a small net's step. What users may change stays guarded:
    numbers, flags and tensors of their CPDs and critics, what these read from elsewhere, the
    batch, and torch's own state. Layers and hooks are those of the first call.
    """
    return [_may_change(guard) for guard in guards]


_STRUCTURE = {"CLASS_MATCH", "CLOSURE_MATCH", "EMPTY_NN_MODULE_HOOKS_DICT", "TYPE_MATCH"}
_OURS = ("__import_daguerre", "__import_torch", "__builtins", "___unnamed_scope", "G['Round']")


def _may_change(guard: GuardFilterEntry) -> bool:
    name = guard.name
    if name.startswith("self"):
        is_theirs = ".cpd" in name or ".critic" in name
        is_layer = type(guard.value).__module__.startswith("torch.nn")  # whose classes are torch's
        return (
            is_theirs
            and guard.guard_type not in _STRUCTURE
            and not (is_layer and guard.guard_type == "NOT_PRESENT_IN_GENERIC_DICT")
        )
    return "(type(self" not in name and not any(mark in name for mark in _OURS)


@cache
def can_compile(device: torch.device) -> bool:
    """Whether code can be compiled for a device; says so once where it cannot."""
    if device.type != "cpu":
        return True
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        warnings.warn("no C++ compiler was found: training steps run eagerly", stacklevel=2)
        return False
    return True
