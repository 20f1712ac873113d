"""Two processes that share out weights play recipes and models over time as whole weights do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_processes import both, equal
from test_shards import found, keep
from together import WIDTH, Game, NoisyDecoder, NoisyEncoder, NoisyGenerator, data, meet, played
from torch import Tensor, nn
from torch.distributions import Bernoulli

import daguerre as dg
from daguerre import penalties
from daguerre.gallery import dmm, hmm, rnn, state_space, vrnn
from daguerre.objectives import recipes
from daguerre.train.weights import Sharding

pytestmark = pytest.mark.slow


def critic(width: int = WIDTH) -> nn.Module:
    return dg.nn.mlp(width, 4, 1)


def joined() -> nn.Module:
    return dg.nn.Joined(critic(2 + WIDTH))


def rows(objective: dg.Objective) -> Game:
    return objective, data()


def penalised(penalty: penalties.Penalty) -> Game:
    sides = dg.data("x"), NoisyGenerator()["x"]
    return rows(dg.Wasserstein(*sides, critic=critic(), penalty=penalty))


def rolls(objective: dg.Objective) -> Game:
    x = torch.rand(8, 6, 5, generator=torch.Generator().manual_seed(2))
    return objective, {"x": x.round().to(torch.get_default_dtype())}


def letters(objective: dg.Objective) -> Game:
    return objective, {"x": torch.randint(4, (8, 6), generator=torch.Generator().manual_seed(2))}


class Rolls(dg.Model):
    """Units of an LSTM that read the last chord."""

    def __init__(self, keys: int, hidden: int) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(keys, hidden), nn.Linear(hidden, keys)
        self.start, self.silence = nn.Parameter(torch.zeros(2 * hidden)), torch.zeros(keys)

    def all_h(self, before: Tensor, last: Tensor) -> Tensor:
        return dg.nn.over_time(self.cell, last, before)

    @dg.deterministic(over_time=all_h)
    def h(
        self,
        before: Tensor = dg.lag("h", init=lambda self: self.start),
        last: Tensor = dg.lag("x", init=lambda self: self.silence),
    ):
        return torch.cat(self.cell(last, before.chunk(2, 1)), 1)

    @dg.rv
    def x(self, h: Tensor):
        return Bernoulli(logits=self.out(h[:, : self.cell.hidden_size]))


GAMES: dict[str, Callable[[], Game]] = {
    "infogan": lambda: rows(recipes.infogan(NoisyGenerator(), NoisyEncoder(), critic())),
    "ali": lambda: rows(recipes.ali(NoisyGenerator(), NoisyEncoder(), joined())),
    "aae": lambda: rows(recipes.aae(NoisyDecoder(), NoisyEncoder(), critic(2))),
    "aavae": lambda: rows(recipes.aavae(NoisyDecoder(), NoisyEncoder(), critic())),
    "factor_vae": lambda: rows(recipes.factor_vae(NoisyDecoder(), NoisyEncoder(), critic(2))),
    "wake_sleep": lambda: rows(recipes.wake_sleep(NoisyDecoder(), NoisyEncoder())),
    "r1": lambda: penalised(penalties.r1(2.0)),
    "dragan": lambda: penalised(penalties.dragan(2.0)),
    "lipschitz": lambda: penalised(penalties.lipschitz(2.0)),
    "vrnn": lambda: rolls(vrnn.piano_rolls(5, 2, 3).objective),
    "deep Markov model": lambda: rolls(dmm.music(5, 3, anneal=5).objective),
    "lstm": lambda: letters(dg.nll(rnn.LSTM(4, 3))),
    "lstm of vectors": lambda: rolls(dg.nll(Rolls(5, 3))),
    "hidden Markov model": lambda: rolls(dg.nll(hmm.Keys(torch.full([5], 0.4), 3), observed="x")),
    "letters of a Markov model": lambda: letters(dg.nll(hmm.Letters(2, 4), observed="x")),
    "state space": lambda: rolls(dg.nll(state_space.StateSpace(2, 5), observed="x")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("recipes")
    assert both(work, found) == [0, 0]
    return found


def work(rank: int, folder: Path) -> None:
    """Be one of two processes."""
    meet(rank, folder)
    split = Sharding(weights=True, least=1)
    for name, make in GAMES.items():
        keep(played(make, steps=4), folder, f"{name}, whole")
        keep(played(make, steps=4, shard=split), folder, name)


@pytest.mark.parametrize("name", GAMES)
def test_split_weights_play_as_whole_ones(name, folder):
    assert equal(found(folder, f"{name}, whole"), found(folder, name))
