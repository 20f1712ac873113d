"""Readers of music, text and series: what they return, and what they refuse by name."""

import json
import math
import os
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import daguerre as dg
from daguerre.data import Split, chorales, series, text
from daguerre.data.split import read_bytes

NAN = math.nan
DATA = os.environ.get("DAGUERRE_DATA")


def folder(name: str) -> Path:
    if DATA is None or not Path(DATA, name).is_dir():
        pytest.skip(f"DAGUERRE_DATA names no folder with {name}/")
    return Path(DATA, name)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("sequences") / "own-file"


def refusal(read, path) -> str:
    """What the one admitted kind of error says."""
    with pytest.raises(ValueError, match="own-file") as caught:
        read(path)
    return str(caught.value)


def outcome(read, *arguments, **options):
    """What is read, or what the error says; any other exception is a failure."""
    try:
        return read(*arguments, **options)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("read", [chorales, text, series])
def test_a_missing_file_and_an_empty_one_are_named(read, path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nothing"):
        read(tmp_path / "nothing")
    path.write_bytes(b"")
    assert "is empty" in refusal(read, path)


@pytest.mark.parametrize("read", [chorales, text, series])
@given(content=st.binary(min_size=1, max_size=64) | st.text(min_size=1).map(str.encode))
@settings(deadline=None, max_examples=30)
def test_noise_is_never_more_than_a_value_error(read, path, content):
    path.write_bytes(content)
    found = outcome(read, path)
    assert not isinstance(found, str) or "own-file" in found


def test_files_that_are_too_large_are_read_up_to_that_point_alone(path):
    path.write_bytes(bytes(11))
    assert len(read_bytes(path, most=11)) == 11
    with pytest.raises(ValueError, match=r"own-file has more than 10 bytes"):
        read_bytes(path, most=10)


def test_readers_are_reached_from_the_data():
    assert (dg.data.chorales, dg.data.text, dg.data.series) == (chorales, text, series)


def test_a_split_shows_its_valid_part_where_it_has_one():
    x = {"x": torch.zeros(2, 3)}
    assert repr(Split(x, x)) == "Split(train: x [2, 3]; test: x [2, 3])"
    assert repr(Split(x, x, x)) == "Split(train: x [2, 3]; valid: x [2, 3]; test: x [2, 3])"


# Music


def music(path, **parts):
    path.write_text(json.dumps({"train": [[[60]]], "valid": [[[60]]], "test": [[[60]]]} | parts))
    return path


def test_keys_sound_at_their_steps_and_what_is_beyond_the_end_is_missing(path):
    x = chorales(music(path, test=[[[21, 108], [], [60, 60]], [[22]]])).test["x"]
    assert (x.dtype, x.shape) == (torch.float32, (2, 3, 88))
    assert (x == 1).nonzero().tolist() == [[0, 0, 0], [0, 0, 87], [0, 2, 39], [1, 0, 1]]
    assert x.isnan().all(2).tolist() == [[False] * 3, [False, True, True]]
    assert x.isnan().any(2).tolist() == x.isnan().all(2).tolist()


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], r"train: expected lists of pieces.* came \[\]"),
        ("Bach", 'train: expected lists of pieces.* came "Bach"'),
        ([[[60]], []], r"train\[1\]: expected lists of pieces.* came \[\]"),
        ([[[60], 61]], r"train\[0\]\[1\]: expected a list of MIDI pitches 21 to 108, came 61"),
        ([[[60], [109]]], r"train\[0\]\[1\]: .* came \[109\]"),
        ([[[60.5]]], r"train\[0\]\[0\]: .* came \[60.5\]"),
        ([[[True]]], r"train\[0\]\[0\]: .* came \[true\]"),
        ([[[]] * 40_000, *[[[]]] * 100], "101 pieces of up to 40,000 steps are more than"),
    ],
)
def test_what_is_no_music_is_refused_with_its_place(path, pieces, message):
    with pytest.raises(ValueError, match=message):
        chorales(music(path, train=pieces))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2]", "expected an object of train, valid and test, came list"),
        (b'{"train": []}', r"came \['train'\]"),
        (b"[" * 100_000, "own-file is no JSON"),
        (b"9" * 10_000, "own-file is no JSON"),
        (b'{"train": [[[60', "own-file is no JSON: Expecting"),
        (b'{"train": \xff}', "not UTF-8: byte 10 is ff"),
    ],
)
def test_what_is_no_json_of_three_parts_is_refused(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        chorales(path)


def test_the_real_chorales():
    root = folder("polyphonic_music")
    split = chorales(root)
    parts = [split.train["x"], split.valid["x"], split.test["x"]]
    assert [len(x) for x in parts] == [229, 76, 77]
    assert [int((~x[..., 0].isnan()).sum()) for x in parts] == [13_807, 4_602, 4_725]
    rate = torch.cat([x.flatten(0, 1) for x in parts[:1]]).nanmean(0)
    test = parts[2].flatten(0, 1)
    test = test[~test[:, 0].isnan()]
    log = torch.distributions.Bernoulli(rate.clamp(1e-4, 1)).log_prob(test).sum(1).mean()
    assert log.item() == pytest.approx(-11.06, abs=0.02)  # independent keys, as published


# Text


def test_windows_lie_side_by_side_and_the_rest_is_dropped(path):
    path.write_bytes("\ufeffzaß\r\n".encode() * 4)
    found = text(path, length=6, test=0.4)
    assert found.vocabulary == "\n\razß\ufeff"  # one mark is no character, others are
    assert found.decode(found.train["x"].flatten()) == ("zaß\r\n\ufeff" * 4)[:12]
    assert found.decode(found.test["x"][0]) == ("zaß\r\n\ufeff" * 4)[14:20]
    assert found.train["x"].dtype == torch.int64


@given(content=st.text(min_size=8), length=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_what_is_encoded_is_decoded(path, content, length):
    path.write_text(content, encoding="utf-8", newline="")
    found = outcome(text, path, length=length, test=0.5)
    if isinstance(found, str):
        assert "own-file" in found
        return
    kept = found.decode(found.train["x"].flatten())
    assert content.removeprefix("\ufeff").startswith(kept)
    assert torch.equal(found.encode(kept), found.train["x"].flatten())


def test_characters_and_numbers_of_another_text_are_refused(path):
    path.write_text("abab")
    found = text(path, length=1, test=0.5)
    assert found.decode(torch.tensor([1, 0, -1, -1])) == "ba"
    assert found.encode("").shape == (0,)
    with pytest.raises(ValueError, match="'c' is not among the 2 characters"):
        found.encode("abc")
    with pytest.raises(ValueError, match=r"numbers \[T\] below 2, came \[1\] up to 2"):
        found.decode(torch.tensor([2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "1 or more, not 0"),
        ({"length": True}, "not True"),
        ({"test": 1.0}, "test=1.0: expected a fraction"),
        ({"length": 9}, "9 characters to train on and 1 held out are too few for windows of 9"),
    ],
)
def test_options_of_a_text_are_checked(path, options, message):
    path.write_text("abcdefghij")
    with pytest.raises(ValueError, match=message):
        text(path, **options)


def test_the_real_text():
    found = text(folder("tiny_shakespeare") / "input.txt")
    assert len(found.vocabulary) == 65
    assert found.decode(found.train["x"][0]).startswith("First Citizen:\nBefore we proceed")
    counts = found.train["x"].flatten().bincount(minlength=65).double()
    log = (counts / counts.sum()).log()[found.test["x"]].mean()
    assert -log.item() == pytest.approx(3.347, abs=0.01)  # as measured by others


# Series


def test_columns_are_read_in_the_order_that_is_asked_for(path):
    path.write_text('\ufeff"a,b",day,c\r\n1,mon, 2.5 \r\n,tue,-3e2\r\n\r\n')
    found = series(path, columns=["c", "a,b"])
    assert found.columns == ("c", "a,b")
    assert (found.ids, found.lengths.item()) == ((), 2)
    torch.testing.assert_close(found.x, torch.tensor([[2.5, 1], [-300, NAN]]), equal_nan=True)


def test_rows_of_several_series_may_lie_among_each_other(path):
    path.write_text("id,x\nb,1\na,2\nb,3\nb,\n")
    found = series(path, by="id")
    assert (found.ids, found.lengths.tolist()) == (("b", "a"), [3, 1])
    want = torch.tensor([[1, 3, NAN], [2, NAN, NAN]]).unsqueeze(2)
    torch.testing.assert_close(found.x, want, equal_nan=True)
    assert repr(found) == "Series(x [2, 3, 1]: x)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "has a header and no rows"),
        ("1,2\n3,4\n", "line 1, column 1: expected a header, so a name, came '1'"),
        ("a,\n1,2\n", "line 1, column 2: expected a header, so a name, came ''"),
        ("a,a\n1,2\n", "line 1, column 2: 'a' is there already"),
        ("a,b\n1,2\n3\n", "line 3: 1 fields; expected 2, as in the header"),
        ("a,b\n1,2,3\n", "line 2: 3 fields; expected 2"),
        ("a,b\n1,2\n\n3,4\n", "line 3: an empty line; expected 2"),
        ("a,b\n1,x\n", "line 2, column 'b': expected a finite number of float32.* came 'x'"),
        ("a,b\n1,1_0\n", "line 2, column 'b': .* came '1_0'"),
        ("a,b\n1,inf\n", "line 2, column 'b': .* came 'inf'"),
        ("a,b\n1,1e39\n", "line 2, column 'b': .* came '1e39'"),
        ('a,b\n1,"2\n3,4\n', "line 3: unexpected end of data"),
        ('a,b\n"1"0,2\n', "line 2: ',' expected after '\"'"),
        (b"a,b\n1,2\n1,\xe9\n", "line 3: not UTF-8 at byte 2"),
        (b"a\n" + b"1" * 2_000_000, "line 2: 1,048,576 bytes or more"),
        (b"a\n" + b"1" * 200_000, "line 2: field larger than field limit"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_with_its_place(path, content, message):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"own-file.*{message}"):
        series(path)


def test_columns_are_checked(path):
    path.write_text("year,value\n1,2\n")
    with pytest.raises(ValueError, match="has no column 'vale'; did you mean 'value'"):
        series(path, columns=["vale"])
    with pytest.raises(ValueError, match="has no column 'id'"):
        series(path, by="id")
    for columns in ([], ["value", "value"], ["year"]):
        with pytest.raises(ValueError, match="different columns of numbers beside 'year'"):
            series(path, columns=columns, by="year")
    with pytest.raises(TypeError, match=r"columns=\['value'\]"):
        series(path, columns="value")


def test_padding_that_would_fill_the_memory_is_refused(path):
    ids = "".join(f"{i},0\n" for i in range(20_000))
    path.write_text("id,x\n" + ids + "0,0\n" * 20_000)
    tracemalloc.start()
    assert "20,000 series of up to 20,001 steps" in refusal(lambda p: series(p, by="id"), path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
