"""From a model to a function of tensors that torch has traced."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from daguerre.devices import device_of, on_device_of
from daguerre.export.asked import plan_export
from daguerre.export.exported import Exported, largest_gap
from daguerre.export.function import Function
from daguerre.graph import GraphError
from daguerre.joint import Factor, Joint, as_joint
from daguerre.model import Model
from daguerre.modes import mode
from daguerre.program import Values, validation
from daguerre.queries import declared_sizes
from daguerre.shapes import Shape

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["export"]

ROWS = 7  # of an example; torch takes 0 and 1 for special sizes


def export(
    model: Factor | Joint,
    outputs: str | Iterable[str],
    *,
    given: Iterable[str] | None = None,
    example: Mapping[str, Tensor] | None = None,
) -> Exported:
    r"""Export what a model computes as a deterministic function of tensors, for any batch size.

    A name among the outputs stands for the CPD of the variable:

    | output | is |
    |---|---|
    | `"x"` | the value of a deterministic variable; the parameters of a random one, `x.loc` ... |
    | `"x.mean"` | a moment or parameter: `mean`, `mode`, `stddev`, `variance`, `logits`, ... |
    | `"x.draw"` | a draw, $x = g(\mathrm{pa}(x), \epsilon)$, whose noise is the input `x_noise` |
    | `"sample"` | all variables, random ones drawn, as of `model.sample` |
    | `"log_prob"` | the joint log-density of what is given, in nats, `[n]` |

    The model is run forwards, in evaluation mode, with the weights that it has now. The export is
    run beside it on 1, 2 and 7 rows, and refused where it differs.

    Args:
        model: A model, such as a decoder, generator or encoder, or a product or marginal.
        outputs: What is asked for.
        given: The variables whose values are inputs; by default the inputs and random variables
            that the outputs need.
        example: Values `[rows, *plates, *event]` of what is given, to trace and check with; by
            default draws. Inputs whose declaration does not tell their shape need one; sizes of
            plates are those of the example.

    Returns:
        A function: `exported(z=z)` gives `{name: Tensor[n, ...]}`; `save("decoder.pt2")` or
        `save("decoder.onnx")` writes it.

    Raises:
        GraphError: An unknown name; a CPD that goes other ways for other values or batch sizes,
            draws by itself, or changes a buffer: which, file and line.
        InadmissibleError: A random variable is needed and not given; a question that takes a
            posterior.
        NotImplementedError: Draws of a family that are no function of noise here.
        ValueError: The export computes something else than the model.

    References:
        https://docs.pytorch.org/docs/stable/export.html

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=dg.StandardNormal(2), x=lambda z: Normal(3 * z, 1.0))
        >>> decoder = dg.export(p, "x.mean")
        >>> decoder(z=torch.ones(4, 2))["x.mean"].shape
        torch.Size([4, 2])
        >>> decoder
        Composed  name    shape   dtype
        input     z       [n, 2]  float32
        output    x.mean  [n, 2]  float32
        equal to the model up to 0
    """
    joint, words = as_joint(model), [outputs] if isinstance(outputs, str) else [*outputs]
    names = [given] if isinstance(given, str) else given
    plan = plan_export(joint.graph, joint.names, words, names)
    function = Function(joint, plan)
    with _at_rest(joint):
        values = _example(function, example or {})
        expected = function.run(values)
        for rows in (1, 2):  # what fails on other batches is found where its place is known
            function.run(_first(values, rows))
        program = _traced(function, values)
        module = program.module()
        parts = [_first(values, rows) for rows in (1, 2, ROWS)]
        gap = max(largest_gap(function.run(p), module(**p), "the export") for p in parts)
    name = " * ".join(type(factor).__name__ for factor in joint.factors)
    return Exported(name, _shapes(values), _shapes(expected), program, gap, values)


@contextmanager
def _at_rest(joint: Joint) -> Iterator[None]:
    """Run as one runs a model that is done: no gradients, no dropout, own random numbers."""
    device = device_of(joint.modules)
    cuda = [device] if device is not None and device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(mode(joint.modules, training=False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(validation(enabled=False))
        stack.enter_context(on_device_of(joint.modules))
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        torch.manual_seed(0)
        yield


def _first(values: Values, rows: int) -> dict[str, Tensor]:
    return {name: value[:rows] for name, value in values.items()}


def _shapes(values: Values) -> dict[str, Shape]:
    return {name: Shape(tuple(value.shape[1:]), value.dtype) for name, value in values.items()}


# The example


def _example(function: Function, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return values of all inputs: those that are told, the others drawn."""
    joint, plan = function.joint, function.plan
    known = {joint.graph[name].name: _repeated(name, value) for name, value in example.items()}
    if missing := [name for name in plan.given if name not in known]:
        known |= _drawn(joint, known, missing)
    known = {name: known[name].detach() for name in plan.given}
    return {**known, **function.noise(known, ROWS)}


def _repeated(name: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.dim() == 0 or len(value) == 0:
        raise GraphError(f"the example of {name} is a Tensor of one row or more, not {value!r}")
    return value[torch.arange(ROWS, device=value.device) % len(value)]


def _drawn(joint: Joint, known: Values, missing: list[str]) -> dict[str, Tensor]:
    """Draw what is missing from the model itself, by inputs that are drawn at random."""
    inputs = {name: known[name] for name in joint.given if name in known}
    inputs |= {name: _input(joint, name) for name in joint.given if name not in known}
    try:
        drawn = Joint(joint.factors, joint.graph.names).sample(ROWS, inputs)
    except GraphError as error:
        told = f"example={{{missing[0]!r}: ...}}"
        raise GraphError(f"{error}; to export without draws, give {told}") from error
    return {name: drawn[name] for name in missing}


def _input(joint: Joint, name: str) -> Tensor:
    models = [factor for factor in joint.factors if isinstance(factor, Model)]
    declared = next((m.inputs()[name] for m in models if name in m.inputs()), None)
    sizes = declared_sizes(joint.graph)
    plates = joint.program.by_name[name].plates
    if declared is None or declared.shape is None or not {*plates} <= {*sizes}:
        raise GraphError(
            f"the shape of {name} is not known: declare it, {name} = dg.Input(64), or give"
            f" example={{{name!r}: ...}}"
        )
    shape = (ROWS, *(sizes[plate] for plate in plates), *declared.shape)
    if declared.dtype.is_floating_point:
        return torch.randn(shape, dtype=declared.dtype)
    return torch.zeros(shape, dtype=declared.dtype)


# The trace


def _traced(function: Function, values: Values) -> ExportedProgram:
    """Have torch trace a function for any number of rows."""
    batch = torch.export.Dim("n", min=1)
    try:
        with _quiet():
            program = torch.export.export(
                function,
                (),
                dict(values),
                dynamic_shapes={name: {0: batch} for name in values},
                strict=False,
            )
    except torch._dynamo.exc.UserError as error:  # type: ignore[attr-defined]
        words = [line.strip(" -") for line in str(error).splitlines() if line.startswith("  - ")]
        raise GraphError(
            f"{function.plan} cannot be exported for any batch size:"
            f" {(words or str(error).splitlines())[0]}; CPDs may not look at the number of rows"
        ) from error
    _keep_own(program)
    return program


def _keep_own(program: ExportedProgram) -> None:
    """Leave out weights that nothing uses, copy the others, and forget the example."""
    from torch.export.graph_signature import InputKind

    graph = program.graph_module.graph
    graph.eliminate_dead_code()
    specs = program.graph_signature.input_specs
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    kept = []
    for node, spec in zip(inputs, specs, strict=True):
        if spec.kind is InputKind.USER_INPUT or node.users:
            kept.append(spec)
        else:
            graph.erase_node(node)
            program.state_dict.pop(spec.target or "", None)
    specs[:] = kept
    program.graph_module.recompile()
    for name, tensor in program.state_dict.items():
        copy = tensor.detach().clone()
        is_parameter = isinstance(tensor, nn.Parameter)
        program.state_dict[name] = (
            nn.Parameter(copy, requires_grad=False) if is_parameter else copy
        )
    program.example_inputs = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from printing what is going to be raised with a better message."""
    names = ("_subclasses.fake_tensor", "export", "fx.experimental.symbolic_shapes")
    loggers = [logging.getLogger(f"torch.{name}") for name in names]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was
