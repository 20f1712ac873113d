"""Pictures: every pixel where it belongs, and a PNG that a strict reader takes apart again."""

import struct
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daguerre.evaluate.images import grid, png_bytes, write_png


def read_png(content):
    """Decode an 8-bit grey PNG without filters, checking each length and checksum."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, rest = {}, content[8:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        kind, body = rest[4:8], rest[8 : 8 + length]
        assert struct.unpack(">I", rest[8 + length : 12 + length]) == (zlib.crc32(kind + body),)
        chunks[kind], rest = body, rest[12 + length :]
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 0, 0, 0, 0]
    lines = torch.tensor(list(zlib.decompress(chunks[b"IDAT"])), dtype=torch.uint8)
    lines = lines.reshape(height, width + 1)
    assert lines[:, 0].eq(0).all()
    return lines[:, 1:]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_a_png_gives_its_pixels_back(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (height, width), generator=generator, dtype=torch.uint8)
    assert torch.equal(read_png(png_bytes(image)), image)
    assert torch.equal(read_png(png_bytes(image.T)), image.T)  # not contiguous


def test_a_grid_by_hand():
    images = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.5, 0.2]]])  # three of 1 x 2
    assert grid(images, columns=2).tolist() == [
        [0, 255, 128, 255, 0],
        [128, 128, 128, 128, 128],
        [128, 51, 128, 128, 128],
    ]
    assert grid(images, columns=9, gap=0).tolist() == [[0, 255, 255, 0, 128, 51]]
    assert grid(images[:1], columns=1, scale=2).tolist() == [[0, 0, 255, 255]] * 2


def test_flat_images_are_square_and_read_row_by_row():
    flat = torch.arange(9) / 255
    assert grid(flat[None], columns=1).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_values_beyond_the_ends_are_shown_as_the_ends():
    assert grid(torch.tensor([[[-3.0, 7.0]]]), columns=1).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 63), "63 pixels, which is no square"),
        (torch.zeros(64), r"shape \[64\]; expected \[N, height, width\]"),
        (torch.zeros(2, 1, 8, 8), r"shape \[2, 1, 8, 8\]"),
        (torch.zeros(0, 64), r"shape \[0, 64\]"),
        (torch.full((1, 4), torch.nan), "NaN or infinity"),
    ],
)
def test_what_is_no_picture_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        grid(images, columns=2)


def test_grey_levels_of_another_type_are_refused():
    with pytest.raises(TypeError, match=r"torch.uint8; expected floats in \[0, 1\]"):
        grid(torch.zeros(1, 4, dtype=torch.uint8), columns=1)
    with pytest.raises(TypeError, match=r"torch.float32; expected uint8"):
        png_bytes(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"shape \[0, 2\]; expected \[height, width\]"):
        png_bytes(torch.zeros(0, 2, dtype=torch.uint8))


@pytest.mark.parametrize(
    "numbers", [{"columns": 0}, {"columns": 1, "gap": -1}, {"columns": 1, "scale": 0}]
)
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(ValueError, match="expected at least 1, 0 and 1"):
        grid(torch.zeros(1, 4), **numbers)


def test_a_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    image = torch.full((2, 3), 7, dtype=torch.uint8)
    write_png(path, image)
    assert torch.equal(read_png(path.read_bytes()), image)

    def full_disk(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_png(path, image + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]
    assert torch.equal(read_png(path.read_bytes()), image)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere to write a.png to"):
        write_png(tmp_path / "nowhere" / "a.png", torch.zeros(1, 1, dtype=torch.uint8))
