"""One player's training step: loss, gradients and update as one function, compiled or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MethodType
from typing import final

import torch
from torch import Tensor

from daguerre.devices import on_device
from daguerre.graph import InadmissibleError
from daguerre.locate import located
from daguerre.objectives.objective import Batch, Objective, Player, Round, as_objective
from daguerre.objectives.schedules import at_step
from daguerre.peers import ALONE, Peers
from daguerre.precision import check_precision, mixed_precision
from daguerre.program import validation
from daguerre.recorded import Recorder, recording
from daguerre.train.average import Average, Gathered
from daguerre.train.compiled import Compiled, Replay, can_compile, tracing
from daguerre.train.exchange import Exchange
from daguerre.train.optimizers import State
from daguerre.train.shards import Shards
from daguerre.train.turns import Moves, as_turn

__all__ = ["Step"]


@final
class Step:
    """A training step of one player, to be called with batches.

    It computes the player's loss, its gradient by the player's parameters alone, and moves them.
    Compiled, all three are one graph without a break. A loss or gradient that is not finite moves
    nothing: from then on the parameters stay as they are and the loss returned is NaN.

    Args:
        objective: The game.
        player: Who moves; the only player by default.
        optimizer: How: a rule such as `dg.Adam()`, or a `dg.train.Turn`, whose accumulation,
            clipping and average are part of the step. To accumulate k batches, call it k times.
        compile: Whether to compile, by default where the objective allows it and nothing is run
            slice by slice over time; without a C++ compiler the step says so and runs eagerly.
            What is run slice by slice is then recorded: one slice is traced, and the others run
            as its code; `recorder.refused` says where that cannot be. With False all are run by
            their CPDs.
        precision: `torch.bfloat16` to let CPDs and critics compute in it; see
            `dg.train.mixed_precision`.
        exchange: With the processes that hold the other rows of the batch.

    Raises:
        InadmissibleError: The step is to be compiled, but the objective cannot be; says why.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(x=dg.rv(lambda h: Normal(h[:, 0], 1.0)), h=dg.Input(1))
        >>> p = dg.replace(p, h=dg.deterministic(lambda net: net.bias, net=torch.nn.Linear(1, 1)))
        >>> step = Step(dg.nll(p, observed=["x"]), compile=False)
        >>> x = torch.full([4], 3.0)
        >>> bool(step(x) > step(x))
        True
    """

    def __init__(
        self,
        objective: Objective,
        player: str | None = None,
        *,
        optimizer: Moves | None = None,
        compile: bool | None = None,  # noqa: A002 - torch's word for it
        precision: torch.dtype | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        self.objective = as_objective(objective)
        compiles = _compiles(objective, asked=compile)
        self.player = _player(objective, player)
        self.turn = as_turn(optimizer)
        self.parameters = self.player.parameters()
        if not self.parameters:
            raise ValueError(f"player {self.player.name!r} has no trainable parameters")
        self._exchange = exchange or Exchange()
        records = compile is None and objective.recurs and not self._exchange.shard
        self.recorder = Recorder() if records else None
        splits = self._exchange.weights.splits
        self.shards = Shards(
            [splits.get(p, p) for p in self.parameters],
            self._exchange.peers if self._exchange.shard else ALONE,
        )
        self.state = self.turn.optimizer.start(self.shards.own)
        device = self.shards.own[0].device
        self.compiled = compiles and can_compile(device)
        self.made = torch.zeros((), dtype=torch.long, device=device)  # updates until now
        self.sound = torch.ones((), dtype=torch.bool, device=device)  # all was finite until now
        self.average = Average.of(self.player, self.turn.average)
        self._gathered = Gathered(self.shards.own, self.turn.accumulate)
        check_precision(precision)
        self.precision, self._device = precision, device
        self._seen: dict[object, int] = {}
        self._home = on_device(device)
        self._replays: dict[object, Replay] = {}
        self._run = self._update
        if self.compiled:
            update = self._update
            assert isinstance(update, MethodType)
            with validation(enabled=False):  # torch.compile turns it off for the process
                alone = self._exchange.peers.world == 1
                self._run = Compiled(update, f"{self.player.name}_step", device, alone=alone)

    def __call__(self, batch: Batch) -> Tensor:
        """Take one step on a batch and return the loss before it, detached.

        Where batches accumulate, every k-th call moves, and returns the mean loss of them.

        Raises:
            GraphError: A missing or misspelt key, a wrong shape; nothing has moved then.
        """
        moves = self._gathered.is_next_last
        key = (_shapes(batch), moves)
        loss, given = self._looked(batch, key, moves=moves)
        if key in self._replays:
            self._remember(key, given)
        self._gathered.count(moves)
        return loss

    def again(self, batch: Batch) -> Tensor:
        """Take one step where nothing but steps has run since one on a batch of these shapes.

        It does what a call does. A compiled step looks, at each call, whether something has
        changed that it was compiled for, which takes longer than a small net; this one does not.
        """
        moves = self._gathered.is_next_last
        key = (_shapes(batch), moves)
        if key in self._replays:
            loss = self._replays[key](self._named(batch))
        else:
            loss, given = self._looked(batch, key, moves=moves)
            self._remember(key, given)
        self._gathered.count(moves)
        return loss

    def _looked(
        self, batch: Batch, key: object, *, moves: bool
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Run the step; check the batch where its shapes are new."""
        with self._home, mixed_precision(self.precision, self._device), recording(self.recorder):
            return self._run_on(batch, key, moves=moves)

    def _run_on(
        self, batch: Batch, key: object, *, moves: bool
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        if key in self._seen:
            given = self._named(batch)
            try:
                with validation(enabled=False):
                    return self._run(self._seen[key], given, moves), given
            except torch._dynamo.exc.Unsupported:  # type: ignore[attr-defined]
                pass  # a guard failed, and to compile again takes tracing
        with tracing() if self.compiled else validation(enabled=False):
            n, given = self.objective.read(batch)
            with located():
                loss = self._run(n, given, moves)
            self._seen[key] = n
            return loss, given

    def _remember(self, key: object, given: Mapping[str, Tensor]) -> None:
        """Keep what the compiler made for batches of some shapes."""
        if isinstance(self._run, Compiled):
            replay = self._run.replay(given, self._replays.pop(key, None))
            if replay is not None:
                self._replays[key] = replay

    def _named(self, batch: Batch) -> Mapping[str, Tensor]:
        """Name the tensors of a batch whose shapes have been seen."""
        names = self.objective.given
        if isinstance(batch, Tensor):
            return {names[0]: batch}
        return {} if isinstance(batch, int) else {name: batch[name] for name in names}

    def _update(self, n: int, given: Mapping[str, Tensor], moves: bool) -> Tensor:  # noqa: FBT001 - positional for the compiler's guards
        at = Round(n, given, self.made, peers=self._exchange.peers)
        loss = self.objective.loss(self.player.name, at)
        gradients = self.shards.gradients(loss)  # whole ones go where there are shares
        with torch.no_grad():
            self.shards.reduce(gradients)
            loss, means = self._gathered.mean(loss.detach(), gradients, done=moves)
            if not moves:
                return loss
            return self._move(*self._exchange.mean(loss, means, self.parameters))

    def _move(self, loss: Tensor, gradients: Sequence[Tensor | None]) -> Tensor:
        """Update the parameters that the loss reaches, unless something was not finite."""
        reached = [i for i, g in enumerate(gradients) if g is not None]
        found = [g for g in gradients if g is not None]
        found, finite = _bounded(loss, found, self.turn.clip, self.shards.peers)
        self.sound.logical_and_(finite)
        rate = at_step(self.turn.optimizer.lr, self.made)
        if torch.compiler.is_compiling() or self.sound.device.type != "cpu":  # nothing is read
            rate = rate * self.sound
            found = [torch.where(self.sound, g, 0) for g in found]
            loss = torch.where(self.sound, loss, torch.nan)
        elif not self.sound:
            return torch.full_like(loss, torch.nan)
        if found:
            parameters = [self.shards.own[i] for i in reached]
            state = _part(self.state, reached, len(gradients))
            self.turn.optimizer.update(parameters, found, state, rate)
            self.shards.spread(reached)
        self.objective.settle(self.player.name)
        self.average.follow(self.made)
        self.made.add_(self.sound)
        return loss


def _compiles(objective: Objective, *, asked: bool | None) -> bool:
    """Whether a step is to be compiled.

    Raises:
        InadmissibleError: It is asked for, but not possible.
    """
    if asked and objective.eager:
        raise InadmissibleError(
            f"a step on {objective} runs eagerly only, for {objective.eager}; leave"
            " compile=True out"
        )
    return not (objective.eager or objective.recurs) if asked is None else asked


def _part(state: State, reached: Sequence[int], count: int) -> State:
    """Return the state of some of so many parameters; what is not one each belongs to all."""
    if len(reached) == count:
        return state
    return {k: [v[i] for i in reached] if len(v) == count else v for k, v in state.items()}


def _bounded(
    loss: Tensor, gradients: list[Tensor], clip: float | None, peers: Peers
) -> tuple[list[Tensor], Tensor]:
    """Shorten the gradient to a norm; say whether it and the loss are finite, by one number.

    Where processes have shares of the gradient, its norm is that of all of them.
    """
    if not gradients:
        return gradients, loss.isfinite()
    norm = _norm(gradients)
    if peers.world > 1:
        norm = peers.sum(norm.square()).sqrt()
    if clip is not None:
        factor = clip / norm.clamp(min=clip)
        gradients = [g * factor for g in gradients]
    return gradients, (loss + norm).isfinite()


def _norm(gradients: list[Tensor]) -> Tensor:
    if torch.compiler.is_compiling():  # written out, so that it joins the kernels around it
        return torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return torch.stack(torch._foreach_norm(gradients)).norm()  # type: ignore[attr-defined]


def _player(objective: Objective, name: str | None) -> Player:
    players = {p.name: p for p in objective.players}
    if name is None and len(players) == 1:
        return next(iter(players.values()))
    if name not in players:
        raise ValueError(f"player {name!r} is none of {', '.join(players)}")
    return players[name]


def _shapes(batch: Batch) -> object:
    """Return what a batch must have in common with another to need no further check."""
    if isinstance(batch, int):
        return batch
    if isinstance(batch, Tensor):
        return batch.shape
    return tuple((name, value.shape) for name, value in batch.items())
