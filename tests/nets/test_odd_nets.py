"""Nets that do unusual things: read right, or refused with what is wrong."""

import pytest
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.distributions import Gamma
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import daguerre as dg


class Odd(nn.Module):
    """A linear layer, and whatever a function does with it."""

    def __init__(self, function):
        super().__init__()
        self.fc, self.function = nn.Linear(3, 3), function

    def forward(self, x: Tensor, *others):
        return self.function(self.fc, x, *others)


def _checkpointed(fc, x):
    return checkpoint(fc, x, use_reentrant=False)


def _autocast(fc, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return fc(x)


def _halved(fc, x):
    while x.norm() > 1:
        x = x / 2
    return fc(x)


def _in_place_on_its_input(fc, x):
    x.mul_(2)
    return fc(x)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x

    @staticmethod
    def backward(ctx, *grad_outputs):
        return grad_outputs[0]


FUNCTIONS = {
    "other leaves": lambda fc, x: [fc(x), None, 3, "a"],
    "its input": lambda fc, x: (x, fc(x)),
    "its parameter": lambda fc, x: (fc.weight, fc(x)),
    "its size": lambda fc, x: (x.shape[0], fc(x)),
    "checkpoint": _checkpointed,
    "autocast": _autocast,
    "own gradient": lambda fc, x: Square.apply(fc(x)),
    "while": _halved,
    "read index": lambda fc, x: fc(x)[:, int(x[0].argmax())],
    "mask of rows": lambda fc, x: fc(x)[x[:, 0] > 0],
    "unique": lambda fc, x: torch.unique(x.round()),
    "linear algebra": lambda fc, x: torch.linalg.svd(fc(x)[:, :, None] * x[:, None, :]),
    "changes its input": _in_place_on_its_input,
    "noise by shape": lambda fc, x: fc(x) + torch.randn(x.shape[0], 3),
    "multinomial": lambda fc, x: torch.multinomial(fc(x).softmax(-1), 1),
    "gumbel": lambda fc, x: nn.functional.gumbel_softmax(fc(x), hard=True),
    "gamma": lambda fc, x: Gamma(fc(x).exp(), 1.0).rsample(),
    "one draw for all": lambda fc, x: fc(x) + torch.randn(3),
    "size as number": lambda fc, x: fc(x) / x.shape[0],
    "mean of the batch": lambda fc, x: fc(x) - x.mean(0),
    "complex": lambda fc, x: torch.fft.fft(fc(x)).abs(),
    "batch inside": lambda fc, x: fc(x).t().reshape(-1),
    "sparse": lambda fc, x: torch.sparse.mm(x.to_sparse(), fc.weight),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_model_gives_what_the_net_gives(name):
    torch.manual_seed(1)
    net, x = Odd(FUNCTIONS[name]), torch.randn(4, 3)
    model = dg.from_module(net, x)
    fits = (4, 5, 1) if name not in ("sparse", "read index", "while") else (4,)
    for n in fits:
        inputs = torch.cat([x, x])[:n]
        torch.manual_seed(2)
        expected = pytree.tree_leaves(net(inputs.clone()))
        torch.manual_seed(2)
        found = pytree.tree_leaves(model(inputs.clone()))
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b) if isinstance(b, Tensor) else a == b


LAYERS = {
    "half": lambda: nn.Linear(3, 3).bfloat16(),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(3, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(3, 3)).eval(),
    "compiled": lambda: torch.compile(nn.Linear(3, 3)),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_are_wrapped_are_read(name):
    net = LAYERS[name]()
    dtype = torch.bfloat16 if name == "half" else torch.float32
    x = torch.randn(4, 3, dtype=dtype)
    model = dg.from_module(net, x)
    assert torch.equal(model(x[:3]), getattr(net, "_orig_mod", net)(x[:3]))


def test_a_transformer_is_read_without_gradients_too():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(3, 5, 8)
    with torch.no_grad():
        model = dg.from_module(net, x)
        ours, fast = model(x), net(x)
    assert torch.equal(ours, net(x))  # with gradients, on the ordinary path
    torch.testing.assert_close(ours, fast)
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_same_tensor_given_twice_is_two_inputs():
    x = torch.randn(4, 3)
    model = dg.from_module(nn.Bilinear(3, 3, 2), x, x)
    assert model.graph.parents("bilinear") == ("input1", "input2")


def test_arguments_that_are_no_tensors_are_part_of_the_net():
    net = Odd(lambda fc, x, mask: fc(x) if mask is None else x * mask)
    x = torch.randn(4, 3)
    assert dg.from_module(net, x, None).graph.edges == (("x", "fc"),)
    model = dg.from_module(net, x, torch.ones(4, 3))
    assert model.graph.inputs == ("x", "others_1")


def test_a_net_that_asks_for_the_size_of_the_batch_is_read_where_the_answer_is_the_same():
    net = Odd(lambda fc, x: fc(x) if x.shape[0] > 5 else x)
    model = dg.from_module(net, torch.randn(7, 3))
    assert "for batches of 6 or more rows" in model.notes
    with pytest.raises(dg.GraphError, match="batches of 6 or more rows, and 5 came"):
        model(torch.randn(5, 3))
    model = dg.from_module(net, torch.randn(4, 3))
    assert "for batches of 1 to 5 rows" in model.notes


def test_a_number_of_rows_that_takes_another_path_is_never_answered_wrongly():
    net = Odd(lambda fc, x: fc(x) if x.shape[0] % 2 == 0 else x)
    model, odd = dg.from_module(net, torch.randn(4, 3)), torch.randn(5, 3)
    assert torch.equal(model(torch.ones(4, 3)), net(torch.ones(4, 3)))
    with pytest.raises(dg.GraphError, match="for batches of exactly 4 rows, and 5 came"):
        model(odd)


def test_a_path_with_other_draws_is_another_path_and_no_fault_of_the_reading():
    net = Odd(lambda fc, x: fc(x) if x[0, 0] > 0 else fc(x) + torch.randn_like(x))
    x = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])  # turned around, it takes the other
    model = dg.from_module(net, x)
    assert torch.equal(model(x), net(x))
    with pytest.raises(dg.GraphError, match="another path"):
        model(-x)


def test_one_row_is_enough():
    net, x = Odd(lambda fc, x: fc(x)), torch.randn(1, 3)
    model = dg.from_module(net, x)
    assert torch.equal(model(torch.cat([x, x])), net(torch.cat([x, x])))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * self.count


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.total += 1
        return x * self.total


def _seeded(fc, x):
    return fc(x) + torch.randn(3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Counting(), "gives another mul on"),
        (Buffered(), r"changes its own buffers while it runs \(total\)"),
        (nn.LazyLinear(3), "weight is lazy and has no shape yet; call the net once first"),
        (nn.Linear(5, 3), "Linear cannot be read"),
        (Odd(_seeded), "draws from a generator of the net's own"),
        (Odd(lambda fc, x: torch.nested.nested_tensor([x, fc(x)])), "test_odd_nets.py"),
        (Odd(lambda fc, x: torch.multinomial(fc(x).softmax(-1), 2)), "multinomial draws random"),
    ],
    ids=["counter", "buffer", "lazy", "shape", "generator", "nested", "two draws"],
)
def test_what_cannot_be_read_is_refused_with_the_reason(net, message):
    with pytest.raises(dg.GraphError, match=message):
        dg.from_module(net, torch.randn(4, 3))


def test_an_example_without_rows_is_refused():
    with pytest.raises(dg.GraphError, match="the example has no rows"):
        dg.from_module(nn.Linear(3, 3), torch.zeros(0, 3))
