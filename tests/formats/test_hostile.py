"""Files made to hurt: each is refused, or read, soon and in little memory."""

import gzip
import os
import re
import tracemalloc
import zlib
from itertools import cycle, islice

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import BIF, JSON, UAI

import daguerre as dg
from daguerre.formats import read_bif, read_network, read_uai, read_uai_evidence

READERS = {"bif": read_bif, "uai": read_uai, "evid": read_uai_evidence, "json": read_network}
SEEDS = {"bif": BIF, "uai": UAI, "evid": "2 0 1 17 0\n", "json": JSON}
every = pytest.mark.parametrize("form", READERS)
MEGA = 2**20


def refused(path, form, message="", **options):
    """Check that a file is refused by an error that begins with the file."""
    with pytest.raises(dg.GraphError, match=re.escape(str(path)) + ".*" + message):
        READERS[form](path, **options)


@every
def test_bytes_that_are_no_text_are_refused(tmp_path, form):
    path = tmp_path / f"net.{form}"
    seed = SEEDS[form].encode()
    for content, message in (
        (b"", "is empty; expected a network"),
        (b" \n\t", "is empty; expected a network"),
        (seed + b"\n\xff", rf":{seed.count(10) + 2}: not UTF-8: invalid start byte"),
        (gzip.compress(seed)[:-9], "damaged gzip file: Compressed file ended before"),
        (gzip.compress(seed)[:12], "damaged gzip file"),
        (gzip.compress(seed)[:-8] + b"\0" * 8, "damaged gzip file: CRC check failed"),
        (b"\x1f\x8bnothing of the kind", "damaged gzip file"),
        (gzip.compress(seed[:10] + b"\xc3"), "not UTF-8: unexpected end of data"),
        (b"\0" * 100, ""),
    ):
        path.write_bytes(content)
        refused(path, form, message)


@every
def test_a_bomb_is_not_unpacked(tmp_path, form):
    path = tmp_path / f"net.{form}.gz"
    press = zlib.compressobj(wbits=31)
    chunk = b" " * MEGA
    path.write_bytes(b"".join([*(press.compress(chunk) for _ in range(128)), press.flush()]))
    assert path.stat().st_size < MEGA
    tracemalloc.start()
    refused(path, form, r"holds more than 4,194,304 bytes when unpacked", max_bytes=4 * MEGA)
    assert tracemalloc.get_traced_memory()[1] < 20 * MEGA
    tracemalloc.stop()


@every
def test_no_more_than_so_much_is_read(tmp_path, form):
    path = tmp_path / f"net.{form}"
    path.write_text(SEEDS[form])
    size = path.stat().st_size
    READERS[form](path, max_bytes=size)
    refused(path, form, rf"holds more than {size - 1} bytes; if it is meant", max_bytes=size - 1)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no endless file")
def test_an_endless_file_ends():
    with pytest.raises(dg.GraphError, match="holds more than 1,000 bytes"):
        read_bif("/dev/zero", max_bytes=1000)


@every
def test_a_file_that_is_not_there_is_no_network(tmp_path, form):
    with pytest.raises(FileNotFoundError):
        READERS[form](tmp_path / "none")


LONG = 100_000
REPEATED = {
    "bif": [
        "/*",
        "/* *",
        "//",
        '"',
        '"\n',
        "property x ",
        " property",
        "network ",
        "variable a { type discrete [",
        "probability ( ",
        "{",
        "}",
        "(",
        ";",
        ",",
        " ",
        "\n",
        "network n { } ",
        "variable v { type discrete [ 1 ] { a }; } ",
        "variable v { type discrete [ 999999999 ] { a, ",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
    "uai": ["BAYES ", "MARKOV 1", "0 ", "1 ", "9", "-", "1e9 "],
    "evid": ["0 ", "1 ", "9", "x"],
    "json": ["[", '{"a":', "9", '"', "[]", "\\", "1,", "NaN", '{"format":"'],
}
HEADS = {
    "bif": [
        "",
        "network n {",
        "variable v { type discrete [ 2 ] {",
        "variable v { type discrete [ 2 ] { a, b }; } probability ( v",
        "variable v { type discrete [ 2 ] { a, b }; } probability ( v ) {",
        "variable v { type discrete [ 2 ] { a, b }; } probability ( v ) { table",
    ],
    "uai": ["", "MARKOV ", "MARKOV 1 2 1 1 0 2 ", "MARKOV 100000 ", "MARKOV 2 2 2 1000000 "],
    "evid": ["", "100000 "],
    "json": ["", '{"format": "daguerre network", "version": 1, "variables": {"a": '],
}


@every
def test_what_is_repeated_many_times_is_refused(tmp_path, form):
    """Work that is quadratic in one of these files would not end in hours."""
    path = tmp_path / f"net.{form}"
    for head in HEADS[form]:
        for part in REPEATED[form]:
            path.write_text(head + "".join(islice(cycle(part), LONG)))
            refused(path, form)


def test_a_message_stays_short(tmp_path):
    path = tmp_path / "net.bif"
    path.write_text("x" * MEGA)
    with pytest.raises(dg.GraphError) as caught:
        read_bif(path)
    assert len(str(caught.value)) < 300


def test_names_of_the_text_run_nothing(tmp_path):
    """A name is a name, whatever it looks like in Python, a shell or a format string."""
    names = ["__import__('os').abort()", "{0.__class__}", "$(exit)", "%s%n", "__class__"]
    text = "".join(
        f'variable "{n}" {{ type discrete [1] {{ "{n}" }}; }} probability ( "{n}" ) {{ table 1; }}'
        for n in names
    )
    path = tmp_path / "net.bif"
    path.write_text(text)
    assert read_bif(path).graph.names == tuple(names)
    assert set(read_bif(path).sample(2)) == set(names)


# Damage at random


@st.composite
def damaged(draw, seed: bytes) -> bytes:
    """A file with up to four bytes or stretches deleted, inserted, changed or repeated."""
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([1, 1, 1, 5, 40]))
        stretch = content[start : start + length]
        content[start : start + length] = draw(
            st.one_of(
                st.just(b""),
                st.just(bytes(stretch) * 2),
                st.binary(min_size=1, max_size=3),
                st.sampled_from(
                    [b"{", b"}", b"(", b")", b'"', b";", b",", b"|", b"/*", b"-", b"9" * 30, b"e9"]
                ),
            )
        )
    return bytes(content)


@every
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), pack=st.booleans())
def test_a_damaged_file_is_read_or_refused(tmp_path, form, data, pack):
    content = SEEDS[form].encode()
    if pack and form == "bif":  # what the compressed bytes can do is the same for all forms
        content = data.draw(damaged(gzip.compress(content, mtime=0)))
    else:
        content = data.draw(damaged(content))
    path = tmp_path / "net"
    path.write_bytes(content)
    try:
        found = READERS[form](path)
    except dg.GraphError as error:
        if not str(error).startswith(str(path)):
            raise
        return
    if isinstance(found, dg.Model):
        values = found.sample(2)
        assert all(torch.isfinite(value).all() for value in values.values())
