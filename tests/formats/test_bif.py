"""BIF: what is read, what is written, and that one undoes the other."""

import gzip
import re
from itertools import product

import pytest
import small_networks as small
import torch
from small_networks import BIF, FLOOD, LEVEL, RAIN, cpd, primes, table
from torch.distributions import Normal

import daguerre as dg
from daguerre.compose import Composed
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.formats import read_bif, write_bif
from daguerre.graph import Graph, Variable


@pytest.fixture
def read(tmp_path):
    """Read a text as a file called net.bif."""

    def read(text, **options):
        path = tmp_path / "net.bif"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_bif(path, **options)

    return read


def coin(states="h, t", values="table 0.5, 0.5;", name="c", head="c"):
    return (
        f"network n {{ }} variable {name} {{ type discrete [ 2 ] {{ {states} }}; }}\n"
        f"probability ( {head} ) {{ {values} }}"
    )


# Reading


def test_a_network_is_read_with_its_names_and_numbers(read):
    model = read(BIF)
    assert model.graph == Graph.from_edges(
        [("rain", "level"), ("rain", "flood"), ("level", "flood")]
    )
    assert model.graph.names == ("rain", "level", "flood")
    assert cpd(model, "level").states == ("<5", "5-12", "12+")
    assert cpd(model, "flood").states == ("not at all", "Asy/Patch")
    for name, expected in (("rain", RAIN), ("level", LEVEL), ("flood", FLOOD)):
        torch.testing.assert_close(table(model, name), expected, rtol=1e-15, atol=0)
        assert table(model, name).dtype == torch.float64


def test_the_joint_is_the_product_of_the_rows(read):
    found = small.joint(read(BIF))
    assert found[1, 2, 1] == pytest.approx(0.25 * 0.625 * 1.0)
    assert found[0, 1, 0] == pytest.approx(0.75 * 0.25 * 0.875)
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-14)


def test_gzip_is_known_by_its_bytes_and_marks_and_line_ends_do_not_matter(read):
    plain = table(read(BIF), "flood")
    for text in (
        gzip.compress(BIF.encode()),
        b"\xef\xbb\xbf" + BIF.encode(),
        BIF.replace("\n", "\r\n"),
    ):
        assert table(read(text), "flood").equal(plain)


def test_a_table_with_parents_runs_over_the_own_states_slowest(read):
    """The dog problem of the format's own description."""
    text = """network dog { }
    variable "dog-out" { type discrete [ 2 ] { true false }; }
    variable "bowel-problem" { type discrete[2] {true false}; }
    variable "family-out" { type discrete[2] { "true" "false" }; }
    probability ( "bowel-problem" ) { table 0.01 0.99; }
    probability ( "family-out" ) { table 0.15 0.85; }
    probability ( "dog-out" "bowel-problem" "family-out" ) {
      table 0.99 0.97 0.9 0.3 0.01 0.03 0.1 0.7;
    }"""
    found = table(read(text, strict=True), "dog-out")
    assert found[..., 0].flatten().tolist() == pytest.approx([0.99, 0.97, 0.9, 0.3])


def test_blocks_and_rows_come_in_any_order(read):
    blocks = re.split(r"\n(?=variable|probability)", BIF)
    backwards = read("\n".join(reversed(blocks)))
    assert backwards.graph == read(BIF).graph
    assert table(backwards, "flood").equal(table(read(BIF), "flood"))


def test_rounded_rows_are_divided_by_their_sum_unless_strict(read):
    text = coin(values="table 0.333, 0.666;")
    assert table(read(text), "c").tolist() == pytest.approx([1 / 3, 2 / 3], rel=1e-15)
    with pytest.raises(
        dg.GraphError, match=r"net.bif:2: 'c': the row sums to 0.999; expected 1 w"
    ):
        read(text, strict=True)
    assert table(read(coin(values="table 0.3333333, 0.6666666;"), strict=True), "c").sum() == 1


def test_strict_asks_for_quotes_and_for_a_network_block(read):
    spaced = coin(states="very low, high")
    assert cpd(read(spaced), "c").states == ("very low", "high")
    with pytest.raises(dg.GraphError, match="the name 'very low' has spaces and no quotes"):
        read(spaced, strict=True)
    headless = coin().removeprefix("network n { }")
    assert read(headless).graph.names == ("c",)
    with pytest.raises(dg.GraphError, match="expected a block `network NAME"):
        read(headless, strict=True)


@pytest.mark.parametrize("name", ["base", "training", "graph", "_x", "a.b", "table", "property"])
def test_any_name_is_a_variable(read, name):
    model = read(coin(name=name, head=name))
    assert model.sample(3)[name].shape == (3,)
    assert next(iter(model.state_dict())).endswith("table")


def test_names_that_look_alike_keep_their_own_tables():
    names = ["a.b", "a/b", "a~/b", "base", "base~", "graph", "graph~", "graph/", ""]
    cpds = {n: Tabular(torch.eye(len(names))[i]) for i, n in enumerate(names)}
    model = Composed(Graph(map(Variable, names)), cpds)
    assert [model.sample(1)[n].item() for n in names] == list(range(len(names)))


# Writing


def test_reading_undoes_writing(tmp_path):
    model = primes("b.c", "a b", "c", "d")
    for name in ("net.bif", "net.bif.gz"):
        again = read_bif(write_bif(model, tmp_path / name), strict=True)
        assert again.graph == model.graph
        for step in model.steps():
            torch.testing.assert_close(
                table(again, step.name), table(model, step.name), rtol=2e-15, atol=0
            )
        assert small.joint(again) == pytest.approx(small.joint(model), rel=1e-13)
    assert cpd(again, "a b").states == ("x/y", "<1", "table")
    assert cpd(again, "d").states == tuple(f"s{i}" for i in range(7))


def test_the_numbers_in_the_file_are_those_of_the_table_to_the_bit(tmp_path):
    model = primes("a", "b", "c", "d")
    text = write_bif(model, tmp_path / "net.bif").read_text()
    block = re.search(r"probability \( d [^}]*", text)
    assert block
    numbers = [float(n) for n in re.findall(r"(?<=[ ,])[0-9.e-]+(?=[,;])", block[0])]
    assert numbers == table(model, "d").flatten().tolist()
    rows = re.findall(r"\(([^|()]*)\)", block[0])
    own = [f"s{i}" for i in range(5)]
    assert rows == [
        ", ".join(row) for row in product(own, ["u", '"two words"'], ["x/y", "<1", "table"])
    ]


def test_a_table_in_float32_is_written_so_that_its_rows_sum_to_one(tmp_path):
    model = dg.model(a=Tabular(torch.rand(7).softmax(0)))
    assert table(model, "a").dtype == torch.float32
    again = read_bif(write_bif(model, tmp_path / "net.bif"), strict=True)
    torch.testing.assert_close(table(again, "a").float(), table(model, "a"))


def test_what_the_format_does_not_hold_is_refused_by_name(tmp_path):
    path = tmp_path / "net.bif"
    with pytest.raises(dg.InadmissibleError, match="'z' is stochastic, of other code"):
        write_bif(dg.model(z=Normal(0.0, 1.0)), path)
    with pytest.raises(dg.InadmissibleError, match="'x' is an input"):
        write_bif(dg.model(x=dg.Input()), path)
    with pytest.raises(dg.InadmissibleError, match="'z' is a linear Gaussian, and BIF holds"):
        write_bif(dg.model(z=LinearGaussian(0.0, 1.0)), path)
    for name in ('say "a"', "two\nlines", "", "\ud800"):
        with pytest.raises(dg.GraphError, match="is no name for BIF"):
            write_bif(Composed(Graph([Variable(name)]), {name: Tabular([0.5, 0.5])}), path)
    with pytest.raises(dg.GraphError, match="table for 3 states of 'a', which has 2"):
        write_bif(dg.model(a=Tabular([0.5, 0.5]), b=Tabular([[1.0]] * 3, "a")), path)
    spoilt = dg.model(a=Tabular([0.5, 0.5]))
    torch.nn.init.constant_(next(spoilt.parameters()), torch.nan)
    with pytest.raises(dg.GraphError, match="the table of 'a' holds NaN"):
        write_bif(spoilt, path)
    assert not path.exists()


# Errors


SLIPS = {
    "net.bif:2: expected a block network, variable or probability; found 'oops": "\noops",
    "net.bif:2: expected variable NAME { type discrete": "\nvariable a { type real; }",
    "expected variable NAME { type discrete [ COUNT ] { STATE, ... }; }; found 'variable:c": coin(
        name=":c"
    ).replace("variable ", "variable"),
    "expected network NAME { }; found 'network//": "network// n\n{ }",
    "found 'variable a, b {": coin(name="a, b"),
    "net.bif:1: expected the name of a variable, found 'a b": coin(name="a b"),
    "net.bif:1: the variable 'c' is declared twice": coin().replace(
        "variable", "variable c { type discrete [1] { x }; } variable"
    ),
    "net.bif:1: 'c' declares 2 states and lists 1": coin(states="h"),
    "net.bif:1: 'c' declares 2 states and lists more": coin(states="h, t, e"),
    "net.bif:1: 'c' lists the state 'h' twice": coin(states="h, h"),
    "net.bif:1: expected a name, found nothing": coin(states="h, "),
    "expected a name, found '\"h'": coin(states='"h, t'),
    "net.bif:1: a comment begins here and does not end": coin().replace("n {", "n { /*/"),
    "net.bif:1: expected ';' at the end of this property": "network n { property x }",
    "net.bif:2: 'd': no variable 'd' is declared; known: c": coin(head="d"),
    "net.bif:2: 'c': no variable 'cc' is declared; did you mean 'c'": coin(head="c | cc"),
    "net.bif:2: 'c': a variable is named twice": coin(head="c | c"),
    "net.bif:2: expected one name before '|'": coin(head="c, d | c"),
    "net.bif:2: expected the name of a variable in": coin(head=" "),
    "net.bif:2: 'c' has two blocks": coin() + coin().split("\n")[1],
    "'c' has no block `probability`": coin().split("\n")[0],
    "it declares no variable": "network n { }",
    "net.bif:2: 'c': expected 2 numbers, found 1": coin(values="table 0.5;"),
    "net.bif:2: 'c': expected 2 numbers, found more": coin(values="table 0.5, 0.25, 0.25;"),
    "net.bif:2: 'c': expected a number, found 'half'": coin(values="table half, 0.5;"),
    "net.bif:2: 'c': expected a number, found 'nan'": coin(values="table nan, 0.5;"),
    "net.bif:2: 'c': expected a number, found '0_5'": coin(values="table 0_5, 0.5;"),
    "net.bif:2: 'c': expected a number, found '１'": coin(values="table １, 0;"),
    "net.bif:2: 'c': the row holds -0.5; probabilities": coin(values="table -0.5, 1.5;"),
    "net.bif:2: 'c': the row holds inf": coin(values="table 1e999, 0.5;"),
    "net.bif:2: 'c': the row sums to 0; expected 1 within 0.05": coin(values="table 0, 0;"),
    "net.bif:2: 'c': expected ';' after 'table": coin(values="table 0.5, 0.5"),
    "net.bif:2: 'c': expected `table NUMBER, ...;`, found '(h)": coin(values="(h) 1, 0;"),
    "net.bif:2: 'c': expected `table NUMBER, ...;`, found 'tables 1": coin(values="tables 1, 0;"),
    "net.bif:2: 'c': has two tables": coin(values="table 1, 0; table 1, 0;"),
    "net.bif:2: 'c': has two defaults": coin(values="default 1, 0; default 1, 0;"),
    "net.bif:2: 'c': has a table and rows besides": coin(values="default 1, 0; table 1, 0;"),
    "net.bif:2: 'c': expected `table NUMBER, ...;`, found nothing": coin(values=""),
    "net.bif:2: 'c': more statements than rows, 1": coin(values="table 1, 0;" + ";" * 9),
}


@pytest.mark.parametrize("message", SLIPS)
def test_a_slip_is_refused_with_its_line(read, message):
    with pytest.raises(dg.GraphError, match=re.escape(message)):
        read(SLIPS[message])


ROWS = {
    "net.bif:18: 'level': expected 3 numbers, found 2": ("0.125, 0.25,", "0.125,"),
    "net.bif:19: 'level': has two rows (yes)": ("(no) 5e-1", "(yes) 5e-1"),
    "net.bif:19: 'level': the row (no) sums to 0.7": ("5e-1", "2e-1"),
    "net.bif:17: 'level': no row for (no) and no default": ("(no) 5e-1, .25, 0.25;", ""),
    "net.bif:23: 'flood': 'rain' has no state 'yess'; did you mean 'yes'": (
        "(yes, 12+)",
        "(yess, 12+)",
    ),
    "net.bif:23: 'flood': the row names ('yes'), not 2 states": (
        "yes, 12+",
        "yes",
    ),
    "net.bif:24: 'flood': expected `(STATE, ...) NUMBER": ('"5-12")', '"5-12"'),
}


@pytest.mark.parametrize("message", ROWS)
def test_a_slip_in_a_row_is_refused_with_its_line(read, message):
    with pytest.raises(dg.GraphError, match=re.escape(message)):
        read(BIF.replace(*ROWS[message]))


def test_a_cycle_is_refused_with_the_file(read):
    text = BIF.replace("( rain )", "( rain | flood )").replace("table 0.75", "default 0.75")
    with pytest.raises(dg.GraphError, match=r"net.bif: the graph has a cycle: .*flood"):
        read(text)


def test_too_many_parents_are_refused_before_their_table_is_made(read):
    names = [f"v{i}" for i in range(70)]
    text = "".join(
        f"variable {n} {{ type discrete [2] {{ a, b }}; }} probability ({n}) {{ table 1, 0; }}"
        for n in names
    )
    text += (
        "\nvariable x { type discrete [2] { a, b }; }\nprobability (x | PARENTS) { default 1, 0; }"
    )
    with pytest.raises(
        dg.GraphError, match=r"net.bif:3: 'x': a table over 71 variables; a tensor"
    ):
        read(text.replace("PARENTS", ", ".join(names)))
    with pytest.raises(dg.GraphError, match=r"'x': the tables have 1,073,741,964 entries so far"):
        read(text.replace("PARENTS", ", ".join(names[:29])))
    small = text.replace("PARENTS", ", ".join(names[:3]))
    assert table(read(small), "x").shape == (2, 2, 2, 2)
    with pytest.raises(dg.GraphError, match="more than 100; if they are meant to, pass a larger"):
        read(small, max_entries=100)
