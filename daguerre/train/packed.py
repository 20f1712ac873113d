"""Tensors as the bytes of a safetensors file, taken from where they are.

The format: eight bytes for the length of a JSON header, the header, which says of each tensor
its type, its shape and where it begins and ends, and the numbers. The library's own writer copies
all of them twice, and leaves two C types behind for each new length of a tensor, for good: a fit
whose losses grow would grow by six kilobytes with each checkpoint.

References:
    https://huggingface.co/docs/safetensors, section Format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import accumulate

import torch
from torch import Tensor

__all__ = ["content", "packed"]

TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
}
ALIGNMENT = 8  # of the numbers in the file, in bytes


def packed(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Yield the content of a safetensors file, part by part.

    Args:
        tensors: On the CPU and contiguous; they must not change before they are written.
        metadata: Text to keep beside them.

    Raises:
        TypeError: A tensor of a type that the format does not have.

    Example:
        >>> from safetensors.torch import load
        >>> load(b"".join(packed({"a": torch.arange(3)}, {})))
        {'a': tensor([0, 1, 2])}
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            raise TypeError(f"{name} is {tensor.dtype}, which safetensors files do not hold")
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # keeps all aligned
    ends = [0, *accumulate(tensors[name].nbytes for name in names)]
    places = {
        name: {
            "dtype": TYPES[tensors[name].dtype],
            "shape": [*tensors[name].shape],
            "data_offsets": [ends[i], ends[i + 1]],
        }
        for i, name in enumerate(names)
    }
    header = json.dumps({"__metadata__": dict(metadata), **places}).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    yield len(header).to_bytes(8, "little") + header
    yield from (content(tensors[name]) for name in names)


def content(tensor: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor on the CPU, where they are.

    Example:
        >>> content(torch.tensor([1, 256], dtype=torch.int16)).tolist()
        [1, 0, 0, 1]
    """
    return tensor.detach().flatten().view(torch.uint8).numpy().data
