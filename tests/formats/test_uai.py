"""UAI files: Bayesian networks, Markov networks, evidence."""

import math
import re

import pytest
import small_networks as small
import torch
from small_networks import FLOOD, LEVEL, RAIN, UAI, primes, table

import daguerre as dg
from daguerre.cpds import LinearGaussian
from daguerre.formats import Factors, read_uai, read_uai_evidence, write_uai

MARKOV = "MARKOV\n2\n2 3\n3\n1 1\n2 1 0\n0\n\n3 4 0 .5\n6 1 2 3 4 5 6e2\n1 7\n"


@pytest.fixture
def read(tmp_path):
    """Read a text as a file called net.uai."""

    def read(text, **options):
        path = tmp_path / "net.uai"
        path.write_text(text)
        return read_uai(path, **options)

    return read


@pytest.fixture
def evidence(tmp_path):
    """Read a text as a file called net.evid."""

    def evidence(text):
        path = tmp_path / "net.evid"
        path.write_text(text)
        return read_uai_evidence(path)

    return evidence


def test_a_bayesian_network_becomes_a_model(read):
    model = read(UAI)
    assert isinstance(model, dg.Model)
    assert model.graph == dg.Graph.from_edges([("x0", "x1"), ("x0", "x2"), ("x1", "x2")])
    for name, expected in (("x0", RAIN), ("x1", LEVEL), ("x2", FLOOD)):
        torch.testing.assert_close(table(model, name), expected, rtol=1e-15, atol=0)


def test_a_markov_network_stays_a_product_of_tables(read):
    found = read(MARKOV)
    assert isinstance(found, Factors)
    assert found.sizes == {"x0": 2, "x1": 3}
    assert found.scopes == (("x1",), ("x1", "x0"), ())
    assert [t.tolist() for t in found.tables] == [[4, 0, 0.5], [[1, 2], [3, 4], [5, 600]], 7]
    assert all(t.dtype == torch.float64 for t in found.tables)


def test_reading_undoes_writing(tmp_path):
    model = primes("a", "b", "c", "d")
    again = read_uai(write_uai(model, tmp_path / "net.uai.gz"), strict=True)
    assert isinstance(again, dg.Model)
    assert small.joint(again) == pytest.approx(small.joint(model), rel=1e-13)
    named = dict(zip(again.graph.names, model.graph.names, strict=True))
    edges = {(named[a], named[b]) for a, b in again.graph.edges}
    assert edges == set(model.graph.edges)


def test_factors_are_written_to_the_bit(tmp_path):
    tables = (
        torch.rand(3, 2).double() / 3,
        torch.tensor([0.0, 1e-300, 1e300], dtype=torch.float64),
    )
    tables = (*tables, torch.tensor(math.pi, dtype=torch.float64))
    product = Factors({"a": 2, "b": 3}, (("b", "a"), ("b",), ()), tables)
    again = read_uai(write_uai(product, tmp_path / "net.uai"))
    assert isinstance(again, Factors)
    assert again.scopes == (("x1", "x0"), ("x1",), ())
    assert all(a.equal(b) for a, b in zip(again.tables, tables, strict=True))


def test_only_tables_are_written(tmp_path):
    with pytest.raises(dg.InadmissibleError, match="'z' is a linear Gaussian, and UAI holds"):
        write_uai(dg.model(z=LinearGaussian(0.0, 1.0)), tmp_path / "net.uai")


def test_rounded_rows_are_divided_by_their_sum_unless_strict(read):
    text = "BAYES 1 3 1 1 0 3 0.33 0.33 0.33"
    assert table(read(text), "x0").tolist() == pytest.approx([1 / 3] * 3, rel=1e-15)
    with pytest.raises(dg.GraphError, match=r"net.uai:1: row 0 of the table of x0 sums to 0.99"):
        read(text, strict=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", {}),
        ("1 0", {}),
        ("2 0 1 3 0\n", {"x0": 1, "x3": 0}),
        ("1\n2 0 1 3 0\n", {"x0": 1, "x3": 0}),
        ("1 5 2", {"x5": 2}),
        ("1 1 5 2", {"x5": 2}),
        ("2 5 2 5 2", {"x5": 2}),
    ],
)
def test_both_forms_of_evidence_are_read(evidence, text, expected):
    assert evidence(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "net.evid is empty"),
        ("2 0 1", "2 observations take 5 words, and the file has 3; a file of several samples"),
        ("1 0 1 3", "net.evid:1: expected the end of the file, found '1'"),
        ("1 0 -3", "expected the state of x0, from 0 to 16,777,216; found '-3'"),
        ("0 1", "0 observations take 1 word, and the file has 2"),
        ("2 5 2 5 1", "x5 is observed in two states, 2 and 1"),
        ("1 -1 0", "net.evid:1: expected a variable, from 0 to 100,000; found '-1'"),
        ("one", "expected the number of observed variables, from 0 to 100,000; found 'one'"),
    ],
)
def test_evidence_that_does_not_add_up_is_refused(evidence, text, message):
    with pytest.raises(dg.GraphError, match=re.escape(message)):
        evidence(text)


SLIPS = {
    "net.uai:1: expected BAYES or MARKOV, found 'POTTS'": ("BAYES", "POTTS"),
    "net.uai:3: expected the number of states of variable 1, from 1 to": ("2 3 2", "2 0 2"),
    "net.uai:3: expected the number of states of variable 2": ("2 3 2", "2 3 2.0"),
    "net.uai:4: expected the number of factors": ("\n3\n1 0", "\n-3\n1 0"),
    "net.uai:6: expected a variable of factor 1, from 0 to 2; found '3'": ("2 0 1", "2 0 3"),
    "net.uai:6: factor 1 repeats a variable: '(1, 1)'": ("2 0 1", "2 1 1"),
    "net.uai:10: expected a number, found 'nan'": (" 0.75", " nan"),
    "net.uai:11: factor 1 has 6 entries; the file says 7": ("\n6\n", "\n7\n"),
    "expected 1 more entries of factor 2, and the file ends": ("0.5 0 1\n", "0.5 0"),
    "net.uai:18: expected the end of the file, found '5'": ("0.5 0 1\n", "0.5 0 1\n\n5\n"),
    "net.uai:9: row 0 of the table of x0 holds -0.75; prob": (" 0.75", "-0.75"),
    "net.uai:9: row 0 of the table of x0 sums to 0.5": (" 0.75", "0.25"),
    "x2 has two tables; factor 2 is the second": ("1 0", "1 2"),
}


@pytest.mark.parametrize("message", SLIPS)
def test_a_slip_is_refused_with_its_line(read, message):
    with pytest.raises(dg.GraphError, match=re.escape(message)):
        read(UAI.replace(*SLIPS[message], 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BAYES 2 2 2 2 2 0 1 2 1 0 4 1 0 1 0 4 1 0 1 0", "net.uai: the graph has a cycle: x"),
        ("BAYES 1 2 0", "net.uai: x0 is the last variable of no factor"),
        ("BAYES 1 2 1 0 1 1", "net.uai:1: factor 0 of a BAYES file has no variable"),
        ("MARKOV 1 2 1 1 0 2 1 -1", "net.uai:1: entry 1 is -1; expected 0 or more"),
        ("MARKOV 1 2 1 1 0 2 1 1e999", "net.uai:1: entry 1 is inf; expected 0 or more"),
        ("MARKOV 99999999999999999999", "expected the number of variables, from 1 to 100,000"),
        ("MARKOV 1 1000000000", "expected the number of states of variable 0, from 1 to"),
        (f"MARKOV 30 {'2 ' * 30} 1 30 {' '.join(map(str, range(30)))}", "1,073,741,824 entries"),
        (f"MARKOV 70 {'1 ' * 70} 1 70", "variables of factor 0, from 0 to 64; found '70'"),
    ],
)
def test_networks_that_cannot_be_are_refused(read, text, message):
    with pytest.raises(dg.GraphError, match=re.escape(message)):
        read(text)


def test_a_larger_network_is_read_where_it_is_allowed(read):
    text = "MARKOV 1 5 1 1 0 5 1 2 3 4 5"
    with pytest.raises(dg.GraphError, match="from 1 to 4; found '5'"):
        read(text, max_entries=4)
    assert read(text, max_entries=5).sizes == {"x0": 5}


def factors(**changed):
    given = {"sizes": {"a": 2, "b": 3}, "scopes": (("b", "a"),), "tables": (torch.ones(3, 2),)}
    return Factors(**(given | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scopes": ()}, "0 scopes came with 1 tables; expected one each"),
        ({"sizes": {"a": 2, "b": 0}}, "'b' has 0 states; expected one or more"),
        ({"scopes": (("b", "A"),)}, "factor 0 has the unknown variable 'A'; did you mean 'a'?"),
        ({"scopes": (("b", "b"),)}, "factor 0 repeats a variable: b, b"),
        ({"tables": (torch.ones(2, 3),)}, "(b, a) takes a table of floats of shape [3, 2], not"),
        ({"tables": (torch.ones(3, 2, dtype=torch.int64),)}, "not torch.int64 of [3, 2]"),
        ({"tables": (torch.tensor([[1, 1], [1, -2.0], [1, 1]]),)}, "(b, a) is -2 at [1, 1]"),
        ({"tables": (torch.full((3, 2), torch.nan),)}, "(b, a) is nan at [0, 0]; expected 0 or"),
    ],
)
def test_factors_that_do_not_fit_are_refused(changed, message):
    assert factors().tables[0].shape == (3, 2)
    with pytest.raises(dg.GraphError, match=re.escape(message)):
        factors(**changed)
