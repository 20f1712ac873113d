"""What a trained critic says of the distance between data and model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject
from daguerre.modes import mode
from daguerre.objectives.adversarial import game_of, log_ratio
from daguerre.objectives.objective import Objective

__all__ = ["CriticRatio"]


@dataclass(frozen=True, eq=False)
class CriticRatio:
    r"""The divergences that the critic of a game estimates from its log-ratio s, in nats.

    On held-out data $\log 2 + \frac12 \mathbb{E}_a \log \sigma(s) + \frac12 \mathbb{E}_b \log
    \sigma(-s)$ is at most the Jensen-Shannon divergence on average, whatever the critic; the KL
    divergence $\mathbb{E}_a s$ is as good as the critic is, and no bound.

    Attributes:
        objective: A game whose best critic is the log-ratio, such as `dg.gan(p, critic)`.

    References:
        Goodfellow et al. (2014, arXiv 1406.2661); Nowozin, Cseke and Tomioka (2016, arXiv
        1606.00709); Sugiyama, Suzuki and Kanamori (2012), *Density Ratio Estimation*.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> critic = torch.nn.Linear(1, 1)
        >>> _ = critic.weight.data.fill_(-1), critic.bias.data.fill_(0.5)
        >>> p = dg.model(x=Normal(torch.ones(1), 1.0))  # log N(x; 0, 1) / N(x; 1, 1) = 1/2 - x
        >>> ratio = CriticRatio(dg.JS(dg.data("x"), p, critic=critic))
        >>> scores = dg.evaluate(p, data=torch.randn(4000, 1), measures=[ratio])
        >>> abs(scores["critic kl"].value - 0.5) < 4 * scores["critic kl"].spread
        True
    """

    objective: Objective

    def __call__(self, of: Subject) -> tuple[Score, Score]:
        """Compare held-out data with as many draws.

        Raises:
            InadmissibleError: The best critic of the game is not the log-ratio.
            GraphError: There is no critic, or more than one.
        """
        game = game_of(self.objective)
        n, rows = self.objective.read(of.provided)
        given = {name: value.to(torch.get_default_device()) for name, value in rows.items()}
        modules = [module for player in game.players for module in player.modules]
        with mode(modules, training=False):
            real, fake = (
                log_ratio(self.objective, side.sample(n, {k: given[k] for k in side.given}))
                for side in (game.a, game.b)
            )
        one, other = logsigmoid(real) / 2 + math.log(2), logsigmoid(-fake) / 2
        return (
            _two_means("critic js", one, other, "nats, at most the JS divergence, and that log 2"),
            Score.mean("critic kl", real.cpu(), "nats, KL(data, model) if the critic is right"),
        )


def _two_means(name: str, one: Tensor, other: Tensor, note: str) -> Score:
    """Add the means of two independent samples."""
    a, b = one.double(), other.double()
    spread = torch.stack([v.var() / len(v) for v in (a, b)]).sum().sqrt()
    return Score(name, (a.mean() + b.mean()).item(), spread.item(), note)
