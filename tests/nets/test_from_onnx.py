"""ONNX files read into models: the numbers of the reference implementation, and a graph."""

import copy
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_zoo import (
    BOOL,
    FILES,
    FLOAT,
    INT,
    attention,
    branching,
    convolution,
    external,
    functional,
    info,
    mlp,
    model_of,
    node,
    recurrent,
    rng,
    several,
    tokens,
    weights,
)

import daguerre as dg
from daguerre.nets.imported import Imported
from daguerre.nets.onnx_file import from_onnx


@pytest.fixture
def read(tmp_path: Path):
    """Write a model to a file and read it into another."""

    def read(model, **options: Any) -> Imported:
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        return from_onnx(path, **options)

    return read


def agrees(ours: Imported, model, *inputs: np.ndarray) -> None:
    """Whether the two give the same, to the bit."""
    names = [i.name for i in model.graph.input]
    with np.errstate(all="ignore"):
        theirs: Any = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    found = ours(*map(torch.from_numpy, inputs))
    for output, expected in zip(model.graph.output, theirs, strict=True):
        value = found[output.name] if isinstance(found, dict) else found
        assert value.numpy().dtype == expected.dtype
        assert value.shape == expected.shape
        assert value.numpy().tobytes() == expected.tobytes(), output.name


@pytest.mark.parametrize("name", FILES)
def test_the_model_gives_what_the_reference_gives_to_the_bit(read, name):
    model = FILES[name]()
    ours = read(model)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    for n in (2, 3, 5, 1):
        agrees(ours, model, weights(n, *shape))
    assert not ours.recording.is_bounded
    assert not torch.is_tensor(ours.outputs)
    assert "without gradients" in ours.notes[0]


def test_a_net_of_named_nodes_keeps_their_names(read):
    ours = read(mlp())
    assert ours.graph.edges == (("x", "first"), ("first", "relu"), ("relu", "second"))
    values = ours.sample(given={"x": torch.randn(3, 4)})
    assert values["first"].shape == (3, 8)
    assert dg.independent(ours, "x", "second", given="relu")
    assert "[n, 8]" in str(ours.shapes())
    assert "net.onnx" in repr(ours)


def test_a_chain_of_operators_is_a_chain(read):
    order = read(convolution()).graph.order
    assert order[1:3] == ("conv", "batchnormalization")
    assert order[-1] == "flatten"


def test_sizes_are_no_parents_and_states_made_of_them_no_variables(read):
    graph = read(recurrent()).graph
    assert graph.edges == (("x", "transpose"), ("transpose", "lstm_1"), ("lstm_1", "squeeze"))


def test_modules_in_the_names_of_nodes_are_seen_at_any_depth(read):
    graph = read(attention()).graph
    assert graph.parents("att.matmul") == ("att.transpose", "att.transpose_1")
    assert graph.parents("att.reshape") == ("att.q",)
    assert read(attention(), depth=1).graph.edges == (
        ("x", "att"),
        ("att", "out"),
        ("out", "reshape"),
    )


def test_branches_and_functions_are_one_variable_with_all_they_use_as_parents(read):
    model = branching()
    ours = read(model)
    assert set(ours.graph.parents("if")) == {"greater", "relu"}
    x = weights(3, 4)
    for flag in (1.0, -1.0):
        agrees(ours, model, x, np.full(2, flag, np.float32))
    assert read(functional()).graph.parents("celu") == ("twice",)


def test_several_outputs_are_a_dictionary(read):
    model = several()
    ours = read(model)
    assert ours.outputs == {
        k: ours.outputs[k] for k in ("sum", "right", "x", "w", "size", "zeros")
    }
    assert ours.outputs["x"] == "x"
    assert ours.graph.parents(ours.outputs["right"]) == ("matmul_1",)
    assert ours.graph.parents(ours.outputs["w"]) == ()
    for n in (1, 2, 4):
        agrees(ours, model, weights(n, 4), weights(n, 2))


def test_other_free_sizes_may_differ_from_the_example(read):
    model = tokens()
    ours = read(model)
    assert ours.notes[1] == "seen with length = 4"
    for n, length in ((3, 4), (2, 7), (4, 1)):
        ids, mask = rng.integers(0, 9, (n, length)), rng.integers(0, 2, (n, length)) > 0
        agrees(ours, model, ids, mask)


def test_rows_and_tokens_in_one_dimension_are_no_variable_if_their_number_is_free(read):
    nodes = [
        node("Reshape", "x flat", "f"),
        node("MatMul", "f w", "h"),
        node("Shape", "x", "s"),
        node("Reshape", "h s", "y"),
    ]
    held = {"flat": np.array([-1, 4]), "w": weights(4, 4)}
    free = model_of(nodes, [info("x", ("N", "T", 4))], ["y"], held)
    ours = read(free)
    assert ours.graph.edges == (("x", "reshape"),)
    agrees(ours, free, weights(2, 7, 4))
    known = model_of(nodes, [info("x", ("N", 3, 4))], ["y"], held)
    ours = read(known)
    assert ours.graph.edges == (("x", "reshape"), ("reshape", "matmul"), ("matmul", "reshape_1"))
    assert ours.sample(given={"x": torch.randn(2, 3, 4)})["matmul"].shape == (2, 3, 4)
    agrees(ours, known, weights(5, 3, 4))


def test_sizes_that_depend_on_the_data_are_not_taken_for_constants(read):
    nodes = [
        node("NonZero", "x", "where"),
        node("Shape", "where", "s"),
        node("Cast", "s", "f", to=FLOAT),
        node("ReduceSum", "f", "count", keepdims=0),
        node("Mul", "x count", "y"),
    ]
    for first in ("N", 2):
        model = model_of(nodes, [info("x", (first, 3))], ["y"])
        ours = read(model)
        assert ours.graph.edges == (("x", "mul"),)
        for x in (np.ones((2, 3)), np.eye(2, 3), np.zeros((2, 3))):
            agrees(ours, model, x.astype(np.float32))


@pytest.mark.parametrize("n", [1, 4])
def test_a_file_for_one_batch_is_a_model_for_that_batch(read, n):
    model = mlp()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = n
    ours = read(model)
    assert (ours.recording.least, ours.recording.most) == (n, n)
    assert any(f"for batches of exactly {n} rows" in note for note in ours.notes)
    assert ours.graph.edges == (("x", "first"), ("first", "relu"), ("relu", "second"))
    agrees(ours, model, weights(n, 4))
    with pytest.raises(dg.GraphError, match=f"read for batches of exactly {n} rows, and 7 came"):
        ours(torch.randn(7, 4))


def test_other_sizes_may_be_free_where_the_batch_is_fixed(read):
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Relu", "t", "y")]
    model = model_of(nodes, [info("x", (2, "T", 4))], ["y"])
    ours = read(model)
    assert ours.graph.edges == (("x", "transpose"), ("transpose", "relu"))
    assert ours.sample(given={"x": torch.randn(2, 9, 4)})["relu"].shape == (2, 9, 4)
    agrees(ours, model, weights(2, 6, 4))


def test_a_batch_that_is_fixed_inside_the_file_is_found(read):
    nodes = [node("Reshape", "x two", "r"), node("Relu", "r", "y")]
    model = model_of(nodes, [info("x", ("N", 3))], ["y"], {"two": np.array([2, 3])})
    ours = read(model)
    assert (ours.recording.least, ours.recording.most) == (2, 2)
    agrees(ours, model, weights(2, 3))


def test_a_single_row_that_the_file_treats_in_another_way_is_refused(read):
    nodes = [node("Squeeze", "x", "s"), node("Relu", "s", "y")]
    model = model_of(nodes, [info("x", ("N", 1, 3))], ["y"])
    ours = read(model)
    agrees(ours, model, weights(4, 1, 3))
    with pytest.raises(dg.GraphError, match="read for batches of 2 or more rows, and 1 came"):
        ours(torch.randn(1, 1, 3))


def test_newer_exports_tell_the_modules_in_their_metadata(read):
    scopes = [
        ["", "layer", "layer.0", "linear"],
        ["", "layer", "layer.1", "relu"],
        ["", "head", "linear_1"],
        ["", "add"],
    ]
    nodes = [
        node("MatMul", "x w", "a", "node_linear"),
        node("Relu", "a", "r", "node_relu"),
        node("MatMul", "r w", "b", "node_linear_1"),
        node("Add", "b x", "y", "node_add"),
    ]
    for n, scope in zip(nodes, scopes, strict=True):
        prop = n.metadata_props.add()
        prop.key, prop.value = "pkg.torch.onnx.name_scopes", repr(scope)
    model = model_of(nodes, [info("x", ("s0", 4))], ["y"], {"w": weights(4, 4)})
    assert read(model).graph.order == ("x", "layer.0", "layer.1", "head", "add")
    assert read(model, depth=1).graph.order == ("x", "layer", "head", "add")


def test_modules_of_sequences_are_not_named_twice(read):
    nodes = [
        node("MatMul", "x w", "a", "/net/layer1/layer1.0/fc/MatMul"),
        node("Relu", "a", "y", "/net/layer1/layer1.1/Relu"),
    ]
    model = model_of(nodes, [info("x", ("N", 4))], ["y"], {"w": weights(4, 4)})
    assert read(model).graph.order == ("x", "net.layer1.0.fc", "net.layer1.1")
    assert read(model, depth=2).graph.order == ("x", "net.layer1")


# Noise


def stochastic():
    nodes = [
        node("MatMul", "x w", "loc"),
        node("RandomNormalLike", "loc", "eps", mean=1.0, scale=0.5),
        node("Add", "loc eps", "z"),
        node("RandomUniform", "", "u", shape=[4], low=2.0, high=3.0),
        node("Mul", "z u", "y"),
    ]
    return model_of(nodes, [info("x", ("N", 4))], ["y"], {"w": weights(4, 4)})


def test_random_nodes_are_latent_and_edges_for_a_shape_are_dropped(read):
    ours = read(stochastic())
    assert ours.graph.edges == (
        ("x", "matmul"),
        ("matmul", "add"),
        ("noise", "add"),
        ("add", "mul"),
        ("noise_1", "mul"),
    )
    torch.manual_seed(0)
    values = ours.sample(given={"x": torch.randn(4000, 4)})
    assert abs(values["noise"].mean() - 1) < 0.05
    assert abs(values["noise"].std() - 0.5) < 0.05
    assert 2 <= values["noise_1"].min() <= values["noise_1"].max() <= 3
    torch.manual_seed(1)
    first = ours(torch.ones(2, 4))
    assert not torch.equal(first, ours(torch.ones(2, 4)))
    assert ours.kind("noise") == "prescribed"


def dropping(*, training: bool | None):
    nodes = [node("Dropout", "x ratio training", "d"), node("Relu", "d", "y")]
    held: dict[str, Any] = {"ratio": np.float32(0.25)}
    inputs = [info("x", ("N", 50))]
    if training is None:
        inputs.append(info("training", (), BOOL))
    else:
        held["training"] = np.array(training)
    return model_of(nodes, inputs, ["y"], held)


def test_dropout_is_noise_in_training_and_the_identity_otherwise(read):
    ours = read(dropping(training=True))
    assert ours.graph.edges == (("x", "dropout"), ("noise", "dropout"), ("dropout", "relu"))
    torch.manual_seed(0)
    y = ours(torch.ones(200, 50))
    assert {*y.unique().tolist()} == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert abs((y == 0).float().mean() - 0.25) < 0.02
    idle = read(dropping(training=False))
    assert idle.graph.edges == (("x", "dropout"), ("dropout", "relu"))
    agrees(idle, dropping(training=False), weights(2, 50))
    with pytest.raises(dg.GraphError, match=r"Dropout \(d in net.onnx\) decides when it is run"):
        read(dropping(training=None))


def test_the_mask_of_a_dropout_is_an_output_like_others(read):
    nodes = [node("Dropout", "x ratio yes", "d mask")]
    held = {"ratio": np.float32(0.5), "yes": np.ones((), bool)}
    ours = read(model_of(nodes, [info("x", ("N", 9))], ["d", info("mask", ("N", 9), BOOL)], held))
    found = ours(torch.ones(3, 9))
    assert torch.equal(found["mask"], found["d"] > 0)
    assert found["mask"].dtype == torch.bool


def test_draws_may_depend_on_the_input(read):
    nodes = [
        node("Sigmoid", "x", "p"),
        node("Bernoulli", "p", "b", dtype=INT),
        node("Multinomial", "x", "c", dtype=INT),
        node("Add", "b c", "y"),
    ]
    ours = read(model_of(nodes, [info("x", ("N", 3))], [info("y", (None, None), INT)]))
    assert {v.name: ours.graph.parents(v.name) for v in ours.graph.variables} == {
        "x": (),
        "sigmoid": ("x",),
        "bernoulli": ("sigmoid",),
        "bernoulli_1": ("bernoulli",),
        "multinomial": ("x",),
        "multinomial_1": ("multinomial",),
        "add": ("bernoulli_1", "multinomial_1"),
    }
    torch.manual_seed(0)
    x = torch.tensor([[0.0, 1.0, -1.0]]).expand(4000, 3)
    values = ours.sample(given={"x": x})
    assert torch.allclose(values["bernoulli"].mean(0), x[0].sigmoid(), atol=0.03)
    shares = torch.bincount(values["multinomial"]) / 4000
    assert torch.allclose(shares, x[0].softmax(0), atol=0.03)
    assert values["add"].dtype == torch.int64


# What a model can do


def test_a_copy_and_a_pickled_model_give_the_same(read):
    for model in (mlp(), recurrent(), branching(), stochastic(), dropping(training=True)):
        ours = read(model)
        dims = [i.type.tensor_type.shape.dim for i in model.graph.input]
        given = [torch.from_numpy(weights(*(d.dim_value or 3 for d in ds))) for ds in dims]
        found = []
        for twin in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            torch.manual_seed(0)
            found.append(twin(*given))
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])


def test_the_model_follows_its_type_and_can_be_cut(read):
    ours = read(mlp())
    x = torch.randn(3, 4)
    cut = dg.do(ours, relu=torch.zeros(8))
    assert not cut.sample(given={"x": x})["second"].any()
    assert torch.equal(ours(x.requires_grad_()), ours(x))
    assert not ours(x).requires_grad
    assert ours.double()(x.double()).dtype == torch.float64


# Files that are no models


def test_paths_without_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.onnx"):
        from_onnx(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match=r"is a folder; from_onnx takes the \.onnx file in it"):
        from_onnx(tmp_path)
    with pytest.raises(ValueError, match="depth counts levels of modules from 1, not 0"):
        from_onnx(tmp_path / "none.onnx", depth=0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(range(7, 250)),
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        mlp().SerializeToString()[:-20],
        mlp().SerializeToString()[:30],
        b"PK\x03\x04 what torch saves",
        b"some text",
    ],
    ids=["empty", "random", "png", "truncated", "cut short", "zip", "text"],
)
def test_what_is_no_onnx_file(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.onnx is no (valid )?ONNX file"):
        from_onnx(path)


def test_weights_in_another_file(tmp_path):
    path = external(tmp_path)
    agrees(from_onnx(path), onnx.load(path), weights(3, 40))
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"keeps data in another file, .* exceeds available data"):
        from_onnx(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match=r"keeps data in another file, .*weights\.bin"):
        from_onnx(path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin"])
def test_weights_outside_of_the_folder_are_refused(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(bytes(6400))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ValueError, match=f"keeps data in another file, .*{re.escape(location)}"):
        from_onnx(external(folder, location))


def test_operators_without_an_implementation_are_named_with_their_domain(read):
    domains = [helper.make_opsetid("com.acme", 1)]
    model = model_of(
        [node("Fancy", "x", "y", domain="com.acme")], [info("x", ("N", 4))], ["y"], domains=domains
    )
    with pytest.raises(dg.GraphError, match=r"Fancy \(y in net\.onnx\) .* Fancy of com\.acme"):
        read(model)


def test_an_opset_too_new_is_said(read):
    with pytest.raises(ValueError, match=r"needs opset 99, and onnx .* up to \d+; update onnx"):
        read(model_of([node("Relu", "x", "y")], [info("x", ("N", 4))], ["y"], opset=99))


def test_a_file_without_inputs(read):
    with pytest.raises(dg.GraphError, match=r"net\.onnx has no inputs"):
        read(model_of([node("Relu", "x", "y")], [], ["y"], {"x": weights(4)}))


def test_inputs_that_are_no_tensors_of_numbers(read):
    model = model_of(
        [node("Identity", "x", "y")],
        [info("x", ("N",), TensorProto.STRING)],
        [info("y", (None,), TensorProto.STRING)],
    )
    with pytest.raises(dg.GraphError, match=r"input x of net\.onnx must be a tensor of numbers"):
        read(model)


def test_another_number_of_inputs(read):
    with pytest.raises(dg.GraphError, match="expected the tensors x; 2 came"):
        read(mlp())(torch.ones(2, 4), torch.ones(2, 4))


def test_a_file_that_cannot_be_run(read):
    model = model_of(
        [node("MatMul", "x w", "y")], [info("x", ("N", 4))], ["y"], {"w": weights(5, 4)}
    )
    with pytest.raises(
        dg.GraphError, match=r"net\.onnx cannot be run by .* on random inputs .*'N', 4"
    ):
        read(model)


def test_rows_that_depend_on_each_other(read):
    nodes = [node("BatchNormalization", "x s b m v", "y mean var", training_mode=1)]
    held = {k: weights(3) for k in "sbm"} | {"v": np.ones(3, np.float32)}
    with pytest.raises(
        dg.GraphError, match=r"BatchNormalization \(y in net.onnx\) is in training"
    ):
        read(model_of(nodes, [info("x", ("N", 3))], ["y"], held))


def test_noise_in_a_branch_is_refused_by_name(read):
    draw = helper.make_graph(
        [node("RandomNormalLike", "x", "r")], "b", [], [info("r", (None, None))]
    )
    keep = helper.make_graph([node("Identity", "x", "r")], "b", [], [info("r", (None, None))])
    nodes = [node("If", "c", "y", "choice", then_branch=draw, else_branch=keep)]
    model = model_of(nodes, [info("x", ("N", 3)), info("c", (), BOOL)], ["y"])
    with pytest.raises(dg.GraphError, match=r"If \(choice .* inside it, with RandomNormalLike"):
        read(model)


def test_draws_from_a_distribution_with_the_batch_elsewhere(read):
    nodes = [node("Transpose", "x", "t"), node("Sigmoid", "t", "p"), node("Bernoulli", "p", "y")]
    with pytest.raises(dg.GraphError, match=r"whose first dimension is not the batch, \[3, 2\]"):
        read(model_of(nodes, [info("x", ("N", 3))], ["y"]))


def test_onnx_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'daguerre\[onnx\]'"):
        from_onnx(tmp_path / "net.onnx")
