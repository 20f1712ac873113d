"""Small ONNX files of many kinds, made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
rng = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / 2).astype(np.float32)


def info(name: str, shape: tuple[int | str | None, ...], kind: int = FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def node(kind: str, inputs: str, outputs: str, name: str = "", **options: Any):
    """A node; inputs and outputs are written with spaces between, `-` for none."""

    def names(text: str) -> list[str]:
        return ["" if t == "-" else t for t in text.split()]

    return helper.make_node(kind, names(inputs), names(outputs), name=name, **options)


def model_of(nodes, inputs, outputs, held=None, *, opset: int = 17, **options: Any):
    """A model; outputs are names, of floats, whose shape nobody checks."""
    outs = [info(o, (None, None)) if isinstance(o, str) else o for o in outputs]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (held or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outs, tensors)
    opsets = [helper.make_opsetid("", opset), *options.pop("domains", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **options)


def mlp():
    nodes = [
        node("Gemm", "x w1 b1", "h", "first", transB=1),
        node("Relu", "h", "a", "Relu_1"),
        node("Gemm", "a w2 -", "y", "second"),
    ]
    held = {"w1": weights(8, 4), "b1": weights(8), "w2": weights(8, 3)}
    return model_of(nodes, [info("x", ("N", 4))], ["y"], held)


def convolution():
    nodes = [
        node("Conv", "x w b", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c scale shift mean var", "n"),
        node("Relu", "n", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", "p", "g"),
        node("Flatten", "g", "y"),
    ]
    held = {"w": weights(5, 3, 3, 3), "b": weights(5), "scale": weights(5), "shift": weights(5)}
    held |= {"mean": weights(5), "var": np.abs(weights(5)) + 0.5}
    return model_of(nodes, [info("x", ("batch", 3, 8, 8))], ["y"], held)


def recurrent():
    """An LSTM with the batch second, and a state as large as the batch is."""
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Concat", "one n five", "hs", axis=0),
        node("ConstantOfShape", "hs", "h0"),
        node("LSTM", "t w r b - h0 h0", "Y Y_h Y_c", hidden_size=5),
        node("Squeeze", "Y_h one_axis", "y"),
    ]
    held = {"w": weights(1, 20, 4), "r": weights(1, 20, 5), "b": weights(1, 40)}
    held |= {"zero": np.array([0]), "one": np.array([1]), "five": np.array([5])}
    held |= {"one_axis": np.array([0])}
    return model_of(nodes, [info("x", ("N", 7, 4))], ["y"], held)


def attention():
    """Attention whose reshapes work with the sizes of the input, as exports do."""
    nodes = [
        node("MatMul", "x wq", "q", "/att/q/MatMul"),
        node("MatMul", "x wk", "k", "/att/k/MatMul"),
        node("MatMul", "x wv", "v", "/att/v/MatMul"),
        node("Shape", "x", "s", "/att/Shape"),
        node("Gather", "s zero", "n", "/att/Gather"),
        node("Concat", "n rest", "heads", "/att/Concat", axis=0),
        node("Reshape", "q heads", "qh", "/att/Reshape"),
        node("Reshape", "k heads", "kh", "/att/Reshape_1"),
        node("Reshape", "v heads", "vh", "/att/Reshape_2"),
        node("Transpose", "qh", "qt", "/att/Transpose", perm=[0, 2, 1, 3]),
        node("Transpose", "kh", "kt", "/att/Transpose_1", perm=[0, 2, 3, 1]),
        node("Transpose", "vh", "vt", "/att/Transpose_2", perm=[0, 2, 1, 3]),
        node("MatMul", "qt kt", "scores", "/att/MatMul"),
        node("Softmax", "scores", "p", "/att/Softmax", axis=-1),
        node("MatMul", "p vt", "o", "/att/MatMul_1"),
        node("Transpose", "o", "ot", "/att/Transpose_3", perm=[0, 2, 1, 3]),
        node("Reshape", "ot flat", "of", "/att/Reshape_3"),
        node("MatMul", "of wo", "op", "/out/MatMul"),
        node("Reshape", "op back", "y", "/Reshape"),
    ]
    held = {k: weights(6, 6) for k in ("wq", "wk", "wv", "wo")}
    held |= {"zero": np.array([0]), "rest": np.array([5, 2, 3])}
    held |= {"flat": np.array([-1, 6]), "back": np.array([-1, 5, 6])}
    return model_of(nodes, [info("x", ("N", 5, 6))], ["y"], held)


def branching():
    """If, whose branches use values from outside."""

    def branch(kind: str):
        return helper.make_graph([node(kind, "h w", "r")], "b", [], [info("r", (None, None))])

    nodes = [
        node("Relu", "x", "h"),
        node("ReduceSum", "flag", "total", keepdims=0),
        node("Greater", "total nought", "c"),
        node("If", "c", "y", then_branch=branch("Add"), else_branch=branch("Mul")),
    ]
    held = {"w": weights(4), "nought": np.float32(0)}
    return model_of(nodes, [info("x", ("N", 4)), info("flag", (2,))], ["y"], held)


def looping():
    body = helper.make_graph(
        [node("Mul", "h w", "next"), node("Identity", "go", "on")],
        "body",
        [info("i", (), INT), info("go", (), BOOL), info("h", (None, None))],
        [info("on", (), BOOL), info("next", (None, None))],
    )
    nodes = [node("Loop", "times - x", "y", "power", body=body)]
    held = {"w": weights(4), "times": np.array(3)}
    return model_of(nodes, [info("x", ("N", 4))], ["y"], held)


def functional():
    """A function of the file's own, and one of onnx that depends on types."""
    own = helper.make_function(
        "mine",
        "Twice",
        ["a"],
        ["b"],
        [node("Add", "a a", "b")],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("Twice", "x", "t", domain="mine"),
        node("Celu", "t", "c"),
        node("HardSwish", "c", "y"),
    ]
    domains = [helper.make_opsetid("mine", 1)]
    return model_of(nodes, [info("x", ("N", 4))], ["y"], functions=[own], domains=domains)


def several():
    """Several outputs; one weight used twice; parts of a tensor; an input that is an output."""
    nodes = [
        node("MatMul", "x w", "a"),
        node("MatMul", "a w", "b"),
        node("Split", "b", "left right", axis=1, num_outputs=2),
        node("Add", "left z", "sum"),
        node("Shape", "x", "size"),
        node("ConstantOfShape", "size", "zeros"),
    ]
    size = info("size", (2,), INT)
    inputs = [info("x", ("N", 4)), info("z", (None, 2))]
    outputs = ["sum", "right", "x", "w", size, "zeros"]
    return model_of(nodes, inputs, outputs, {"w": weights(4, 4)}, opset=18)


def tokens():
    nodes = [
        node("Gather", "table ids", "e"),
        node("Cast", "mask", "m", to=FLOAT),
        node("Unsqueeze", "m last", "m1"),
        node("Mul", "e m1", "masked"),
        node("ReduceMean", "masked", "y", axes=[1], keepdims=0),
    ]
    inputs = [info("ids", ("batch", "length"), INT), info("mask", ("batch", "length"), BOOL)]
    return model_of(nodes, inputs, ["y"], {"table": weights(9, 6), "last": np.array([2])})


FILES = {f.__name__: f for f in (mlp, convolution, recurrent, attention, looping, functional)}


def external(folder: Path, location: str = "weights.bin") -> Path:
    model = model_of(
        [node("MatMul", "x w", "y")], [info("x", ("N", 40))], ["y"], {"w": weights(40, 40)}
    )
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="weights.bin")
    model = onnx.load(folder / "net.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = location if entry.key == "location" else entry.value
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"
