r"""Divergences from samples: a critic tells the two sides apart, the model plays against it.

The critic is no part of any graph: it is an auxiliary of the cost, with a player of its own. Its
output s is a logit, D = sigmoid(s). At the optimum D* = a / (a + b) and the value of the game is
$V = 2\,\mathrm{JSD}(a, b) - \log 4$ (Goodfellow et al. 2014, arXiv 1406.2661).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from daguerre.graph import Graph, GraphError, InadmissibleError, Variable, did_you_mean
from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.games import NON_SATURATING, GameLoss
from daguerre.objectives.objective import Divergence, Objective, Player, Round, Term, as_objective
from daguerre.objectives.penalties import Penalised, Penalty, as_penalties, check_critic
from daguerre.objectives.prescribed import Prescribed, jensen_shannon
from daguerre.objectives.samples import Sampler
from daguerre.objectives.schedules import at_step
from daguerre.objectives.sides import (
    argument,
    expectation,
    letters,
    modules_of,
    needed,
    repeating,
    sampled_sides,
)
from daguerre.precision import called
from daguerre.program import Program, Step
from daguerre.shapes import trace_shapes

__all__ = ["JS", "Adversarial", "game_of", "log_ratio"]


def JS(  # noqa: N802 - the field's name
    a: Factor | Joint,
    b: Factor | Joint,
    *,
    critic: nn.Module | None = None,
    loss: GameLoss = NON_SATURATING,
    penalty: Penalised = (),
) -> Objective:
    r"""Return the Jensen-Shannon divergence of two joints, in nats, by a critic or by densities.

    With a critic it needs samples of both sides and no density; the model's draws carry pathwise
    gradients. Without one it needs the densities of both sides and is estimated without bias.

    Args:
        a: The first ("real") side, such as `dg.data("x")` or `dg.data("x") * q`.
        b: The second side, such as `p["x"]` or `p`.
        critic: A module that takes the shared variables, in the order of b, then the inputs of b,
            each `[n, *event]`, and returns logits `[n]` or `[n, 1]` that are high on the first
            side.
        loss: What the two players minimise, a row of `dg.games`; some estimate another
            divergence, as the ledger says.
        penalty: One of `dg.penalties`, or a tuple of them, which are added to the critic's loss.

    Raises:
        InadmissibleError: A draw that needs a gradient has none; without a critic, a density that
            does not exist; a penalty on a critic with batch normalisation.
        GraphError: The sides differ in variables or shapes, or the critic does not fit them.

    References:
        Goodfellow et al. (2014, arXiv 1406.2661). Dumoulin et al. (2017, arXiv 1606.00704) for
        joints over (x, z).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> game = JS(dg.data("x"), p["x"], critic=dg.nn.mlp(2, 8, 1))
        >>> sorted(game.losses(torch.zeros(5, 2)))
        ['critic', 'model']
        >>> a, b = dg.model(x=Normal(0.0, 1.0)), dg.model(x=Normal(0.0, 1.0))
        >>> JS(a, b).losses(10)
        {'model': tensor(0.)}
    """
    if critic is None:
        check_no_critic(penalty)
        return Objective(((1.0, Prescribed(as_joint(a), as_joint(b), "JS", jensen_shannon)),))
    sides = as_joint(a), as_joint(b)
    return Objective(((1.0, Adversarial(*sides, critic, loss, as_penalties(penalty))),))


def check_no_critic(penalty: Penalised) -> None:
    """Check that nothing is asked of a critic that is not there.

    Raises:
        ValueError: There are penalties.
    """
    if found := as_penalties(penalty):
        raise ValueError(f"the {found[0].name} is on a critic, and there is none: give critic=...")


@final
class Adversarial(Divergence):
    """A divergence between two joints that a critic estimates from their samples.

    Attributes:
        game: What the players minimise.
        penalties: What is added to the critic's loss.
        clip: The size that no parameter of the critic exceeds, if any.
    """

    def __init__(
        self,
        a: Joint,
        b: Joint,
        critic: nn.Module,
        loss: GameLoss,
        penalties: tuple[Penalty, ...] = (),
        *,
        clip: float | None = None,
    ) -> None:
        if not isinstance(critic, nn.Module):
            raise TypeError(f"the critic must be an nn.Module with parameters, not {critic!r}")
        if not isinstance(loss, GameLoss):
            raise TypeError(f"loss is a game such as dg.games.HINGE, not {loss!r}")
        if not loss.trains:
            raise InadmissibleError(
                f"the {loss.name} loss has no gradient to learn from; train on dg.games.BERNOULLI"
                " or dg.games.HINGE, and evaluate this one on the critic's logits"
            )
        check_critic(critic, penalties)
        self.a, self.b, self.critic, self.game = a, b, critic, loss
        self.penalties, self.clip = penalties, clip
        self.players = (Player("critic", (critic,)), Player("model", modules_of(b, a)))
        self.auxiliaries = ("critic",)
        self.names, learns, self.shapes = sampled_sides(a, b, loss.divergence)
        self._learns = tuple(side for side in learns if self._moves(side))
        self._compared = sum(n not in b.graph.inputs for n in self.names)  # conditions come last
        self.plates = repeating(a, b)
        self._real, self._fake = Sampler.of(a, self.plates), Sampler.of(b, self.plates)
        self.recurs = self._real.recurs or self._fake.recurs
        self._real_learns = a in self._learns
        self._check_critic()
        self._check_slopes()

    @property
    def title(self) -> str:
        """The divergence, and the variables."""
        return f"{self.game.divergence} over {', '.join(self.names)}"

    def _moves(self, side: Joint) -> bool:
        """Whether what is compared of a side may depend on parameters, as its shapes tell."""
        shapes = self.shapes.a if side is self.a else self.shapes.b
        compared = [n for n in self.names if n in side.graph and n not in side.given]
        drawn = {*compared, *side.graph.ancestors(compared)} - {*side.given}
        fixed = (side.graph[n].map == "stochastic" and n in shapes for n in drawn)
        return not all(fixed) or any(shapes[n].learned for n in drawn)

    def _check_critic(self) -> None:
        """Call the critic on tensors without contents, where the shapes it takes are known."""
        shapes = self.shapes.a | self.shapes.b
        known = {n: shapes[n] for n in self.names if n in shapes and not self.plates.get(n)}
        logit = Variable("the critic", self.names, "deterministic")
        graph = Graph((*(Variable(n, map="input") for n in self.names), logit))
        inputs = (Step(graph[n], None) for n in self.names)
        program = Program.of(graph, (*inputs, Step(logit, self.critic)))
        try:
            found = trace_shapes(program, known).get(logit.name)
        except TypeError as error:
            raise GraphError(
                f"the critic is called with {', '.join(self.names)}, but {error}; wrap a net of"
                " one input: critic=dg.nn.Joined(net)"
            ) from None
        if found is not None and found.event not in ((), (1,)):
            raise GraphError(_wrong_logits("n", found.event))

    def _check_slopes(self) -> None:
        """Check that the critic has a slope, where that is charged."""
        shapes = [self.shapes.b.get(n) for n in self.names[: self._compared]]
        if self.penalties and all(s and not s.dtype.is_floating_point for s in shapes):
            raise InadmissibleError(
                f"the {self.penalties[0].name} is on the critic's slope, and it compares"
                f" {', '.join(self.names[: self._compared])}, which takes whole numbers only;"
                " leave the penalty out"
            )

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the batch mean of the player's loss; the other player is held fixed."""
        return self._critic_loss(at) if player == "critic" else self._model_loss(at)

    def _critic_loss(self, at: Round) -> Tensor:
        with torch.no_grad():
            real = self._real.draw(self.names, at, pathwise=False)
            fake = self._fake.draw(self.names, at, pathwise=False)
        on_real, on_fake = self._met(real, at), self._met(fake, at)
        if self.game.relate is not None:
            on_real, on_fake = self.game.relate(on_real, on_fake)
        loss = self.game.real(on_real).mean() + self.game.fake(on_fake).mean()
        conditions = real[self._compared :]
        for penalty in self.penalties:
            charge = penalty.loss(
                lambda *rows: self._logits([*rows, *conditions]),
                real[: self._compared],
                fake[: self._compared],
            )
            loss = loss + at_step(penalty.weight, at.step) * charge
        return loss

    @property
    def _sides_of_model(self) -> tuple[bool, bool]:
        """Whether the model's loss averages over the first side, and over the second.

        Those are the sides whose draws can move; both where the game relates their logits.
        """
        related = self.game.relate is not None
        fake_plays = bool(self.game.formulas[2]) and (
            self.b in self._learns or not self._real_learns
        )
        return related or self._real_learns, related or fake_plays

    def _model_loss(self, at: Round) -> Tensor:
        on_real, on_fake = self._sides_of_model
        logits = {}
        if on_fake:
            fake = self._fake.draw(self.names, at, pathwise=True)
            logits["model"] = self._met(fake, at)
        if on_real:
            real = self._real.draw(self.names, at, pathwise=self._real_learns)
            logits["first"] = self._met(real, at)
        if self.game.relate is not None:
            logits["first"], logits["model"] = self.game.relate(logits["first"], logits["model"])
        losses = {"model": self.game.model, "first": self.game.first}
        terms = [losses[side](s).mean() for side, s in logits.items()]
        return sum(terms[1:], start=terms[0])

    def settle(self, player: str) -> None:
        """Clip the critic's parameters after its update, where that keeps it Lipschitz."""
        if player == "critic" and self.clip is not None:
            for parameter in self.players[0].parameters():
                parameter.clamp_(-self.clip, self.clip)

    def log_ratio(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the critic's log-ratio of the sides; see the function of this name."""
        if not self.game.is_ratio:
            raise InadmissibleError(
                f"the best critic of {self.game.name} is not the log-ratio, but {self.game.best};"
                " use a cost whose critic is, such as dg.gan or dg.f_divergence(..., f=dg.f.KL)"
            )
        for name in self.names:
            if name not in values:
                raise GraphError(f"the critic compares {name!r}{did_you_mean(name, values)}")
        with torch.no_grad():
            return self._logits([values[name] for name in self.names]) - self.game.offset

    def _met(self, values: list[Tensor], at: Round) -> Tensor:
        """Return the logits of the rows that the loss of one looks at."""
        logits = self._logits(values)
        return at.peers.rows(logits) if self.game.compares else logits

    def _logits(self, values: list[Tensor]) -> Tensor:
        assert self.critic is not None
        logits = called(self.critic, *values)
        n = values[0].shape[0]
        if logits.shape not in ((n,), (n, 1)):
            raise GraphError(_wrong_logits(n, logits.shape[1:]))
        return logits.reshape(n)

    def ledger(self) -> tuple[Term, ...]:
        """Say what each player estimates, from how many draws, and what the critic is charged."""
        drawn = " and ".join(
            f"pathwise through {', '.join(_drawn(side))}" for side in self._learns
        )
        seen = "n draws of each side"
        why = "lowest at the best critic"
        rows = [Term("critic", f"{self.title}: {self.game.best}", f"a bound, from {seen}", why)]
        rows += [
            Term("critic", penalty.title, penalty.where, penalty.why) for penalty in self.penalties
        ]
        if self.clip is not None:
            how = "after each of its updates"
            rows.append(Term("critic", f"parameters within {self.clip:g}", how, "a bounded slope"))
        name, both = self.game.name, self._sides_of_model == (True, True)
        term = self.title if name == self.game.divergence else f"{self.title}, {name}"
        estimator = f"{drawn or 'nothing to learn'}; {seen if both else 'n draws'}"
        rows.append(Term("model", term, estimator, self.game.why))
        return tuple(rows)

    def latex(self) -> dict[str, str]:
        """Return the losses of critic and model."""
        first, second = letters(self.a, self.b)
        over = (
            expectation(self.a, self.shapes.a, first),
            expectation(self.b, self.shapes.b, second),
        )
        points = tuple(
            ", ".join(argument(side, name, symbol=letter) for name in self.names)
            for side, letter in ((self.a, first), (self.b, second))
        )
        real, fake, model, first = self.game.formulas

        def average(side: int, formula: str) -> str:
            own, other = (f"{self.game.output}({points[i]})" for i in (side, 1 - side))
            inside = formula.replace("#", own).replace("~", other)
            where = rf"\mathbb{{E}}_{{{over[side]}}}"
            if "~" in formula and r"\mathbb{E}" not in formula:  # of rows in pairs
                where = rf"\mathbb{{E}}_{{{over[0]}}}\,\mathbb{{E}}_{{{over[1]}}}"
            return rf"{where}\left[{inside}\right]" if formula else ""

        logit = r"s_\psi" if self.game.output == r"D_\psi" else self.game.output
        charges = [
            _fill(penalty.latex(), over, points).replace("<s>", logit)
            for penalty in self.penalties
        ]
        on_real, on_fake = self._sides_of_model
        lines = {
            "critic": [average(0, real), average(1, fake), *charges],
            "model": [average(1, model) if on_fake else "", average(0, first) if on_real else ""],
        }
        return {player: " + ".join(filter(None, terms)) for player, terms in lines.items()}


def _drawn(side: Joint) -> list[str]:
    return [step.name for step in needed(side).steps if step.name not in side.given]


def _fill(formula: str, over: tuple[str, ...], points: tuple[str, ...]) -> str:
    """Write distributions and draws of both sides into the formula of a penalty."""
    for side, where, point in zip("AB", over, points, strict=True):
        formula = formula.replace(f"<{side}>", where).replace(f"<{side.lower()}>", point)
        formula = formula.replace(f"<({side.lower()})>", f"({point})" if "," in point else point)
    return formula


def log_ratio(objective: Objective, values: Mapping[str, Tensor]) -> Tensor:
    r"""Return what a trained critic says of $\log a / b$ at some values, `[n]`, in nats.

    Args:
        objective: A game with a critic, `dg.gan(...)`, `dg.JS(...)` or `dg.f_divergence(...)`.
        values: `{name: Tensor[n, *event]}` of the variables that it compares.

    Raises:
        InadmissibleError: The best critic of this cost is not the log-ratio.
        GraphError: There is no critic, or more than one; a missing or misspelt name, a wrong
            shape.

    References:
        Sugiyama, Suzuki and Kanamori (2012), *Density Ratio Estimation in Machine Learning*.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> critic = nn.Linear(1, 1)
        >>> game = dg.JS(dg.data("x"), dg.model(x=Normal(torch.zeros(1), 1.0)), critic=critic)
        >>> log_ratio(game, {"x": torch.zeros(3, 1)}).shape
        torch.Size([3])
    """
    return game_of(objective).log_ratio(values)


def game_of(objective: Objective) -> Adversarial:
    """Return the one term of an objective that has a critic.

    Raises:
        GraphError: There is no critic, or more than one.
    """
    games = [part for _, part in as_objective(objective).parts if isinstance(part, Adversarial)]
    if len(games) != 1:
        raise GraphError(
            f"the log-ratio is that of one critic, and {objective!r} has {len(games)}"
        )
    return games[0]


def _wrong_logits(n: int | str, event: tuple[int, ...]) -> str:
    return (
        f"the critic must return one logit per example, [{n}] or [{n}, 1];"
        f" it returned [{', '.join(map(str, (n, *event)))}]"
    )
