"""Any nn.Module as a model: recorded by the first way that works, and checked to the bit."""

from __future__ import annotations

import inspect
import traceback
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from daguerre.graph import GraphError
from daguerre.nets.examples import batch_size, copied, map_rows, tensors_of
from daguerre.nets.generalise import generalised
from daguerre.nets.imported import Imported
from daguerre.nets.ladder import RUNGS, Rung
from daguerre.nets.reading import record
from daguerre.nets.recording import Recording
from daguerre.nets.verify import DiffersError, agrees_on_one_row, verify

__all__ = ["from_module"]

_NOT_THE_NETS = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))


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
    read and each run checks that it is the right one. Torch's fast path of Transformers, in eval
    mode without gradients, cannot be watched; the model gives the numbers of the ordinary path.

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
    net = getattr(net, "_orig_mod", net)  # what torch.compile has wrapped
    example = copied(example)
    _refuse(net, example)
    names = _input_names(net, example)
    reasons: dict[str, dict[str, None]] = {}
    # one row alone is taken for a size of its own, so two are tried before it
    examples = [_repeated(example, 1), example] if batch_size(example) == 1 else [example]
    for rows, rung in product(examples, RUNGS):
        try:
            return _read(net, rows, names, rung, depth)
        except Exception as error:  # noqa: BLE001 - whatever a user's net raises is a reason
            reasons.setdefault(_reason(error), {})[rung.name] = None
    why = "".join(f"\n  {', '.join(rungs)}: {reason}" for reason, rungs in reasons.items())
    raise GraphError(f"{type(net).__name__} cannot be read:{why}")


def _refuse(net: nn.Module, example: tuple[Any, ...]) -> None:
    """Refuse what no reading could be right for.

    Raises:
        TypeError: An example without tensors.
        GraphError: No rows, rows that depend on each other, parameters without a shape.
    """
    if not tensors_of(example):
        raise TypeError(
            f"from_module needs what {type(net).__name__} is called with: from_module(net, x)"
        )
    if batch_size(example) == 0:
        raise GraphError("the example has no rows; its first dimension is the batch")
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(tensor):
            raise GraphError(f"{name} is lazy and has no shape yet; call the net once first")
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
    own = [f for f in frames if not f.filename.startswith(("<", *_NOT_THE_NETS))]
    at = f" ({own[-1].filename}:{own[-1].lineno}: {own[-1].line})" if own else ""
    return f"{line}{at}"


def _input_names(net: nn.Module, example: tuple[Any, ...]) -> tuple[str, ...]:
    """Name each tensor of the example after the parameter it is passed as."""
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


def _read(
    net: nn.Module, example: tuple[Any, ...], names: tuple[str, ...], rung: Rung, depth: int | None
) -> Imported:
    """Read the net by one rung, and see that the model does what the net does.

    Raises:
        Exception: Whatever the net, or torch on watching it, raises.
    """
    recording, n = _recorded(net, example, names, rung), batch_size(example)
    model = Imported(net, recording, depth)
    try:
        verify(model, net, example)
    except DiffersError:
        if not recording.fits(n + 1):
            raise
        model = Imported(net, replace(recording, least=n, most=n), depth)
        verify(model, net, example)  # right for as many rows as in the example, if for no others
    if model.recording.least == 2 and model.recording.most != 2:
        # all that export says of any net: it takes one row for another case
        smaller = Imported(net, replace(recording, least=1), depth)
        return smaller if agrees_on_one_row(smaller, net, example) else model
    return model


def _recorded(
    net: nn.Module, example: tuple[Any, ...], names: tuple[str, ...], rung: Rung
) -> Recording:
    """Record the net for any number of rows, if need be from two numbers of them."""
    n = batch_size(example)
    recording = record(net, example, names, rung)
    if recording.most != n:
        return recording
    try:
        twice = record(net, _repeated(example, n), names, rung)
    except Exception:  # noqa: BLE001 - then the net wants as many rows as the example has
        return recording
    return generalised(recording, twice, n) or recording


def _repeated(example: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    """Return the example with its n rows twice."""
    return map_rows(lambda rows: torch.cat([rows, rows]), example, n=n)
