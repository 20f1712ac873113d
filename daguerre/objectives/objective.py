"""Objectives: weighted sums of divergences between joints, played by one player or several.

An objective is a game. Each player owns parameters and minimises its own loss: a VAE has one
player, a GAN two. Everything else (trainer, ledger, formula, picture) is derived from that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn

from daguerre.devices import on_device_of
from daguerre.draw.notation import (
    Figure,
    figure,
    with_caption,
    with_critic,
    with_inference,
    with_laws,
)
from daguerre.graph import GraphError, did_you_mean
from daguerre.joint import Empirical, Joint
from daguerre.locate import located
from daguerre.objectives.schedules import Number, Schedule, at_step, check_weight, show
from daguerre.objectives.sides import PairShapes
from daguerre.peers import Peers
from daguerre.program import Outcome, Step, validation
from daguerre.queries import batch_size, declared_sizes, read_sizes
from daguerre.repeats import Sizes
from daguerre.table import Table

__all__ = ["Batch", "Divergence", "Objective", "Player", "Round", "Term", "as_objective"]

Batch = Mapping[str, Tensor] | Tensor | int


@dataclass(frozen=True)
class Round:
    """What a loss is computed from.

    Attributes:
        n: Rows in the batch.
        given: `{name: Tensor[n, *event]}` of what is observed.
        step: Updates that the player has made before, a scalar tensor in training.
        sizes: How many there are of what repeats, where values are rows of it.
        whole: The size of each plate of which the batch holds some members only.
        memo: Outcomes of CPDs that several parts of a cost share.
        peers: The processes that hold the other rows of the batch.
    """

    n: int
    given: Mapping[str, Tensor]
    step: Tensor | int = 0
    sizes: Sizes | None = None
    whole: Mapping[str, int] = field(default_factory=dict)
    memo: dict[str, Outcome] = field(default_factory=dict)
    peers: Peers = field(default_factory=Peers)


class Term(NamedTuple):
    """One row of the ledger: a term, who minimises it, how it is estimated, and why so."""

    player: str
    term: str
    estimator: str
    why: str


@dataclass(frozen=True, eq=False)
class Player:
    """A player of the game: a name and the modules whose parameters it moves."""

    name: str
    modules: tuple[nn.Module, ...]

    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the player, each once."""
        parameters = (p for m in self.modules for p in m.parameters() if p.requires_grad)
        return list(dict.fromkeys(parameters))


class Divergence(ABC):
    """One term of an objective: a divergence between two joints, with an estimator.

    Attributes:
        a: The first side, such as the data with an inference model.
        b: The second side, such as the model.
        names: The variables that both are over.
        shapes: What is known of the variables of each side without data.
        players: Who plays, and with which modules.
        critic: The auxiliary network that estimates the divergence, if any.
        partial: Variables that a batch may lack in some rows: NaN, or below 0 for integers.
        piecewise: Whether a row may lack some components of such a variable and hold others.
        eager: Why a step on this term cannot be compiled; empty where it can.
        recurs: Whether some variables are run slice by slice. Compiled that is a scan, which takes
            long to compile and pays for small nets only.
        plates: The plates of each variable, time last: its values are `[n, *plates, *event]`.
        whole: The size of each plate of which a batch holds some members only.
        auxiliaries: Players that only help to estimate the term, as critics and baselines do.
    """

    a: Joint
    b: Joint
    names: tuple[str, ...]
    shapes: PairShapes
    players: tuple[Player, ...]
    critic: nn.Module | None = None
    partial: tuple[str, ...] = ()
    piecewise: bool = False
    eager: str = ""
    recurs: bool = False
    plates: Mapping[str, Sequence[str]] = MappingProxyType({})
    whole: Mapping[str, int] = MappingProxyType({})
    auxiliaries: tuple[str, ...] = ()

    def weight_for(self, player: str, weight: Number) -> Number:
        """Return how much the term counts for a player, given how much it counts in a cost.

        A cost is what the model minimises. A critic's task is the estimate itself, whatever that
        counts for: its loss, and with it the balance of its penalties, stays as it is.
        """
        return 1 if player in self.auxiliaries else weight

    @abstractmethod
    def loss(self, player: str, at: Round) -> Tensor:
        """Return the scalar that a player minimises."""

    def settle(self, player: str) -> None:  # noqa: B027 - most need none
        """Put a player's parameters back where they must be, after an update."""

    @abstractmethod
    def ledger(self) -> tuple[Term, ...]:
        """Say how each term is estimated."""

    @abstractmethod
    def latex(self) -> Mapping[str, str]:
        """Return what each player minimises, in LaTeX."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is called, and over which variables."""

    @property
    def given(self) -> tuple[str, ...]:
        """The variables that a batch must hold."""
        return tuple(
            dict.fromkeys((*self.a.given, *(n for n in self.b.given if n not in self.a.names)))
        )


@dataclass(frozen=True, eq=False, repr=False)
class Objective:
    """A weighted sum of divergences. Objectives add, and scale by numbers.

    Weights are the model's: a critic's loss is that of its own task, whatever the weight.

    Attributes:
        parts: Pairs (weight, divergence).
    """

    parts: tuple[tuple[Number, Divergence], ...]

    def __repr__(self) -> str:
        terms = (f"{_weight(w)}{part.title}" for w, part in self.parts)
        players = ", ".join(player.name for player in self.players)
        return f"Objective({' + '.join(terms)}; players: {players})"

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            raise TypeError(f"an objective adds to an objective, not to {other!r}")
        return Objective((*self.parts, *other.parts))

    def __radd__(self, other: object) -> Objective:
        if other == 0:  # where sum() starts
            return self
        return NotImplemented

    def __mul__(self, weight: Number) -> Objective:
        check_weight(weight, "the weight of an objective")
        return Objective(tuple((_product(w, weight), part) for w, part in self.parts))

    __rmul__ = __mul__

    @cached_property
    def players(self) -> tuple[Player, ...]:
        """The players of all parts, critics first; those of the same name are one."""
        modules: dict[str, dict[nn.Module, None]] = {}
        for _, part in self.parts:
            for player in part.players:
                modules.setdefault(player.name, {}).update(dict.fromkeys(player.modules))
        names = sorted(modules, key=lambda name: name == "model")
        return tuple(Player(name, tuple(modules[name])) for name in names)

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The variables that a batch must hold."""
        return tuple(dict.fromkeys(n for _, part in self.parts for n in part.given))

    @cached_property
    def eager(self) -> str:
        """Why a step on it cannot be compiled; empty where it can."""
        return next((part.eager for _, part in self.parts if part.eager), "")

    @cached_property
    def recurs(self) -> bool:
        """Whether some variables are run slice by slice, so that to compile is a choice."""
        return any(part.recurs for _, part in self.parts)

    def losses(
        self, batch: Batch, *, players: Iterable[str] | None = None, step: int = 0
    ) -> dict[str, Tensor]:
        """Return the scalar loss that each player minimises, in nats where it is a density.

        Args:
            batch: `{name: Tensor[n, *event]}`, a Tensor where one variable is observed, or the
                number n of draws where none is.
            players: Only these players; all by default. A player's gradient is taken by its own
                parameters alone: `torch.autograd.grad(loss, player.parameters())`.
            step: Updates made before, on which scheduled weights depend.

        Raises:
            GraphError: A missing or misspelt key, a wrong shape, an unknown player.
        """
        n, given = self.read(batch)
        known = [p.name for p in self.players]
        for player in (wanted := known if players is None else list(players)):
            if player not in known:
                raise GraphError(f"no player {player!r}{did_you_mean(player, known)}")
        modules = [m for p in self.players for m in p.modules]
        with located(), validation(enabled=False), on_device_of(modules):
            return {player: self.loss(player, Round(n, given, step)) for player in wanted}

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the loss of one player on a batch that has been read; this is what compiles."""
        total: Tensor | None = None
        for weight, part in self.parts:
            if any(p.name == player for p in part.players):
                loss, weight = part.loss(player, at), part.weight_for(player, weight)
                loss = loss if weight == 1 else at_step(weight, at.step) * loss
                total = loss if total is None else total + loss
        assert total is not None, "every player comes from a part"
        return total

    def settle(self, player: str) -> None:
        """Put a player's parameters back where they must be, after an update."""
        for _, part in self.parts:
            part.settle(player)

    def read(self, batch: Batch) -> tuple[int, dict[str, Tensor]]:
        """Check a batch against the variables and shapes of the objective.

        Raises:
            GraphError: A missing or misspelt key, a wrong shape.
        """
        if isinstance(batch, int):
            batch, n = {}, batch
        else:
            n = None
        if isinstance(batch, Tensor):
            if len(self.given) != 1:
                raise GraphError(f"a batch is a dict with the keys {', '.join(self.given)} here")
            batch = {self.given[0]: batch}
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"a batch is {{name: Tensor}}, or a Tensor, or a number of draws, not a"
                f" {type(batch).__name__}; make arrays tensors with torch.as_tensor"
            )
        for name in self.given:
            if name not in batch:
                hint = did_you_mean(name, batch)
                raise GraphError(f"the data lacks {name!r}, which the objective observes{hint}")
        given = {name: batch[name] for name in self.given}
        n = batch_size(given, n)
        for _, part in self.parts:
            _check_shapes(part, given)
            _check_sizes(part, given, n)
        return n, given

    def explain(self) -> Table:
        """Return the ledger: player, term, estimator and why, one row per term."""
        rows = [
            (row.player, f"{_weight(part.weight_for(row.player, weight))}{row.term}", *row[2:])
            for weight, part in self.parts
            for row in part.ledger()
        ]
        return Table(("player", "term", "estimator", "why"), tuple(rows))

    def latex(self) -> str:
        r"""Return the game in LaTeX, one minimisation per player."""
        return r" \qquad ".join(self.formulas.values())

    @property
    def formulas(self) -> dict[str, str]:
        """What each player minimises, in LaTeX."""
        lines: dict[str, str] = {}
        for weight, part in self.parts:
            for player, term in part.latex().items():
                own = part.weight_for(player, weight)
                term = term if own == 1 else rf"{_symbol(own)}\,{_bracketed(term)}"
                lines[player] = f"{lines[player]} + {term}" if player in lines else term
        marks = {name: _parameters(self.parts, name) for name in lines}
        return {name: rf"\min_{{{marks[name]}}}\; {line}" for name, line in lines.items()}

    def figure(self) -> Figure:
        """Return what is to be drawn: model, inference model, critic and cost."""
        observed = {n for _, part in self.parts for n in part.a.data}
        lacking = {n for _, part in self.parts for n in part.partial}
        models = [part.b for _, part in self.parts if not part.b.data] or [self.parts[0][1].b]
        picture = figure(models[0].graph, observed=observed - lacking, partial=lacking)
        picture = with_laws(picture, models[0].graph, function="G")
        shown = [f.graph for f in models[0].factors]
        factors = [f for _, part in self.parts for side in (part.a, part.b) for f in side.factors]
        graphs = dict.fromkeys(f.graph for f in factors if not isinstance(f, Empirical))
        for graph in (graph for graph in graphs if graph not in shown):
            picture = with_inference(picture, graph)
            picture = with_laws(picture, graph, symbol="q", parameters=r"\phi")
        for _, part in self.parts:
            if part.critic is not None:
                picture = with_critic(picture, part.names)
        lines = r" \\ ".join(f"& {line}" for line in self.formulas.values())
        return with_caption(picture, rf"\begin{{aligned}}{lines}\end{{aligned}}")


def as_objective(thing: object) -> Objective:
    """Return an objective as it is.

    Raises:
        TypeError: It is something else, such as the model.
    """
    if not isinstance(thing, Objective):
        came = type(thing).__name__
        raise TypeError(f"expected an objective, such as dg.elbo(p, q), not a {came}")
    return thing


def _product(one: Number, other: Number) -> Number:
    if not isinstance(one, Schedule) and not isinstance(other, Schedule):
        return one * other
    parts = [number for number in (one, other) if number != 1]
    if len(parts) == 1:
        return parts[0]
    parts.sort(key=lambda part: isinstance(part, Schedule))
    name = " times ".join(p.name if isinstance(p, Schedule) else f"{p:g}" for p in parts)
    return Schedule(lambda step: at_step(one, step) * at_step(other, step), name)  # type: ignore[arg-type]


def _weight(weight: Number) -> str:
    return "" if weight == 1 else f"{show(weight)} * "


def _symbol(weight: Number) -> str:
    return r"\beta_t" if isinstance(weight, Schedule) else f"{weight:g}"


def _bracketed(term: str) -> str:
    """Put a sum in brackets, so that a weight before it multiplies all of it."""
    level, top = 0, ""
    for mark in term.replace(r"\left", "{").replace(r"\right", "}"):
        level += (mark == "{") - (mark == "}")
        top += mark if level == 0 else ""
    return rf"\left({term}\right)" if " + " in top else term


def _parameters(parts: tuple[tuple[Number, Divergence], ...], player: str) -> str:
    if player in (symbols := {"critic": r"\psi", "inference": r"\phi"}):
        return symbols[player]
    own = [part for _, part in parts if any(p.name == player for p in part.players)]
    moved = {m for part in own for p in part.players if p.name == player for m in p.modules}
    learns_q = any(f in moved for part in own for f in part.a.factors if isinstance(f, nn.Module))
    return r"\theta, \phi" if learns_q else r"\theta"


def _check_shapes(part: Divergence, given: Mapping[str, Tensor]) -> None:
    for name, value in given.items():
        shape = part.shapes.b.get(name) or part.shapes.a.get(name)
        if shape is None:
            continue
        plates = part.plates.get(name, ())
        event = value.shape[1 + len(plates) :]
        if tuple(event) != shape.event or value.dim() < 1 + len(plates):
            where = ", ".join(["n", *plates])
            steps = f" after [{where}], in all {list(value.shape)}" if plates else ""
            raise GraphError(
                f"{_step(part, name)}: the model gives {name} the event shape"
                f" {list(shape.event)}, but the data has {list(event)}{steps}; nothing is"
                " broadcast: change the CPD or the data"
            )
        if shape.dtype.is_floating_point and not value.is_floating_point():
            raise GraphError(
                f"{_step(part, name)}: {name} is {shape.dtype} in the model, but the data is"
                f" {value.dtype}; convert it with .float(), and bytes with .float() / 255"
            )


def _check_sizes(part: Divergence, given: Mapping[str, Tensor], n: int) -> None:
    """Check the sizes of plates: those of the data, of a declaration, of what a batch is part of.

    Raises:
        GraphError: Two sizes for a plate, or none; more members in a batch than there are.
    """
    declared = declared_sizes(part.b.graph) | declared_sizes(part.a.graph)
    used = {plate for own in part.plates.values() for plate in own} - {*part.whole}
    declared = {plate: size for plate, size in declared.items() if plate in used}
    sizes = read_sizes(part.plates, given, n, declared)
    for plate, size in part.whole.items():
        if sizes is not None and sizes.of[plate] > size:
            raise GraphError(
                f"a batch has {sizes.of[plate]} members of the plate {plate}, of which there are"
                f" {size} in all"
            )


def _step(part: Divergence, name: str) -> Step:
    return part.b.by_name.get(name) or part.a.by_name[name]
