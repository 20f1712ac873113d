"""Random tables, data with holes, and what a rise is: parts of the tests of EM."""

import itertools
from typing import Any

import torch
from torch import Tensor

import daguerre as dg

NAN = float("nan")
SIZES = {"a": 2, "b": 3, "c": 5, "d": 7}


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def table(*shape: int) -> Tensor:
    return r(*shape).softmax(-1)


def holes(value: Tensor, share: float = 0.3) -> Tensor:
    gone = torch.rand(value.shape) < share
    return value.masked_fill(gone, NAN if value.is_floating_point() else -1)


def rising(values: Tensor) -> bool:
    return bool((values.diff() > -1e-9).all())


def states(rows: int, names: str = "abcd") -> dict[str, Tensor]:
    return {n: torch.randint(SIZES[n], (rows,)) for n in names}


class Network:
    """a -> b -> d <- c <- a, with two, three, five and seven states."""

    def __init__(self) -> None:
        self.cpds: dict[str, Any] = {
            "a": dg.Tabular(table(2)),
            "b": dg.Tabular(table(2, 3), "a"),
            "c": dg.Tabular(table(2, 5), "a"),
            "d": dg.Tabular(table(3, 5, 7), "b", "c"),
        }
        self.p = dg.model(**self.cpds)

    def expected(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Expected counts, by listing all states."""
        counts = {n: torch.zeros_like(cpd.probs) for n, cpd in self.cpds.items()}
        cells = [
            dict(zip(SIZES, c, strict=True))
            for c in itertools.product(*map(range, SIZES.values()))
        ]
        joint = self.p.log_prob({n: torch.tensor([c[n] for c in cells]) for n in SIZES}).exp()
        for i in range(len(next(iter(data.values())))):
            row = {n: int(v[i]) for n, v in data.items() if v[i] >= 0}
            fits = torch.tensor([all(c[n] == s for n, s in row.items()) for c in cells])
            weights = joint * fits / (joint * fits).sum()
            for c, w in zip(cells, weights, strict=True):
                for n, cpd in self.cpds.items():
                    counts[n][*(c[p] for p in cpd.parents), c[n]] += w
        return counts


# Tables
