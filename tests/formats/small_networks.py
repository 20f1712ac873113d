"""Small files of each form, and models with distinct prime cardinalities."""

import itertools

import torch
from torch import Tensor

import daguerre as dg
from daguerre.compose import Composed
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.graph import Graph, Variable

BIF = """\
// A network of three variables.
network small { property "made by hand"; }
variable rain {
  type discrete [ 2 ] { no, yes };
}
variable level { /* with names
  that need care */
  type discrete [ 3 ] { <5, 5-12, 12+ };
  property position = (1, 2) ;
}
variable flood {
  type discrete [ 2 ] { "not at all", Asy/Patch };
}
probability ( rain ) {
  table 0.75, 0.25;
}
probability ( level | rain ) {
  (yes) 0.125, 0.25, 0.625;
  (no) 5e-1, .25, 0.25; // out of order
}
probability ( flood | rain, level ) {
  default 0.5, 0.5;
  (yes, 12+) 0.0, 1.0;
  (no, "5-12") 0.875, 0.125;
}
"""

UAI = """\
BAYES
3
2 3 2
3
1 0
2 0 1
3 0 1 2

2
 0.75 0.25
6
 0.5 0.25 0.25
 0.125 0.25 0.625
12
 0.5 0.5 0.875 0.125 0.5 0.5
 0.5 0.5 0.5 0.5 0 1
"""

JSON = """\
{"format": "daguerre network", "version": 1, "variables": {
"rain": {"kind": "table", "states": ["no", "yes"], "table": [0.75, 0.25]},
"level": {"kind": "table", "states": 3, "parents": ["rain"],
          "table": [[0.5, 0.25, 0.25], [0.125, 0.25, 0.625]]},
"depth": {"kind": "linear gaussian", "given": ["level"], "bias": [0, 1, 2], "scale": [0, 0.5, 1]},
"flow": {"kind": "linear gaussian", "event": [2], "given": ["rain"],
         "bias": [[1, 2], [3, 4]], "weights": {"depth": [[0.5, 0], [1, -1]]},
         "scale_tril": [[[1, 0], [0.5, 2]], [[1, 0], [0, 0]]]}
}}
"""

RAIN = torch.tensor([0.75, 0.25], dtype=torch.float64)
LEVEL = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.25, 0.625]], dtype=torch.float64)
FLOOD = torch.full((2, 3, 2), 0.5, dtype=torch.float64)
FLOOD[1, 2] = torch.tensor([0.0, 1.0])
FLOOD[0, 1] = torch.tensor([0.875, 0.125])


def cpd(model: dg.Model, name: str) -> Tabular | LinearGaussian:
    found = next(step.cpd for step in model.steps() if step.name == name)
    assert isinstance(found, Tabular | LinearGaussian)
    return found


def table(model: dg.Model, name: str) -> Tensor:
    found = cpd(model, name)
    assert isinstance(found, Tabular)
    return found.probs.detach()


def rows(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64).log().softmax(-1)


def primes(*names: str) -> dg.Model:
    """A diamond with 2, 3, 5 and 7 states, the last variable a child of all, in mixed order."""
    a, b, c, d = names
    cpds = {
        d: Tabular(rows(5, 2, 3, 7), c, a, b),
        a: Tabular(rows(2), states=["u", "two words"]),
        c: Tabular(rows(2, 3, 5), a, b),
        b: Tabular(rows(2, 3), a, states=["x/y", "<1", "table"]),
    }
    return Composed(Graph(Variable(n, t.parents) for n, t in cpds.items()), cpds)


def joint(model: dg.Model) -> dict[tuple[int, ...], float]:
    """The probability of each configuration, in the order of the graph's names."""
    names = model.graph.names
    sizes = [table(model, name).shape[-1] for name in names]
    every = torch.tensor(list(itertools.product(*map(range, sizes))))
    values = {name: every[:, i] for i, name in enumerate(names)}
    probs = model.log_prob(values).exp().tolist()
    return dict(zip(map(tuple, every.tolist()), probs, strict=True))
