"""What a fit cannot be played on: refused before it starts, in words, and nothing is moved."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from players import Played, gan, snapshot, vae
from torch import Tensor, nn

import daguerre as dg


def with_nan(x: Tensor) -> Tensor:
    return x.index_put((torch.tensor(7), torch.tensor(2)), torch.tensor(torch.nan))


DATA: dict[str, tuple[Callable[[], Played], Callable[[Tensor], Any], type, str]] = {
    "NaN": (vae, with_nan, ValueError, "x has NaN or infinite values in 1 of 50 rows, the first at"
            " row 7; drop these rows"),
    "NaN for a critic": (gan, with_nan, ValueError, "x has NaN or infinite values in 1 of"),
    "infinity": (vae, lambda x: x / 0, ValueError, "x has NaN or infinite values in 50 of 50"),
    "grey levels to 255": (vae, lambda x: 255 * x, ValueError, "the support of Bernoulli is"
                           " Interval(lower_bound=0.0, upper_bound=1.0), but the data holds x ="
                           " 255.0 at [0, 0]; rescale the data"),
    "below": (vae, lambda x: x - 0.5, ValueError, "the data holds x = -0.5 at"),
    "bytes": (vae, lambda x: x.to(torch.uint8), dg.GraphError, "x is torch.float32 in the model,"
              " but the data is torch.uint8; convert it with .float(), and bytes with .float"),
    "bytes for a critic": (gan, lambda x: x.to(torch.uint8), dg.GraphError, "the data is torch"),
    "whole numbers": (vae, Tensor.long, dg.GraphError, "the data is torch.int64; convert it"),
    "double": (vae, Tensor.double, dg.GraphError, "z (x -> z)"),
    "double for a critic": (gan, Tensor.double, ValueError, "x is torch.float64, but the critic's"
                            " weights are torch.float32; convert the data with .to(tor"),
    "an array": (vae, Tensor.numpy, TypeError, "not a ndarray; make arrays tensors with"),
    "a dict of arrays": (vae, lambda x: {"x": x.numpy()}, dg.GraphError, "x must be a Tensor"
                         " [n, *event], not a ndarray; torch.as_tensor makes one"),
    "sparse": (vae, Tensor.to_sparse, ValueError, "x must be a dense tensor in memory, not"),
    "on meta": (vae, lambda x: x.to("meta"), ValueError, "not on the device meta"),
    "no rows": (vae, lambda x: x[:0], ValueError, "the data is empty: x has no rows"),
    "no dimension": (vae, lambda x: x.sum(), dg.GraphError, "not a tensor without dimensions"),
    "another width": (vae, lambda x: x[:, :3], dg.GraphError, "the model gives x the event shape"
                      " [4], but the data has [3]"),
    "another name": (vae, lambda x: {"X": x}, dg.GraphError, "the data lacks 'x', which"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_data_is_refused_before_anything_moves_or_is_written(name, tmp_path):
    make, spoil, kind, message = DATA[name]
    game = make()
    before = [snapshot(module) for module in game.modules.values()]
    with pytest.raises(kind, match=re.escape(message)):
        dg.fit(game.objective, spoil(game.x), steps=2, out=tmp_path / "run")
    for module, weights in zip(game.modules.values(), before, strict=True):
        assert all(map(torch.equal, module.parameters(), weights))
    assert name == "double" or not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "8"])
def test_a_batch_is_a_whole_number_of_rows(size):
    with pytest.raises(
        ValueError, match=f"batch_size must be a whole number, 1 or more, not {size!r}"
    ):
        dg.fit(vae().objective, vae().x, batch_size=size)


@pytest.mark.parametrize("make", [vae, gan])
@pytest.mark.parametrize("rows", [1, 50])
def test_one_example_and_batches_larger_than_the_data_are_played(make, rows):
    game = make()
    history = dg.fit(game.objective, game.x[:rows], epochs=2, batch_size=4096)
    assert len(history) == 2
    assert all(losses.isfinite().all() for losses in history.losses.values())


def test_one_example_is_too_few_for_batch_norm_and_it_says_where():
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    p = dg.model(
        z=dg.StandardNormal(2),
        x=dg.rv(lambda z, net: torch.distributions.Normal(net(z), 1.0), net=net),
    )
    q = dg.model(x=dg.Input(3), z=lambda x: torch.distributions.Normal(x[:, :2], 1.0))
    message = r"x \(z -> x\), CPD at .*: Expected more than 1 value per channel"
    with pytest.raises(dg.GraphError, match=message):
        dg.fit(dg.elbo(p, q), torch.zeros(1, 3), steps=1)
