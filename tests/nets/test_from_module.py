"""Nets of the zoo read into models: the same numbers, and a graph that says what they are."""

import copy
import pickle
from functools import cache
from typing import Any, cast

import pytest
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from zoo import ZOO, AutoEncoder, Branching, Deep, Looping, Noisy, ResNet18, build

import daguerre as dg
from daguerre.nets.verify import verify

every = pytest.mark.parametrize("name", ZOO)
DRAFTED = {"causal transformer"}  # torch's encoder asks whether its mask is causal
WATCHED = {"transformer, training"}  # attention drops out inside of one operation of torch


@cache
def read(name: str):
    """A net of the zoo, its example and its model; not to be changed."""
    net, example = build(name)
    return net, example, dg.from_module(net, *example)


def same(a, b) -> bool:
    pairs = zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True)
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


@every
def test_the_model_gives_what_the_net_gives_to_the_bit(name):
    net, _, model = read(name)
    how = "draft" if name in DRAFTED else "watching" if name in WATCHED else "torch.export"
    assert how in model.notes[0]
    for n in (3, 5, 1):
        inputs = ZOO[name].example(n)
        torch.manual_seed(2)
        expected = net(*inputs)
        torch.manual_seed(2)
        if name in WATCHED:  # draws in another order, so the same numbers are put in
            verify(model, net, inputs)
        else:
            assert same(model(*inputs), expected), n


@every
def test_every_variable_is_below_an_input_or_noise_and_named_by_its_module(name):
    net, _, model = read(name)
    graph = model.graph
    modules = {path for path, _ in net.named_modules()}
    for variable in graph.variables:
        above = {variable.name, *graph.ancestors([variable.name])}
        assert any(graph[a].map != "deterministic" for a in above) or "position" in variable.name
        scope = variable.name.split("@")[0].rpartition(".")[0]
        assert variable.map == "input" or scope in modules


@every
def test_gradients_reach_the_parameters_of_the_net(name):
    net, example, model = read(name)
    if ZOO[name].train:
        net = model  # only that there are gradients: draws differ from call to call
    floats = [x for x in pytree.tree_leaves(model(*example)) if x.requires_grad]
    expected = [x for x in pytree.tree_leaves(net(*example)) if x.requires_grad]
    assert len(floats) == len(expected)
    if floats and net is not model:
        parameters = list(net.parameters())
        ours = torch.autograd.grad([x.sum() for x in floats], parameters, allow_unused=True)
        theirs = torch.autograd.grad([x.sum() for x in expected], parameters, allow_unused=True)
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.allclose(a, b, atol=1e-6)


def test_a_residual_net_is_read_call_by_call_or_block_by_block():
    net, example = build("resnet18")
    graph = dg.from_module(net, *example).graph
    assert graph.parents("layer1.0.conv1") == ("maxpool",)
    assert graph.parents("layer1.0.add") == ("maxpool", "layer1.0.bn2")
    assert graph.parents("layer2.0.add") == ("layer2.0.bn2", "layer2.0.downsample.1")
    assert len(graph.names) == 1 + 20 + 20 + 17 + 8 + 1 + 1 + 1 + 1
    coarse = dg.from_module(net, *example, depth=1)
    assert coarse.graph.order[-4:] == ("layer4", "avgpool", "view", "fc")
    assert coarse.graph.edges[:3] == (("x", "conv1"), ("conv1", "bn1"), ("bn1", "relu"))
    assert torch.equal(coarse(*example), net(*example))


def test_a_shared_module_is_marked_at_its_second_call():
    net, example = build("shared")
    graph = dg.from_module(net, *example).graph
    assert graph.edges == (
        ("tokens", "embedding"),
        ("embedding", "fc"),
        ("fc", "relu"),
        ("relu", "fc@1"),
        ("fc@1", "head"),
    )


def test_random_operations_are_latent_variables():
    net, example = build("dropout")
    model = dg.from_module(net, *example)
    kinds = {n: model.kind(n) for n in model.graph.names}
    assert kinds["drop.noise"] == kinds["noise"] == kinds["bernoulli"] == "prescribed"
    assert kinds["fc"] == "deterministic"
    assert kinds["drop"] == "implicit"
    assert model.graph.parents("drop") == ("fc", "drop.noise")
    assert model.graph.parents("bernoulli") == ("sigmoid",)
    assert dg.independent(model, "noise", "drop")


def test_dropout_is_the_identity_in_eval_mode():
    torch.manual_seed(0)
    net = Noisy().eval()
    model = dg.from_module(net, torch.randn(2, 5))
    assert model.graph.parents("drop") == ("fc",)
    assert "drop.noise" not in model.graph


def test_an_edge_for_a_shape_alone_is_dropped():
    net, example = build("dict and draws")
    graph = dg.from_module(net, *example).graph
    noise = [v.name for v in graph.variables if v.map == "stochastic"]
    assert [graph.parents(n) for n in noise] == [()]
    assert dg.independent(graph, noise, "encoder")


def test_outputs_keep_the_structure_of_what_the_net_returns():
    torch.manual_seed(0)
    model = dg.from_module(AutoEncoder(), {"x": torch.randn(3, 6)})
    assert model.graph.inputs == ("batch.x",)
    assert set(model.outputs) == {"x", "q"}
    loc, log_scale = model.outputs["q"]
    assert log_scale not in model.graph.ancestors([loc])


def test_the_whole_model_is_a_model_like_all_others():
    net, example = build("mlp")
    model = dg.from_module(net, *example)
    assert model.kind("2") == "deterministic"
    assert "[n, 8]" in str(model.shapes())
    values = model.sample(given={"input": example[0]})
    assert set(values) == {"input", "0", "1", "2"}
    slim = dg.eliminate(model, ["0", "1"])
    assert slim.graph.edges == (("input", "2"),)
    assert torch.equal(slim.sample(given={"input": example[0]})["2"], net(*example))
    cut = dg.do(model, **{"1": torch.zeros(8)})
    assert torch.equal(
        cut.sample(given={"input": example[0]})["2"][0], net.get_parameter("2.bias")
    )


class Reserved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x.to(torch.float64)).half()


def test_variables_with_dots_and_with_names_of_modules_are_replaced():
    net, example = build("resnet18")
    model = dg.do(dg.from_module(net, *example), **{"layer1.0.add": torch.zeros(4, 8, 8)})
    values = model.sample(given={"x": example[0]})
    assert values["layer1.0.relu@1"].abs().sum() == 0
    x = torch.randn(2, 3)
    model = dg.from_module(Reserved(), x)
    cut = dg.do(model, **{model.graph.names[1]: torch.zeros(3, dtype=torch.float64)})
    assert model.graph.names[1] in {"to", "_to_copy"}
    assert torch.equal(cut.sample(given={"x": x})["exp"], torch.ones(2, 3, dtype=torch.float64))


def test_the_model_shares_the_parameters_and_follows_them():
    net, example = build("mlp")
    model = dg.from_module(net, *example)
    with torch.no_grad():
        net.get_parameter("0.weight").mul_(2.0)
    assert torch.equal(model(*example), net(*example))
    assert {id(p) for p in model.parameters()} == {id(p) for p in net.parameters()}
    assert torch.equal(model.double()(example[0].double()), net(example[0].double()))


def test_a_copy_and_a_pickled_model_run_on_parameters_of_their_own():
    net, example = build("mlp")
    model = dg.from_module(net, *example)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(*example), net(*example))
        assert next(twin.parameters()) is not next(net.parameters())


def test_a_path_that_depends_on_the_data_is_checked_at_each_run():
    torch.manual_seed(0)
    net, x = Branching(), torch.rand(4, 3) + 0.1
    model = dg.from_module(net, x)
    assert "draft" in model.notes[0]
    assert "minus" not in model.graph
    assert "gt" in model.graph.ancestors(["plus"])
    assert torch.equal(model(2 * x), net(2 * x))
    with pytest.raises(dg.GraphError, match=r"another path .*zoo\.py:\d+\); import the net"):
        model(-x)


def test_numbers_read_out_of_tensors_are_checked_at_each_run():
    torch.manual_seed(0)
    net, x = Looping(), torch.rand(4, 3)
    model = dg.from_module(net, x)
    assert "watching it run" in model.notes[0]
    assert torch.equal(model(x), net(x))
    with pytest.raises(dg.GraphError, match=r"the net reads .* out of a tensor, and .* then"):
        model(x / 2)


def test_a_recording_for_one_batch_size_says_so():
    net = nn.Sequential(nn.Unflatten(1, (2, 2)), Stacked())
    model = dg.from_module(net, torch.randn(3, 4))
    assert any("batches of exactly 3 rows" in note for note in model.notes)
    with pytest.raises(dg.GraphError, match="read for batches of exactly 3 rows, and 2 came"):
        model(torch.randn(2, 4))


def test_a_net_whose_first_dimension_is_time_is_read_for_any_length():
    net = nn.LSTM(4, 5)
    model = dg.from_module(net, torch.randn(3, 7, 4))
    x = torch.randn(6, 7, 4)
    assert same(model(x), net(x))


def test_the_net_is_left_as_it_was():
    net = ResNet18().eval()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    dg.from_module(net, x)
    assert torch.equal(x, kept)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    assert not net._forward_hooks


def test_hundreds_of_operations_are_read():
    model = dg.from_module(Deep(400), torch.randn(2, 4))
    assert len(model.graph.names) == 401


class Stacked(nn.Module):
    """Says three where it means the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(3, 4) * 2


# Refusals


class Outside(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + torch.from_numpy(x.detach().numpy() * 2)


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.zeros(5, 5)


class Permuting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, torch.randperm(3)]


def test_what_happens_outside_of_torch_is_refused_with_its_line():
    with pytest.raises(dg.GraphError, match=r"Outside cannot be read") as error:
        dg.from_module(Outside(), torch.randn(2, 3))
    assert "test_from_module.py" in str(error.value)
    assert "numpy()" in str(error.value)
    assert "computes something outside of torch" in str(error.value)


def test_a_net_that_fails_on_its_example_is_refused_with_its_line():
    with pytest.raises(dg.GraphError, match=r"x @ torch\.zeros\(5, 5\)"):
        dg.from_module(Failing(), torch.randn(2, 3))


def test_a_draw_from_an_unknown_distribution_is_refused_with_its_line():
    with pytest.raises(dg.GraphError, match=r"randperm draws random numbers .*test_from_module"):
        dg.from_module(Permuting(), torch.randn(2, 3))


def test_batch_norm_in_training_mode_is_refused():
    with pytest.raises(dg.GraphError, match=r"bn1 is a BatchNorm2d in training mode.*eval"):
        dg.from_module(ResNet18(), torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: dg.from_module(cast(Any, "net"), torch.ones(1)),
            TypeError,
            "takes an nn.Module, not 'net'",
        ),
        (lambda: dg.from_module(nn.Linear(2, 2)), TypeError, "needs what Linear is called with"),
        (lambda: dg.from_module(nn.Linear(2, 2), 3), TypeError, "needs what Linear is called"),
        (
            lambda: dg.from_module(nn.Linear(2, 2), torch.ones(1, 2), depth=0),
            ValueError,
            "depth counts levels of modules from 1, not 0",
        ),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_the_wrong_number_of_inputs_is_named():
    net, example = build("no_grad")
    model = dg.from_module(net, *example)
    with pytest.raises(dg.GraphError, match="expected the tensors x, scale; 1 came"):
        model(example[0])
