"""IDX files: what the header says, what follows it, and every way the two can disagree."""

import gzip
import struct
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.idx import read_idx

KINDS = {
    0x08: ("B", torch.uint8),
    0x09: ("b", torch.int8),
    0x0B: ("h", torch.int16),
    0x0C: ("i", torch.int32),
    0x0D: ("f", torch.float32),
    0x0E: ("d", torch.float64),
}
RAW = bytes([0, 0, 8, 3]) + struct.pack(">III", 5, 3, 2) + bytes(range(30))
ZIPPED = gzip.compress(RAW, mtime=0)


def header(*sizes, kind=0x08):
    return bytes([0, 0, kind, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


def outcome(path):
    """The items, or what the error says; any other exception is a failure."""
    try:
        return read_idx(path)
    except ValueError as error:
        return str(error)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "some-idx"


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_arrives_in_native_order(path, kind):
    code, dtype = KINDS[kind]
    path.write_bytes(header(3, 2, kind=kind) + struct.pack(f">6{code}", 1, 2, 3, 5, 7, 11))
    items = read_idx(path)
    assert items.dtype == dtype
    assert items.tolist() == [[1, 2], [3, 5], [7, 11]]


@pytest.mark.parametrize("content", [RAW, ZIPPED], ids=["raw", "gzip"])
def test_compression_is_told_by_content_not_by_name(path, content):
    path.write_bytes(content)
    assert torch.equal(read_idx(path), torch.arange(30, dtype=torch.uint8).reshape(5, 3, 2))


def test_what_is_read_can_be_written_to(path):
    path.write_bytes(RAW)
    items = read_idx(path)
    items[0] = 9
    assert items[0].eq(9).all()


@pytest.mark.parametrize("content", [RAW, ZIPPED], ids=["raw", "gzip"])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_file_cut_anywhere_is_refused_by_name(path, content, data):
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match="some-idx"):
        read_idx(path)


@given(place=st.integers(0, len(ZIPPED) - 1), byte=st.integers(0, 255))
@settings(deadline=None, max_examples=200)
def test_a_byte_changed_in_a_gzip_is_refused_or_harmless(path, place, byte):
    path.write_bytes(ZIPPED[:place] + bytes([byte]) + ZIPPED[place + 1 :])
    read = outcome(path)
    if isinstance(read, str):
        assert "some-idx" in read
    else:
        assert torch.equal(read, torch.arange(30, dtype=torch.uint8).reshape(5, 3, 2))


@given(content=st.binary(max_size=64))
@settings(deadline=None, max_examples=200)
def test_noise_is_never_more_than_a_value_error(path, content):
    path.write_bytes(content)
    read = outcome(path)
    if isinstance(read, str):
        assert "some-idx" in read
    else:  # it happens to be an IDX file: then nothing is left over
        assert len(content) == 4 + 4 * read.ndim + read.numel() * read.element_size()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("sizes", [(2**31,), (2**31, 2**31), (2**32 - 1,) * 64])
def test_a_boasting_header_allocates_nothing(path, sizes, pack):
    path.write_bytes(pack(header(*sizes) + bytes(100)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="bytes must follow, but 100 came"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "came an empty file"),
        (b"\x89PNG\r\n", "not an IDX file: .* came 89 50 4e 47"),
        (b"\0\0\x0a\1" + bytes(8), "came 00 00 0a 01"),  # no such type
        (b"\0\0\x08\0" + bytes(8), "came 00 00 08 00"),  # no dimension
        (b"\0\0\x08\x41" + bytes(300), "came 00 00 08 41"),  # 65 dimensions
        (b"\0\0\x08\3" + bytes(11), "ends within its IDX header of 3 dimensions"),
        (header(0, 28, 28), r"holds nothing: .* \[0, 28, 28\]"),
        (RAW[:-1], r"announces uint8 \[5, 3, 2\], so 30 bytes must follow, but 29 came"),
        (RAW + b"\0", "30 bytes must follow, but more came"),
        (gzip.compress(RAW + b"\0", mtime=0), "30 bytes must follow, but more came"),
        (ZIPPED[:-3], "damaged gzip file"),
    ],
)
def test_messages(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_a_missing_file_or_a_folder_is_no_file(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no file {path}"):
            read_idx(path)
