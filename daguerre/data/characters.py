"""Text as sequences of characters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from daguerre.data.split import read_text

__all__ = ["Text", "text"]

MOST = 1 << 26  # bytes of a file; its tokens take eight times as much
_CODES = 0x110000  # of Unicode


@final
@dataclass(frozen=True, eq=False, repr=False)
class Text:
    """A text as windows of characters, each character by its number.

    Attributes:
        vocabulary: All characters that occur, in the order of their codes; number i is the i-th.
        train: x: int64 `[N, T]`, windows of the first part.
        test: x: int64 `[N, T]`, windows of the part that is held out.
    """

    vocabulary: str
    train: dict[str, Tensor]
    test: dict[str, Tensor]

    def encode(self, string: str) -> Tensor:
        """Return the numbers of the characters of a string, int64 `[T]`.

        Raises:
            ValueError: A character that does not occur in the text.
        """
        numbers = {c: i for i, c in enumerate(self.vocabulary)}
        if unknown := next((c for c in string if c not in numbers), None):
            raise ValueError(f"{unknown!r} is not among the {len(numbers)} characters of the text")
        return torch.tensor([numbers[c] for c in string], dtype=torch.int64)

    def decode(self, numbers: Tensor) -> str:
        """Return the string of some numbers `[T]`; what is below 0 is beyond the end.

        Raises:
            ValueError: Numbers of another shape, or not of the vocabulary.
        """
        if numbers.dim() != 1 or (len(numbers) and int(numbers.max()) >= len(self.vocabulary)):
            raise ValueError(
                f"expected numbers [T] below {len(self.vocabulary)}, came"
                f" {list(numbers.shape)} up to {numbers.max().item():g}"
            )
        return "".join(self.vocabulary[i] for i in numbers.long().tolist() if i >= 0)

    def __repr__(self) -> str:
        train, test = (list(part["x"].shape) for part in (self.train, self.test))
        return f"Text({len(self.vocabulary)} characters; train: x {train}; test: x {test})"


def text(path: str | os.PathLike[str], *, length: int = 128, test: float = 0.1) -> Text:
    r"""Read a text file as windows of characters; the end of the file is held out.

    Windows lie side by side and keep their order, so that no character counts twice. What is left
    at the end of a part and fills no window is dropped, fewer than `length` characters.

    Args:
        path: A file of UTF-8, of at most 64 MiB.
        length: T, characters in a window.
        test: The fraction of the file to hold out, above 0 and below 1.

    Returns:
        The windows x, int64 `[N, T]`, the whole text's vocabulary, and functions between
        strings and numbers.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, too large or not UTF-8; a part has no whole window; an
            option out of range.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "own.txt").write_text("abacadabra", encoding="utf-8")
        ...     found = text(f"{folder}/own.txt", length=3, test=0.4)
        >>> found
        Text(5 characters; train: x [2, 3]; test: x [1, 3])
        >>> found.train["x"].tolist(), found.decode(found.test["x"][0])
        ([[0, 1, 0], [2, 0, 3]], 'abr')
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ValueError(f"length is how many characters a window has, 1 or more, not {length!r}")
    if not 0 < test < 1:
        raise ValueError(f"test={test!r}: expected a fraction of the text above 0 and below 1")
    tokens, vocabulary = _tokens(read_text(path, most=MOST))
    first = len(tokens) - round(test * len(tokens))
    parts = [_windows(part, length) for part in (tokens[:first], tokens[first:])]
    if not all(map(len, parts)):
        raise ValueError(
            f"{Path(path)}: {first:,} characters to train on and {len(tokens) - first:,} held out"
            f" are too few for windows of {length:,}; take a shorter length or another test={test}"
        )
    return Text(vocabulary, {"x": parts[0]}, {"x": parts[1]})


def _tokens(content: str) -> tuple[Tensor, str]:
    """Number the characters, and return the vocabulary."""
    codes = np.frombuffer(content.encode("utf-32-le", "surrogatepass"), "<u4")
    found = np.flatnonzero(np.bincount(codes, minlength=_CODES))
    numbers = np.zeros(_CODES, np.int64)
    numbers[found] = np.arange(len(found))
    return torch.from_numpy(numbers[codes]), "".join(map(chr, found.tolist()))


def _windows(tokens: Tensor, length: int) -> Tensor:
    count = len(tokens) // length
    return tokens[: count * length].reshape(count, length).clone()
