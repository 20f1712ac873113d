"""Saving and loading: everything comes back, nothing is executed, all or none is set."""

import json
from collections.abc import Callable

import pytest
import torch
from players import gan, vae
from torch import nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.graph import Lag, Plate, Variable


class Tied(nn.Module):
    """Two layers that share a weight, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.register_buffer("steps", torch.randint(100, (2,)))


def transposed() -> nn.Module:
    net = nn.Linear(3, 2)
    net.weight = nn.Parameter(torch.randn(3, 2).t())
    return net


def trained_norm() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net(torch.randn(8, 2))
    return net


MODULES: dict[str, Callable[[], nn.Module]] = {
    "model": lambda: vae().modules["p"],
    "tied weights and a buffer": Tied,
    "transposed weight": transposed,
    "batch norm": trained_norm,
    "half precision": lambda: nn.Linear(3, 2).bfloat16(),
    "double precision": lambda: nn.Linear(3, 2).double(),
    "scalar and empty": lambda: nn.ParameterDict({"a": torch.randn(()), "b": torch.zeros(0, 3)}),
    "nothing to save": lambda: nn.Identity(),
}


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_comes_back_bit_by_bit(name, tmp_path):
    module, path = MODULES[name](), tmp_path / "m.safetensors"
    before = state(module)
    dg.save(module, path)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    saved = dg.load(path, into=module)
    assert equal(state(module), before)
    assert equal(saved.tensors["model"], before)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_weights_that_were_shared_still_are(tmp_path):
    net, other = Tied(), Tied()
    dg.save(net, tmp_path / "m.safetensors")
    dg.load(tmp_path / "m.safetensors", into=other)
    assert other.one.weight is other.two.weight
    assert torch.equal(other.one.weight, net.one.weight)


def test_several_modules_share_a_file(tmp_path):
    game, path = gan(), tmp_path / "gan.safetensors"
    dg.save(game.modules, path, notes={"epoch": 3, "mmd": [0.1, None]})
    fresh = gan().modules
    for module in fresh.values():
        nn.init.zeros_(next(iter(module.parameters())))
    saved = dg.load(path, into=fresh)
    for role, module in game.modules.items():
        assert equal(state(fresh[role]), state(module))
    assert saved.notes == {"epoch": 3, "mmd": [0.1, None]}
    assert {*saved.tensors} == {"p", "critic"}
    one = gan().modules["critic"]
    dg.load(path, into={"critic": one})
    assert equal(state(one), state(game.modules["critic"]))


def test_the_graph_of_each_model_is_in_the_file(tmp_path):
    game, path = gan(), tmp_path / "gan.safetensors"
    p = game.modules["p"]
    assert isinstance(p, dg.Model)
    dg.save(game.modules, path)
    saved = dg.load(path)
    assert saved.graphs == {"p": p.graph}
    assert saved.graphs["p"].kind("x") == "implicit"


def test_graphs_with_plates_lags_and_bijections_come_back(tmp_path):
    graph = dg.Graph(
        [
            Variable("c", map="input"),
            Variable("w", plates=("groups",)),
            Variable("z", ("c",), plates=("groups", "rows"), lags=(Lag("z", 1), Lag("w", 2))),
            Variable("x", ("z", "w"), "deterministic", inverts="z", plates=("rows",)),
        ],
        [Plate("groups", 5), Plate("rows")],
    )

    class Any(dg.Model):
        pass

    model = Any()
    model.graph = graph
    dg.save(model, tmp_path / "m.safetensors")
    back = dg.load(tmp_path / "m.safetensors").graphs["model"]
    assert back == graph
    assert (back.variables, back.plates) == (graph.variables, graph.plates)


def test_the_file_is_plain_safetensors(tmp_path):
    from safetensors import safe_open

    game, path = vae(), tmp_path / "m.safetensors"
    dg.save(game.modules, str(path))
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["daguerre"])
        assert "p/net.0.weight" in [*file.keys()]
    assert header["modules"] == ["p", "q"]


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (lambda: {"p": nn.Linear(2, 3)}, "holds no module 'p'; known: model"),
        (lambda: {"modle": nn.Linear(2, 3)}, "no module 'modle'; did you mean 'model'"),
        (
            lambda: nn.Linear(2, 4),
            r"weight of 'model' is \[3, 2\] float32 in the file and \[4",
        ),
        (lambda: nn.Linear(2, 3).double(), r"\[3, 2\] float32 in the file and \[3, 2\] float64"),
        (
            lambda: nn.Linear(2, 3, bias=False),
            r"bias of 'model' is \[3\] float32 in the file and",
        ),
        (lambda: nn.Sequential(nn.Linear(2, 3)), r"0\.weight of 'model' is absent in the file"),
    ],
    ids=["name", "typo", "shape", "dtype", "missing", "prefix"],
)
def test_weights_of_another_module_are_refused(into, message, tmp_path):
    path, target = tmp_path / "m.safetensors", into()
    dg.save(nn.Linear(2, 3), path)
    modules = target if isinstance(target, dict) else {"model": target}
    before = {name: state(module) for name, module in modules.items()}
    with pytest.raises(dg.GraphError, match=message):
        dg.load(path, into=target)
    assert all(equal(state(module), before[name]) for name, module in modules.items())


def test_when_the_second_module_does_not_fit_the_first_stays(tmp_path):
    path = tmp_path / "m.safetensors"
    dg.save({"a": nn.Linear(2, 3), "b": nn.Linear(2, 3)}, path)
    modules = {"a": nn.Linear(2, 3), "b": nn.Linear(3, 3)}
    before = state(modules["a"])
    with pytest.raises(dg.GraphError, match="weight of 'b'"):
        dg.load(path, into=modules)
    assert equal(state(modules["a"]), before)


def test_weights_of_another_graph_are_refused(tmp_path):
    """The same tensors, but a Dirac in place of a density."""
    path = tmp_path / "m.safetensors"
    dg.save(vae().modules["p"], path)
    generator = gan().modules["p"]
    before = state(generator)
    with pytest.raises(dg.GraphError, match=r"holds Graph\(-> z; z -> x\).*Graph\(-> z; z => x\)"):
        dg.load(path, into=generator)
    assert equal(state(generator), before)


@pytest.mark.parametrize("modules", [3, {"p": 3}, [nn.Linear(1, 1)], None], ids=str)
def test_what_is_no_module_is_refused(modules, tmp_path):
    with pytest.raises(TypeError, match=r"expected a module or \{name: module\}, not"):
        dg.save(modules, tmp_path / "m.safetensors")
    assert not [*tmp_path.iterdir()]


def test_notes_that_are_no_json_are_refused(tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        dg.save(nn.Linear(1, 1), tmp_path / "m.safetensors", notes={"x": torch.zeros(1)})
    assert not [*tmp_path.iterdir()]


def test_a_trained_model_comes_back_to_the_same_losses(tmp_path):
    game, path = vae(), tmp_path / "m.safetensors"
    dg.fit(game.objective, game.x, steps=5)
    dg.save(game.modules, path)
    fresh = vae()
    dg.load(path, into=fresh.modules)
    torch.manual_seed(0)
    loss = game.objective.losses(game.x)["model"]
    torch.manual_seed(0)
    assert torch.equal(fresh.objective.losses(fresh.x)["model"], loss)


def test_composed_models_are_saved_with_their_base(tmp_path):
    p = vae().modules["p"]
    assert isinstance(p, dg.Model)
    q = dg.replace(p, x=lambda z: Normal(z, 1.0))
    dg.save(q, tmp_path / "m.safetensors")
    before = state(q)
    nn.init.zeros_(next(iter(p.parameters())))
    dg.load(tmp_path / "m.safetensors", into=q)
    assert equal(state(q), before)
