"""The unit graph of nets whose connections are known beforehand."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from zoo import Branching, Tokens, build

import daguerre as dg


def connected(net: nn.Module, *example, **options) -> set[tuple[str, str]]:
    """Pairs (input unit, output unit), with all units between them eliminated."""
    model = dg.from_module(net.eval(), *example)
    graph = dg.units(model, *example, **options)
    kept = [model.outputs, *model.graph.inputs]
    hidden = [n for n in graph.names if n.partition("[")[0] not in kept]
    return {(a.split("[")[1][:-1], b.split("[")[1][:-1]) for a, b in between(graph, hidden)}


def between(graph: dg.Graph, hidden: list[str]):
    return dg.eliminate(graph, hidden).edges


def numbered(pairs) -> set[tuple[str, str]]:
    return {(str(a), str(b)) for a, b in pairs}


class Masked(nn.Linear):
    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in nn.Linear
        return nn.functional.linear(input, self.weight * self.get_buffer("mask"), self.bias)


class Attention(nn.Module):
    """One head of causal attention, written out."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1) @ v


class Pointwise(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def made(n: int, hidden: int) -> nn.Module:
    """Germain et al. (2015), arXiv 1502.03509: output d depends on the inputs before d."""
    order, inner = torch.arange(1, n + 1), torch.arange(hidden) % (n - 1) + 1
    first = (inner[:, None] >= order).double()
    last = (order[:, None] > inner).double()
    return nn.Sequential(Masked(first), nn.ReLU(), Masked(last)).double()


def test_a_dense_decoder_has_the_edges_of_its_layers():  # F7 of the oracles
    layers = nn.Linear(50, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 784)
    graph = dg.units(nn.Sequential(*layers), torch.randn(2, 50))
    assert (len(graph.names), len(graph.edges)) == (1234, 206_800)
    hidden = [n for n in graph.names if n.startswith(("1[", "3["))]
    slim = dg.eliminate(graph, hidden)
    assert (len(slim.names), len(slim.edges)) == (834, 39_200)


@pytest.mark.parametrize(("n", "hidden"), [(2, 4), (5, 12), (8, 30)])
def test_made_is_autoregressive(n, hidden):
    net = made(n, hidden).float()
    expected = numbered((i, d) for i, d in product(range(n), repeat=2) if i < d)
    assert connected(net, torch.randn(3, n)) == expected


def test_causal_attention_sees_no_later_token():
    found = connected(Attention(3), torch.randn(2, 5, 3))
    times = {(int(a[0]), int(b[0])) for a, b in found}
    assert times == {(s, t) for s, t in product(range(5), repeat=2) if s <= t}
    assert len(found) == 15 * 9


def test_a_causal_transformer_of_torch_sees_no_later_token():
    tokens = torch.randint(11, (3, 6))
    found = connected(Tokens(), tokens)
    times = {(int(a), int(b.split(",")[0])) for a, b in found}
    assert times == {(s, t) for s, t in product(range(6), repeat=2) if s <= t}


def test_convolution_and_max_pooling_connect_receptive_fields():
    net = nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2))
    found = connected(net, torch.randn(2, 1, 8))
    expected = {
        (f"0,{i}", f"0,{j}") for j in range(4) for i in range(2 * j - 1, 2 * j + 3) if 0 <= i < 8
    }
    assert found == expected


@pytest.mark.parametrize(
    "net",
    [
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(2, 3, 2, dilation=2, bias=False),
        nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1),
    ],
    ids=["groups", "dilation", "transposed"],
)
def test_convolutions_in_closed_form_are_what_autograd_finds(net):
    closed = dg.units(net, torch.randn(2, 2, 5, 5)).edges
    model = dg.from_module(net, torch.randn(2, 2, 5, 5))
    assert set(closed) == jacobian(net, model.outputs)


def jacobian(net: nn.Module, output: str) -> set[tuple[str, str]]:
    """Connections by autograd: right for convolutions with weights drawn at random."""
    name = next(iter(dg.from_module(net, torch.randn(2, 2, 5, 5)).graph.inputs))
    full = torch.autograd.functional.jacobian(lambda x: net(x[None])[0], torch.randn(2, 5, 5))
    places = full.nonzero().tolist()
    return {
        (f"{name}[{','.join(map(str, p[3:]))}]", f"{output}[{','.join(map(str, p[:3]))}]")
        for p in places
    }


def test_layer_norm_connects_a_row_with_itself():
    found = connected(nn.LayerNorm(3), torch.randn(4, 2, 3))
    expected = {(f"{t},{i}", f"{t},{j}") for t in range(2) for i, j in product(range(3), repeat=2)}
    assert found == expected


@pytest.mark.parametrize("function", [torch.round, torch.sign, torch.relu, lambda x: x.clamp(-9)])
def test_functions_without_a_slope_connect_like_to_like(function):
    found = connected(Pointwise(function), torch.randn(2, 4))
    assert found == numbered((i, i) for i in range(4))


@pytest.mark.parametrize("function", [lambda x: x * 0.0, lambda x: x.clamp(1, 1), lambda x: x**0])
def test_a_number_that_cuts_off_leaves_no_connection(function):
    assert connected(Pointwise(function), torch.randn(2, 4)) == set()


def test_argmax_depends_on_everything():
    graph = dg.units(Pointwise(lambda x: x.argmax(1)), torch.randn(2, 4))
    assert graph.parents("argmax") == ("x[0]", "x[1]", "x[2]", "x[3]")


def test_what_is_multiplied_by_zero_is_not_connected():
    net = Pointwise(lambda x: x * torch.tensor([1.0, 0.0, 1.0]))
    assert connected(net, torch.randn(2, 3)) == {("0", "0"), ("2", "2")}


def test_views_and_concatenations_move_units():
    net = Pointwise(lambda x: torch.cat([x[:, 2:], x.flip(1)[:, :1]], 1))
    assert connected(net, torch.randn(2, 4)) == {("2", "0"), ("3", "1"), ("3", "2")}


@pytest.mark.parametrize("depth", [10, 40])
def test_two_halves_stay_apart_and_complete_however_deep(depth):
    half = torch.block_diag(torch.ones(8, 8), torch.ones(8, 8))
    layers = [m for _ in range(depth) for m in (Masked(half), nn.ReLU())]
    found = connected(nn.Sequential(*layers), torch.randn(2, 16))
    expected = numbered((i, j) for i, j in product(range(16), repeat=2) if (i < 8) == (j < 8))
    assert found == expected


@pytest.mark.parametrize("name", ["unet", "lstm", "shared", "dropout", "recurrence", "in place"])
def test_units_refine_the_graph_of_the_modules(name):
    net, example = build(name)
    model = dg.from_module(net, *example)
    graph = dg.units(model, *example, fold=False)
    edges = {(a.partition("[")[0], b.partition("[")[0]) for a, b in graph.edges}
    assert edges <= set(model.graph.edges)
    assert edges == set(model.graph.edges) or name == "in place"  # where values are written over
    assert {n.partition("[")[0] for n in graph.names} == set(model.graph.names)


def test_a_recurrent_net_sees_no_later_step():
    net, example = build("recurrence")
    times = {(int(a[0]), int(b[0])) for a, b in connected(net, *example)}
    assert times == {(s, t) for s, t in product(range(4), repeat=2) if s <= t}


def test_noise_units_are_random():
    net, example = build("dropout")
    graph = dg.units(net, *example)
    assert graph.kind("drop.noise[0]") == "prescribed"
    assert graph.kind("bernoulli[1]") == "prescribed"
    assert graph.parents("drop[2]") == ("fc[2]", "drop.noise[2]")
    assert dg.independent(graph, "bernoulli[0]", "drop.noise[1]", given="sigmoid[0]")


class Fixed(nn.Module):
    """A layer whose weights are no parameters: its zeros are part of the net."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.eye(3))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.get_buffer("weight"))


def test_zeros_among_weights_that_are_not_learned_connect_nothing():
    assert connected(Fixed(), torch.randn(2, 3)) == numbered((i, i) for i in range(3))


def test_the_net_keeps_its_parameters_and_the_random_state():
    net = made(4, 8).float()
    before = [p.clone() for p in net.parameters()]
    state = torch.get_rng_state()
    dg.units(net, torch.ones(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_an_activation_is_one_node_with_its_unit_unless_asked_apart():
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    assert len(dg.units(net, torch.randn(2, 2)).names) == 4
    assert len(dg.units(net, torch.randn(2, 2), fold=False).names) == 6


# Refusals


class OverTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(0)


def test_rows_that_depend_on_each_other_are_refused():
    with pytest.raises(dg.GraphError, match="rows of a batch depend on each other"):
        dg.units(OverTime(), torch.randn(4, 2))


def test_a_path_that_depends_on_the_data_is_refused_with_its_line():
    with pytest.raises(dg.GraphError, match=r"depends on the data \(.*zoo\.py"):
        dg.units(Branching(), torch.rand(4, 3))


def test_too_many_edges_are_refused_with_their_number():
    with pytest.raises(dg.GraphError, match="has 10,000 edges, more than max_edges=9,999"):
        dg.units(nn.Linear(100, 100), torch.randn(2, 100), max_edges=9_999)


def test_a_model_without_an_example_is_refused():
    net, example = build("mlp")
    with pytest.raises(dg.GraphError, match="needs what the net is called with"):
        dg.units(dg.from_module(net, *example))
