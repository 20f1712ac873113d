"""The same numbers by fewer operations."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from daguerre.recorded.shorter import shorten

CASES = {
    "a factor of one": (lambda x, y, w: 1 * (x * 1.0).detach(), []),
    "one that makes another type": (lambda x, y, w: x.int() * 1.0, ["_to_copy", "mul"]),
    "a product and a sum": (lambda x, y, w: x + y * x, ["addcmul"]),
    "a sum and a product": (lambda x, y, w: y * x + x, ["addcmul"]),
    "a product of matrices": (lambda x, y, w: x + y @ w, ["addmm"]),
    "one product in another": (lambda x, y, w: x @ w + y @ w, ["mm", "addmm"]),
    "a product that is divided": (lambda x, y, w: (x + y @ w) / 3, ["addmm"]),
    "a product that is scaled": (lambda x, y, w: (x + y @ w) * -0.5, ["addmm"]),
    "a layer that is scaled": (lambda x, y, w: torch.addmm(w[0], x, w) / 2, ["select", "addmm"]),
    "a product that is used twice": (
        lambda x, y, w: (m := y * x) + x + m.exp(),
        ["mul", "add", "exp", "add"],
    ),
    "a sum that is used twice": (
        lambda x, y, w: (m := torch.addmm(x, y, w)) / 2 + m.exp(),
        ["addmm", "div", "exp", "add"],
    ),
    "a product of a number": (lambda x, y, w: x + 3 * y, ["mul", "add"]),
    "a product of one row": (lambda x, y, w: x + w[0] * w[1], ["select", "select", "mul", "add"]),
    "a product of another type": (
        lambda x, y, w: x + y.float() * y.float(),
        ["_to_copy", "_to_copy", "mul", "add"],
    ),
    "a product of truths": (
        lambda x, y, w: ((x > 0) * (y > 0) + (x > 1)).double(),
        ["gt", "gt", "mul", "gt", "add", "_to_copy"],
    ),
    "a weighted sum": (lambda x, y, w: torch.add(x, y * x, alpha=2), ["mul", "add"]),
    "a sum divided by nothing": (lambda x, y, w: (x + y @ w) / 0, ["addmm", "div"]),
    "a sum divided by all": (lambda x, y, w: (x + y @ w) / torch.inf, ["addmm", "div"]),
}


@pytest.mark.parametrize("case", CASES)
def test_shorter_code_gives_the_same(case):
    function, operations = CASES[case]
    torch.manual_seed(0)
    given = torch.randn(3, 4).double(), torch.randn(3, 4).double(), torch.randn(4, 4).double()
    module = make_fx(function)(*given)
    shorten(module.graph)
    module.recompile()
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    assert [node.target.overloadpacket.__name__ for node in calls] == operations
    torch.testing.assert_close(module(*given), function(*given))
