"""How a chain is scanned: step by step, in blocks, or as a tree; chosen by predicted time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2

import torch

from daguerre.graph import GraphError

__all__ = ["MOST_RETRIES", "Plan", "Work", "choose"]

MOST_RETRIES = 4  # of a pass, each of which looks one block further back


@dataclass(frozen=True, slots=True)
class Plan:
    """How `steps` transitions are scanned.

    The steps are split into blocks of equal length. All blocks advance together, one step after
    another, then the blocks are joined. One block is the ordinary recursion; as many blocks as
    steps, joined as a tree, is a parallel scan of logarithmic depth.

    Attributes:
        steps: The number of transitions.
        blocks: The number of blocks, lowered to how many are needed where they are of one width.
        tree: Whether the blocks are joined as a tree rather than one after another.

    Raises:
        GraphError: Fewer than one block.

    Example:
        >>> str(Plan(100, 10)), str(Plan(100)), Plan(100, 9).width
        ('blocked scan over 100 steps, 10 blocks', 'sequential scan over 100 steps', 12)
    """

    steps: int
    blocks: int = 1
    tree: bool = False

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.steps < 0:
            raise GraphError(
                f"a plan has 1 block or more and 0 steps or more, not {self.blocks} and"
                f" {self.steps}"
            )
        width = max(self.width, 1)
        object.__setattr__(self, "blocks", max(ceil(self.steps / width), 1))  # none is empty

    @property
    def width(self) -> int:
        """The number of steps in a block."""
        return ceil(self.steps / self.blocks)

    def __str__(self) -> str:
        if self.blocks == 1:
            return f"sequential scan over {self.steps} steps"
        kind = "parallel" if self.tree and self.blocks >= self.steps else "blocked"
        count = "" if kind == "parallel" else f", {self.blocks} blocks"
        return f"{kind} scan over {self.steps} steps{count}"


@dataclass(frozen=True, slots=True)
class Work:
    """What scanning costs per step and sequence.

    Attributes:
        vector: Floating-point operations that carry one state on by one step.
        matrix: The same for the summary of a block, which holds for every state before it.
        join: The same for two summaries.
        calls: How many calls of torch a step takes.
        burn: The steps that a guess of what enters a block takes; 0 for summaries instead.
    """

    vector: float
    matrix: float
    join: float
    calls: int
    burn: int = 0


@lru_cache(maxsize=256)
def choose(steps: int, batch: int, work: Work, device: torch.device) -> Plan:
    """Return the plan of least predicted time.

    Args:
        steps: The number of transitions.
        batch: The number of sequences.
        work: What a step costs.
        device: Where the tensors are.

    Example:
        >>> work = Work(vector=128, matrix=1024, join=1024, calls=2)
        >>> choose(200, 1000, work, torch.device("cpu")).blocks
        1
        >>> choose(100_000, 1, work, torch.device("cpu")).blocks > 50
        True
    """
    sizes = {1, steps, *(round(2 ** (i / 2)) for i in range(2 * int(log2(max(steps, 1))) + 1))}
    plans = [
        Plan(steps, n, tree=tree)
        for n in sorted(sizes)
        if 1 <= n <= steps
        for tree in ((False,) if n == 1 else (False, True))
    ]
    return min(plans, key=lambda plan: _seconds(plan, batch, work, device), default=Plan(steps))


def _seconds(plan: Plan, batch: int, work: Work, device: torch.device) -> float:
    """Predict the time of a forward and a backward pass."""
    is_cpu = device.type == "cpu"
    call, speed = (4e-6, 1e10 * torch.get_num_threads()) if is_cpu else (1e-5, 1e12)
    rows = plan.blocks * batch
    passes = plan.width * (2 * work.calls * call + 2 * rows * work.vector / speed)
    if plan.blocks == 1:
        return passes
    if work.burn and not plan.tree and work.burn <= MOST_RETRIES * plan.width:
        return passes * (1 + ceil(work.burn / plan.width))
    summaries = plan.width * (work.calls * call + rows * work.matrix / speed)
    if plan.tree:
        depth = 2 * log2(plan.blocks) + 1
        small = speed / 100 if is_cpu else speed  # batches of small matrices, one by one
        joins = 2 * (depth * 4 * work.calls * call + 2 * rows * work.join / small)
    else:
        joins = plan.blocks * (work.calls * call + 2 * batch * work.vector / speed)
    return passes + summaries + joins
