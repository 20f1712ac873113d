"""Whether the code of a slice gives what its CPDs give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from daguerre.program import Realise
from daguerre.recorded.in_place import Unfit
from daguerre.recorded.tape import Tape, slice_of

__all__ = ["check_slices"]

Run = Callable[[Tape], Sequence[Tensor]]

CLOSE, CLOSE_IN_SHORT = 1e-3, 3e-2  # of the largest number: what another order of sums may do


def check_slices(
    run: Run, tape: Tape, value_of: Realise, held: Sequence[Tensor], *, is_short: bool
) -> None:
    """Compare some slices, and their gradient, with those that CPDs give one by one.

    What looks at several rows at once, such as a batch norm, may have another gradient where the
    rows of slices are taken together.

    Args:
        run: Runs slices by the code of one.
        tape: A few slices.
        value_of: Makes rows of what a CPD gave.
        held: What the code takes that is the same for all rows.
        is_short: Whether some of it is computed in bfloat16.

    Raises:
        Unfit: They differ, or the code does not run.
    """
    wanted = [one for one in (*chain(*tape.before, *tape.known), *held) if one.requires_grad]
    close = CLOSE_IN_SHORT if is_short else CLOSE
    try:
        ours = _numbers(run, tape, wanted)
    except RuntimeError as error:
        raise Unfit(f"its code does not run: {error}") from error
    for value, right in zip(
        ours, _numbers(partial(_one_by_one, value_of), tape, wanted), strict=True
    ):
        if value is None and right is None:
            continue
        if value is None or right is None or not _is_close(value, right, close):
            raise Unfit("rows of several slices give other numbers together than one by one")


def _numbers(run: Run, tape: Tape, wanted: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return values, and a gradient of them; the generators are left where they are."""
    with torch.random.fork_rng({one.device for one in wanted if one.device.type == "cuda"}):
        values = run(tape)
    flows = [one for one in values if one.requires_grad]
    slopes = [torch.linspace(-1, 1, v.numel()).to(v).view_as(v) for v in flows]
    return [*values, *torch.autograd.grad(flows, wanted, slopes, allow_unused=True)]


def _one_by_one(value_of: Realise, tape: Tape) -> Sequence[Tensor]:
    """Run the slices of a recursion by its CPDs."""
    window = [[*slices] for slices in tape.before]
    known = [[one.split([*tape.counts]) for one in line] for line in tape.known]
    made = []
    for i, chosen in enumerate(tape.chosen):
        if chosen is not None:
            window = [[one.index_select(0, chosen) for one in line] for line in window]
        of_slice = [[one[i] for one in line] for line in known]
        made.append(slice_of(tape.lines, window, of_slice, tape.within, tape.copies, value_of))
        window = [[made[-1][line], *one[:-1]] for line, one in enumerate(window)]
    return [torch.cat(one) for one in zip(*made, strict=True)]


def _is_close(value: Tensor, right: Tensor, close: float) -> bool:
    largest = right.detach().abs().max().item() if right.numel() else 0.0
    return torch.allclose(value, right, rtol=0.0, atol=close * largest, equal_nan=True)
