"""Splits: the same on every run, complete, disjoint; and what is refused instead of split."""

import gzip
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.data import array, binarise, digits, fashion_mnist, mnist
from daguerre.idx import read_idx

PARTS = {"train": 7, "t10k": 3}


def idx(items):
    sizes = b"".join(size.to_bytes(4, "big") for size in items.shape)
    return bytes([0, 0, 8, items.ndim]) + sizes + items.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """A small MNIST: image n is all n, and its label is n."""
    for part, count in PARTS.items():
        labels = np.arange(count)
        images = np.broadcast_to(labels[:, None, None], (count, 28, 28))
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def rows(x):
    return sorted(map(tuple, x.flatten(1).tolist()))


# scikit-learn's digits


def test_digits_are_real_complete_and_scaled():
    from sklearn.datasets import load_digits

    split = digits()
    x = torch.cat([split.train["x"], split.test["x"]])
    y = torch.cat([split.train["y"], split.test["y"]])
    pixels, labels = load_digits(return_X_y=True)
    assert x.shape == (1797, 64)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert (x.min(), x.max()) == (0, 1)
    ours = sorted(zip(map(tuple, (x * 16).int().tolist()), y.tolist(), strict=True))
    theirs = zip(map(tuple, pixels.astype(int).tolist()), labels.tolist(), strict=True)
    assert ours == sorted(theirs)


def test_the_split_of_the_digits_is_the_one_published():
    test = digits().test
    content = (test["x"] * 16).to(torch.uint8).numpy().tobytes()
    assert test["y"][:10].tolist() == [6, 9, 0, 5, 3, 8, 2, 6, 4, 7]
    assert hashlib.sha256(content).hexdigest()[:16] == "77aa986a15603822"


@pytest.mark.parametrize("held", [1, 359, 360, 1000, 1796])
def test_each_class_is_held_out_in_proportion(held):
    split = digits(test=held)
    ours = split.test["y"].bincount(minlength=10)
    counts = ours + split.train["y"].bincount(minlength=10)
    assert len(split.test["y"]) == held
    assert (ours - counts * held / 1797).abs().max() < 1


def test_any_slice_of_a_part_is_a_fair_sample():
    # in the file's order one writer follows another, and the first rows are mostly one writer's
    y = digits().train["y"]
    assert y[:20].tolist() != sorted(y[:20].tolist())
    assert y[:500].bincount(minlength=10).min() > 30


def test_nothing_depends_on_or_disturbs_the_global_state():
    expected = digits()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    with torch.device("meta"):
        split = digits()
        pixels = binarise(split.test["x"], seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(split.test["x"], expected.test["x"])
    assert pixels.device.type == "cpu"


@pytest.mark.parametrize("held", [-1, 0, 1797, 5000])
def test_an_empty_side_is_refused(held):
    with pytest.raises(ValueError, match=rf"digits\(test={held}\) holds out {held} of 1797 rows"):
        digits(test=held)


def test_without_scikit_learn_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "daguerre\[digits\]"'):
        digits()


def test_a_split_prints_its_shapes():
    assert repr(digits(test=97)) == (
        "Split(train: x [1700, 64], y [1700]; test: x [97, 64], y [97])"
    )


# MNIST and its kin


@pytest.mark.parametrize("read", [mnist, fashion_mnist])
def test_both_parts_of_an_idx_folder_in_the_order_of_the_files(folder, read):
    split = read(str(folder))
    for part, count in ((split.train, 7), (split.test, 3)):
        assert part["x"].dtype == torch.float32
        assert torch.equal(part["y"], torch.arange(count))
        assert torch.equal(part["x"], (torch.arange(count) / 255)[:, None].expand(count, 784))


def test_a_missing_folder_and_a_missing_file_are_named(folder):
    with pytest.raises(FileNotFoundError, match=r"no folder .*elsewhere"):
        mnist(folder / "elsewhere")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no t10k-labels-idx1-ubyte and no t10k-.*\.gz in"
    ):
        mnist(folder)


@pytest.mark.parametrize(
    ("items", "came"),
    [
        (np.zeros((7, 28, 27)), r"uint8 \[7, 28, 27\]"),
        (np.zeros((7, 784)), r"uint8 \[7, 784\]"),
        (np.zeros(7), r"uint8 \[7\]"),
    ],
)
def test_images_of_another_shape_are_refused(folder, items, came):
    (folder / "train-images-idx3-ubyte").write_bytes(idx(items))
    with pytest.raises(
        ValueError, match=rf"train-images.*: expected uint8 \[N, 28, 28\], came {came}"
    ):
        mnist(folder)


def test_labels_of_another_shape_are_refused(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros((7, 10))))
    with pytest.raises(
        ValueError, match=r"train-labels.*: expected uint8 \[N\], came uint8 \[7, 10\]"
    ):
        mnist(folder)


def test_items_of_another_type_are_refused(folder):
    content = bytes([0, 0, 0x0D, 1, 0, 0, 0, 7]) + bytes(28)
    (folder / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected uint8 \[N\], came float32 \[7\]"):
        mnist(folder)


def test_twins_of_different_length_are_refused(folder):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(4)))
    with pytest.raises(ValueError, match="t10k has 3 images but 4 labels"):
        mnist(folder)


def test_a_label_that_is_no_class_is_refused(folder):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([1, 10, 2])))
    with pytest.raises(ValueError, match="label 1 of t10k is 10; expected 0 to 9"):
        mnist(folder)


def test_a_damaged_file_of_the_folder_is_named(folder):
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte.gz is a damaged gzip file"):
        mnist(folder)


@pytest.mark.parametrize(
    ("read", "name", "mean"), [(mnist, "mnist", 0.1307), (fashion_mnist, "fashion_mnist", 0.2860)]
)
def test_the_real_files(read, name, mean):
    root = os.environ.get("DAGUERRE_DATA")
    if root is None or not Path(root, name).is_dir():
        pytest.skip(f"DAGUERRE_DATA names no folder with {name}/")
    split = read(Path(root, name))
    assert split.train["x"].shape == (60000, 784)
    assert split.test["x"].shape == (10000, 784)
    assert split.test["y"].bincount().sum() == 10000
    assert split.train["x"].mean().item() == pytest.approx(mean, abs=1e-4)
    assert torch.equal(
        split.test["x"].mul(255).round().to(torch.uint8).reshape(-1, 28, 28),
        read_idx(next(Path(root, name).glob("t10k-images-idx3-ubyte*"))),
    )


# A user's own array


@pytest.fixture(scope="module")
def npy(tmp_path_factory):
    return tmp_path_factory.mktemp("npy") / "own.npy"


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8", "f2", "i8", ">i2", "u2", "i1", "?"])
def test_an_array_keeps_its_values_and_its_shape(npy, dtype):
    values = (np.arange(20 * 6) % 2 if dtype == "?" else np.arange(20 * 6)).reshape(20, 2, 3)
    np.save(npy, values.astype(dtype))
    split = array(npy, test=0.25)
    assert split.train["x"].shape == (15, 2, 3)
    assert split.test["x"].dtype == torch.float32
    both = torch.cat([split.train["x"], split.test["x"]])
    assert rows(both) == rows(torch.from_numpy(values).float())


def test_grey_levels_are_scaled(npy):
    np.save(npy, np.full((10, 4), 51, np.uint8))
    assert torch.equal(array(npy).train["x"], torch.full((8, 4), 0.2))


def test_scalars_and_fortran_order_are_arrays_too(npy):
    np.save(npy, np.arange(10.0))
    assert array(npy).train["x"].shape == (8,)
    np.save(npy, np.asfortranarray(np.arange(20.0).reshape(10, 2)))
    assert {tuple(r) for r in array(npy).train["x"].tolist()} < {
        (2.0 * i, 2.0 * i + 1) for i in range(10)
    }


def test_the_split_of_an_array_is_deterministic_and_shuffled(npy):
    np.save(npy, np.arange(1000.0))
    first, second = array(npy), array(npy)
    assert torch.equal(first.test["x"], second.test["x"])
    assert first.test["x"].tolist() != sorted(first.test["x"].tolist())
    assert first.test["x"].mean().item() == pytest.approx(500, abs=80)  # 4 standard errors


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array(1.0), r"shape \[\]; expected \[N, ...\]"),
        (np.zeros((0, 4)), r"shape \[0, 4\]"),
        (np.zeros((4, 0)), r"shape \[4, 0\]"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), r"\[0, 1\] is nan; float32 needs finite values"),
        (np.array([1.0, -np.inf]), r"\[1\] is -inf"),
        (np.array([1.0, 1e300]), r"\[1\] is 1e\+300; float32 needs finite values"),
        (np.array([1j, 2]), "holds complex128; expected real numbers"),
        (np.array(["a", "b"]), "holds <U1"),
        (np.array(["2020-01-01"], "M8[D]"), "holds datetime64"),
        (np.zeros(3, [("a", "f4")]), "expected real numbers"),
        (np.array([{}, []], object), "own.npy is not a complete .npy of numbers"),
        (np.zeros((1, 4)), r"test=0.2 of .*own.npy holds out 0 of 1 rows"),
        (np.zeros((2, 4)), "holds out 0 of 2 rows"),
    ],
)
def test_an_array_that_is_no_sample_is_refused(npy, values, message):
    np.save(npy, values, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        array(npy)


@pytest.mark.parametrize("test", [0, 1, -0.5, 2, float("nan")])
def test_the_fraction_is_checked(npy, test):
    np.save(npy, np.zeros((10, 2)))
    with pytest.raises(ValueError, match="expected a fraction of the rows above 0 and below 1"):
        array(npy, test=test)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none.npy"):
        array(tmp_path / "none.npy")
    with pytest.raises(
        ValueError, match=r"own.csv: expected a .npy file; write one by numpy.save"
    ):
        array(tmp_path / "own.csv")
    np.savez(tmp_path / "pack.npz", np.zeros(3))
    (tmp_path / "pack.npz").rename(tmp_path / "pack.npy")
    with pytest.raises(ValueError, match=r"pack.npy is not a complete .npy"):
        array(tmp_path / "pack.npy")


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_an_array_cut_anywhere_is_refused(npy, data):
    np.save(npy, np.arange(60, dtype=np.float32).reshape(10, 6))
    content = npy.read_bytes()
    npy.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"own.npy is not a complete .npy"):
        array(npy)


def test_an_array_that_announces_terabytes_allocates_nothing(npy):
    np.save(npy, np.zeros((10, 6)))
    boast = b"(999999999999, 6), }"
    content = npy.read_bytes().replace(b"(10, 6), }".ljust(len(boast)), boast)
    assert boast in content
    npy.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a complete .npy of numbers: mmap length"):
        array(npy)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "-" * 5000 + "1",
        "{'descr': " + "[" * 3000 + "]" * 3000 + "}",
        "{1: 2, 'a': 3}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 6)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999)}",
    ],
)
def test_a_header_made_to_hurt_is_refused_in_one_line(npy, text):
    header = f"{text:100}\n".encode()
    npy.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(ValueError, match=r"own.npy is not a complete .npy") as error:
        array(npy)
    message = str(error.value).removeprefix(str(npy))
    assert len(message) < 150
    assert "\n" not in message


# Binary pixels


def test_binary_pixels_have_the_mean_of_the_grey_ones():
    x = torch.linspace(0, 1, 5).repeat(20000, 1)
    means = binarise(x, seed=3).mean(0)
    assert means[0] == 0
    assert means[4] == 1
    assert (means - x[0]).abs().max() < 4 * 0.5 / 20000**0.5


def test_binary_pixels_follow_their_seed_alone():
    x = torch.full((100,), 0.5, dtype=torch.float64)
    torch.manual_seed(0)
    first = binarise(x, seed=1)
    assert first.dtype == torch.float64
    assert set(first.tolist()) == {0.0, 1.0}
    torch.manual_seed(99)
    assert torch.equal(binarise(x, seed=1), first)
    assert not torch.equal(binarise(x, seed=2), first)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_pixels_outside_the_unit_interval_are_refused(value):
    with pytest.raises(ValueError, match=rf"x\[0, 1\] is {value:g}; expected intensities"):
        binarise(torch.tensor([[0.5, value]]), seed=0)


def test_whole_numbers_are_no_intensities():
    with pytest.raises(TypeError, match=r"torch.uint8; expected floating intensities"):
        binarise(torch.zeros(3, dtype=torch.uint8), seed=0)
