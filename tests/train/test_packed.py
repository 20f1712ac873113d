"""Checkpoints as bytes: what the format's own reader makes of them, and what they cost."""

import ctypes
import gc
import math

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from safetensors.torch import save as to_bytes

import daguerre as dg
from daguerre.train.checkpoint import read, save
from daguerre.train.packed import TYPES, content, packed
from daguerre.train.record import Record

SHAPES = [(), (0,), (5,), (2, 3), (0, 7), (3, 1, 11)]


def bytes_of(tensors, metadata=None):
    return b"".join(packed(tensors, metadata or {}))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_library_reads_every_type_and_shape(dtype):
    tensors = {f"{i} é": torch.ones(shape).to(dtype) for i, shape in enumerate(SHAPES)}
    found = load(bytes_of(tensors))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype
        assert found[name].shape == tensor.shape
        assert content(found[name]) == content(tensor)


def test_bits_are_kept():
    special = torch.tensor([math.nan, -0.0, math.inf, 1e-45])
    found = load(bytes_of({"odd": torch.ones(3, dtype=torch.uint8), "x": special}))
    assert found["x"].view(torch.int32).equal(special.view(torch.int32))


def test_it_holds_what_the_library_writes():
    tensors = {"b": torch.ones(3, dtype=torch.bool), "a": torch.rand(2, 3), "c": torch.tensor(2)}
    ours, theirs = load(bytes_of(tensors)), load(to_bytes(tensors))
    assert all(ours[name].equal(theirs[name]) for name in tensors)


def test_metadata_is_kept(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes_of({"x": torch.ones(1)}, {"note": 'ü "quoted"'}))
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"note": 'ü "quoted"'}


@pytest.mark.parametrize("lost", [1, 4, 20])
def test_a_file_cut_short_is_refused(lost):
    with pytest.raises(SafetensorError):
        load(bytes_of({"x": torch.ones(4)})[:-lost])


def test_a_type_that_files_do_not_hold_is_named():
    with pytest.raises(TypeError, match=r"z is torch.complex128"):
        bytes_of({"z": torch.ones(1, dtype=torch.complex128)})


def test_modules_that_share_numbers_are_written_whole(tmp_path):
    net = torch.nn.Linear(3, 3)
    net.register_buffer("column", net.weight.detach()[:, 1])
    save(net, tmp_path / "net")
    found = read(tmp_path / "net").tensors["model"]
    assert found["column"].equal(net.weight[:, 1])


def array_types():
    """How many C types of arrays there are; Python keeps each for good."""
    kind = type(ctypes.c_ubyte * 1)
    return sum(type(thing) is kind for thing in gc.get_objects())


def test_each_length_leaves_nothing_behind(tmp_path):
    net = dg.nn.mlp(2, 3)
    before = array_types()
    for n in range(1000, 1040):
        net.register_buffer("numbers", torch.ones(n))
        save(net, tmp_path / "net")
    assert array_types() < before + 40


def test_losses_returned_stay_as_they_were():
    record = Record(["model"])
    record.add([torch.tensor(1.0)])
    record.flush()
    before = record.losses()["model"]
    for i in range(3000):
        record.add([torch.tensor(float(i))])
    record.flush()
    assert before.tolist() == [1.0]
    assert record.losses()["model"].tolist() == [1.0, *map(float, range(3000))]


def test_losses_go_on_from_a_checkpoint():
    record = Record(["model"])
    held = torch.tensor([1.0, 2.0])
    record.restore({"model": held}, {})
    record.add([torch.tensor(3.0)])
    record.flush()
    assert record.losses()["model"].tolist() == [1.0, 2.0, 3.0]
    assert held.tolist() == [1.0, 2.0]
