r"""Divergences from samples: a critic tells the two sides apart, the model plays against it.

The critic is no part of any graph: it is an auxiliary of the cost, with a player of its own. Its
output s is a logit, D = sigmoid(s). At the optimum D* = a / (a + b) and the value of the game is
$V = 2\,\mathrm{JSD}(a, b) - \log 4$ (Goodfellow et al. 2014, arXiv 1406.2661).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from daguerre.graph import Graph, GraphError, InadmissibleError, Variable, did_you_mean
from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.objective import Divergence, Objective, Player, Round, Term, as_objective
from daguerre.objectives.sides import argument, expectation, modules_of, sampled_sides
from daguerre.program import Program, Step, draw
from daguerre.shapes import trace_shapes

__all__ = ["JS", "MINIMAX", "NON_SATURATING", "Adversarial", "GameLoss", "log_ratio"]


@dataclass(frozen=True)
class GameLoss:
    """What critic and model minimise, per example, as functions of the critic's logits.

    Attributes:
        name: As people call it.
        real: The critic's loss on draws of the first side, of the logit s.
        fake: The critic's loss on draws of the second side, of the logit s.
        model: The model's loss on draws of the second side, of the logit s.
        first: Its loss on draws of the first side, where that has parameters too.
        formulas: The four in LaTeX, with # for the critic's output.
        divergence: What the game estimates.
        output: The critic's output in LaTeX.
        is_ratio: Whether the best critic is the log-ratio of the two sides.
    """

    name: str
    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    model: Callable[[Tensor], Tensor]
    first: Callable[[Tensor], Tensor]
    formulas: tuple[str, str, str, str]
    divergence: str = "JS"
    output: str = r"D_\psi"
    is_ratio: bool = True


_CRITIC = (r"-\log #", r"-\log(1 - #)")

NON_SATURATING = GameLoss(
    "non-saturating",
    lambda s: softplus(-s),
    softplus,
    lambda s: softplus(-s),
    softplus,
    (*_CRITIC, r"-\log #", r"-\log (1 - #)"),
)
MINIMAX = GameLoss(
    "minimax",
    lambda s: softplus(-s),
    softplus,
    lambda s: -softplus(s),
    lambda s: -softplus(-s),
    (*_CRITIC, r"\log(1 - #)", r"\log #"),
)


def JS(  # noqa: N802 - the field's name
    a: Factor | Joint, b: Factor | Joint, *, critic: nn.Module, loss: GameLoss = NON_SATURATING
) -> Objective:
    r"""Return the Jensen-Shannon divergence of two joints, estimated by a critic from samples.

    Needs samples of both sides and no density; the model's draws carry pathwise gradients.

    Args:
        a: The first ("real") side, such as `dg.data("x")` or `dg.data("x") * q`.
        b: The second side, such as `p["x"]` or `p`.
        critic: A module that takes the shared variables, in the order of b, then the inputs of b,
            each `[n, *event]`, and returns logits `[n]` or `[n, 1]` that are high on the first
            side.
        loss: What the two players minimise: `NON_SATURATING` or `MINIMAX`.

    Raises:
        InadmissibleError: A draw that needs a gradient has none.
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
    """
    return Objective(((1.0, Adversarial(as_joint(a), as_joint(b), critic, loss)),))


@final
class Adversarial(Divergence):
    """A divergence between two joints that a critic estimates from their samples."""

    def __init__(self, a: Joint, b: Joint, critic: nn.Module, loss: GameLoss) -> None:
        if not isinstance(critic, nn.Module):
            raise TypeError(f"the critic must be an nn.Module with parameters, not {critic!r}")
        self.a, self.b, self.critic, self.game = a, b, critic, loss
        self.players = (Player("critic", (critic,)), Player("model", modules_of(b, a)))
        self.names, self._learns, self.shapes = sampled_sides(a, b, loss.divergence)
        self._real, self._fake = (a.program, a.given), (b.program, b.given)
        self._real_learns = a in self._learns
        self._check_critic()

    @property
    def title(self) -> str:
        """The divergence, and the variables."""
        return f"{self.game.divergence} over {', '.join(self.names)}"

    def _check_critic(self) -> None:
        """Call the critic on tensors without contents, where the shapes it takes are known."""
        known = {n: s for n, s in (self.shapes.a | self.shapes.b).items() if n in self.names}
        logit = Variable("the critic", self.names, "deterministic")
        graph = Graph((*(Variable(n, map="input") for n in self.names), logit))
        inputs = (Step(graph[n], None) for n in self.names)
        program = Program.of(graph, (*inputs, Step(logit, self.critic)))
        found = trace_shapes(program, known).get(logit.name)
        if found is not None and found.event not in ((), (1,)):
            raise GraphError(_wrong_logits("n", found.event))

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the batch mean of the player's loss; the other player is held fixed."""
        if player == "critic":
            with torch.no_grad():
                real = self._draw(self._real, at.n, at.given, pathwise=False)
                fake = self._draw(self._fake, at.n, at.given, pathwise=False)
            on_real, on_fake = self._logits(real), self._logits(fake)
            return self.game.real(on_real).mean() + self.game.fake(on_fake).mean()
        fake = self._draw(self._fake, at.n, at.given, pathwise=True)
        loss = self.game.model(self._logits(fake)).mean()
        if self._real_learns:
            real = self._draw(self._real, at.n, at.given, pathwise=True)
            loss = loss + self.game.first(self._logits(real)).mean()
        return loss

    def log_ratio(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the critic's log-ratio of the sides; see the function of this name."""
        if not self.game.is_ratio:
            raise InadmissibleError(
                f"the best critic of {self.game.divergence} is not the log-ratio; use a cost whose"
                " critic is, such as dg.gan or dg.f_divergence(..., f=dg.f.KL)"
            )
        for name in self.names:
            if name not in values:
                raise GraphError(f"the critic compares {name!r}{did_you_mean(name, values)}")
        with torch.no_grad():
            return self._logits([values[name] for name in self.names])

    def _draw(
        self,
        side: tuple[Program, tuple[str, ...]],
        n: int,
        given: Mapping[str, Tensor],
        *,
        pathwise: bool,
    ) -> list[Tensor]:
        program, names = side
        values = draw(program, n, {k: given[k] for k in names}, pathwise=pathwise).values
        return [values[name] for name in self.names]

    def _logits(self, values: list[Tensor]) -> Tensor:
        assert self.critic is not None
        logits = self.critic(*values)
        n = values[0].shape[0]
        if logits.shape not in ((n,), (n, 1)):
            raise GraphError(_wrong_logits(n, logits.shape[1:]))
        return logits.reshape(n)

    def ledger(self) -> tuple[Term, ...]:
        """Say what each player estimates."""
        drawn = " and ".join(
            f"pathwise through {', '.join(n for n in side.graph.order if n not in side.given)}"
            for side in self._learns
        )
        return (
            Term(
                "critic",
                f"{self.title}: the log-ratio log a / b",
                "a bound, from samples",
                "largest at the best critic",
            ),
            Term(
                "model",
                f"{self.title}, {self.game.name}",
                drawn or "nothing to learn",
                "samples only: no density is asked for",
            ),
        )

    def latex(self) -> dict[str, str]:
        """Return the losses of critic and model."""
        real, fake, model, first = self.game.formulas
        a, b = (
            expectation(side, shapes, symbol)
            for side, shapes, symbol in (
                (self.a, self.shapes.a, "q"),
                (self.b, self.shapes.b, "p"),
            )
        )

        def average(side: Joint, over: str, formula: str) -> str:
            at = ", ".join(argument(side, name) for name in self.names)
            inside = formula.replace("#", f"{self.game.output}({at})")
            return rf"\mathbb{{E}}_{{{over}}}\left[{inside}\right]"

        lines = {
            "critic": f"{average(self.a, a, real)} + {average(self.b, b, fake)}",
            "model": average(self.b, b, model),
        }
        if self._real_learns:
            lines["model"] += f" + {average(self.a, a, first)}"
        return lines


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
    games = [part for _, part in as_objective(objective).parts if isinstance(part, Adversarial)]
    if len(games) != 1:
        raise GraphError(
            f"the log-ratio is that of one critic, and {objective!r} has {len(games)}"
        )
    return games[0].log_ratio(values)


def _wrong_logits(n: int | str, event: tuple[int, ...]) -> str:
    return (
        f"the critic must return one logit per example, [{n}] or [{n}, 1];"
        f" it returned [{', '.join(map(str, (n, *event)))}]"
    )
