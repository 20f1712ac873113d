"""Pictures and other rows: the digits of scikit-learn, MNIST-like IDX folders, a user's `.npy`."""

from __future__ import annotations

import os
import tokenize
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor

from daguerre.data.split import Split
from daguerre.idx import read_idx

__all__ = ["array", "binarise", "digits", "fashion_mnist", "mnist"]

_PathLike = str | os.PathLike[str]
_BAD_NPY = (  # what NumPy's parser of headers has been seen to raise
    OverflowError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)


def digits(*, test: int = 360) -> Split:
    """Load scikit-learn's 1,797 handwritten digits of 8x8 pixels.

    Args:
        test: How many digits to hold out; each class is held out in proportion, to within one.

    Returns:
        x: float32 [N, 64], the ink 0 to 16 divided by 16; y: int64 [N], the digit.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: `test` leaves nothing to train on or nothing to test on.

    References:
        Alpaydin and Kaynak (1998), Optical recognition of handwritten digits, UCI repository.

    Example:
        >>> digits()
        Split(train: x [1437, 64], y [1437]; test: x [360, 64], y [360])
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits come with scikit-learn: pip install "daguerre[digits]"'
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels.astype(np.float32)).div_(16)
    y = torch.from_numpy(labels.astype(np.int64))
    return _split({"x": x, "y": y}, test, f"digits(test={test!r})")


def mnist(path: _PathLike) -> Split:
    """Read MNIST from a folder with its four IDX files, gzipped or not.

    Args:
        path: The folder of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
            `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each with or without `.gz`.

    Returns:
        x: float32 [N, 784], grey levels divided by 255; y: int64 [N], the class 0 to 9.

    Raises:
        FileNotFoundError: The folder or one of the files is missing.
        ValueError: A file is damaged, has another shape or another number of rows than its twin.

    References:
        LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
        recognition.

    Example::

        x = mnist("data/mnist").train["x"]  # float32 [60000, 784]
    """
    return _idx_split(Path(path))


def fashion_mnist(path: _PathLike) -> Split:
    """Read Fashion-MNIST, ten kinds of clothing, from a folder laid out as for `mnist`.

    Args:
        path: The folder of the four IDX files.

    Returns:
        x: float32 [N, 784], grey levels divided by 255; y: int64 [N], the class 0 to 9.

    Raises:
        FileNotFoundError: The folder or one of the files is missing.
        ValueError: A file is damaged, has another shape or another number of rows than its twin.

    References:
        Xiao, Rasul and Vollgraf (2017), arXiv 1708.07747.

    Example::

        x = fashion_mnist("data/fashion_mnist").train["x"]  # float32 [60000, 784]
    """
    return _idx_split(Path(path))


def array(path: _PathLike, *, test: float = 0.2) -> Split:
    """Read a user's own observations from a `.npy` file.

    Args:
        path: An array [N, ...] of real numbers, its first axis the observations.
        test: The fraction of the rows to hold out, above 0 and below 1.

    Returns:
        x: float32 [N, ...]; uint8 is taken for grey levels and divided by 255, any other
        type keeps its values.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no complete `.npy`, or its array is empty, 0-dimensional,
            not of real numbers or not finite in float32; or `test` empties one side.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/own.npy", np.zeros((10, 8, 8), np.uint8))
        ...     array(f"{folder}/own.npy")
        Split(train: x [8, 8, 8]; test: x [2, 8, 8])
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise ValueError(f"{path}: expected a .npy file; write one by numpy.save")
    values = _load_npy(path)
    if not 0 < test < 1:
        raise ValueError(f"test={test!r}: expected a fraction of the rows above 0 and below 1")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused just below
        x = torch.from_numpy(values.astype(np.float32))
    if not x.isfinite().all():
        place = (~x.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"{path}: {place} is {values[tuple(place)]}; float32 needs finite values")
    scaled = x.div_(255) if values.dtype == np.uint8 else x
    return _split({"x": scaled}, round(test * len(x)), f"test={test!r} of {path}")


def binarise(x: Tensor, *, seed: int) -> Tensor:
    r"""Draw black and white pixels from grey ones: $b \sim \mathrm{Bernoulli}(x)$.

    Args:
        x: Intensities in [0, 1], any shape.
        seed: The draw; the global generator is neither read nor advanced.

    Returns:
        0 or 1 in the type and shape of `x`.

    Raises:
        TypeError: `x` is not of a floating type.
        ValueError: A value lies outside [0, 1] or is NaN.

    References:
        Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks.

    Example:
        >>> binarise(torch.tensor([0.0, 0.5, 0.5, 0.5, 1.0]), seed=0)
        tensor([0., 0., 1., 1., 1.])
    """
    if not x.is_floating_point():
        raise TypeError(f"x has the type {x.dtype}; expected floating intensities in [0, 1]")
    inside = (x >= 0) & (x <= 1)
    if not inside.all():
        place = (~inside).nonzero()[0].tolist()
        raise ValueError(f"x{place} is {x[tuple(place)].item():g}; expected intensities in [0, 1]")
    return torch.bernoulli(x, generator=torch.Generator(x.device).manual_seed(seed))


def _idx_split(folder: Path) -> Split:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    return Split(_idx_part(folder, "train"), _idx_part(folder, "t10k"))


def _idx_part(folder: Path, part: str) -> dict[str, Tensor]:
    images = _idx_items(folder, f"{part}-images-idx3-ubyte", (28, 28))
    labels = _idx_items(folder, f"{part}-labels-idx1-ubyte", ())
    if len(images) != len(labels):
        raise ValueError(
            f"{folder}: {part} has {len(images):,} images but {len(labels):,} labels; "
            "the two files belong to different sets"
        )
    if labels.max() > 9:
        row = int(labels.argmax())
        raise ValueError(f"{folder}: label {row} of {part} is {labels[row]}; expected 0 to 9")
    return {"x": images.reshape(-1, 784).float().div_(255), "y": labels.long()}


def _idx_items(folder: Path, name: str, event: tuple[int, ...]) -> Tensor:
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no {name} and no {name}.gz in {folder}")
    items = read_idx(path)
    if items.dtype != torch.uint8 or items.shape[1:] != event:
        expected = ", ".join(["N", *map(str, event)])
        came = f"{str(items.dtype).removeprefix('torch.')} {list(items.shape)}"
        raise ValueError(f"{path}: expected uint8 [{expected}], came {came}")
    return items


def _load_npy(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        # mapped, so a header that announces more than the file holds fails before it allocates
        values = np.lib.format.open_memmap(path, mode="r")
    except _BAD_NPY as error:
        reason = shorten(str(error), 100)
        raise ValueError(f"{path} is not a complete .npy of numbers: {reason}") from error
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path} holds {values.dtype}; expected real numbers")
    if values.ndim == 0 or values.size == 0:
        shape = list(values.shape)
        raise ValueError(f"{path} has the shape {shape}; expected [N, ...] with something in it")
    return values


def _split(values: dict[str, Tensor], held: int, what: str) -> Split:
    """Hold rows out, in proportion to the classes where y names them, and shuffle both parts.

    The draw is always the same. Files are often in the order of collection, so any slice of a part
    should still be a fair sample of it.
    """
    count = len(values["x"])
    if not 1 <= held < count:
        raise ValueError(
            f"{what} holds out {held} of {count} rows; leave at least one on each side"
        )
    with torch.device("cpu"):  # whatever the default device
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        by_class = order[values["y"][order].argsort(stable=True)] if "y" in values else order
        chosen = torch.zeros(count, dtype=torch.bool)
        chosen[by_class[torch.arange(held) * count // held]] = True
        train, test = order[~chosen[order]], order[chosen[order]]
    return Split(
        {name: value[train] for name, value in values.items()},
        {name: value[test] for name, value in values.items()},
    )
