"""JSON of our own: tables, linear Gaussians, conditional Gaussians."""

import json
import re

import pytest
import torch
from small_networks import JSON, LEVEL, RAIN, cpd, primes, rows, table
from torch.distributions import Normal

import daguerre as dg
from daguerre.compose import Composed
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.formats import read_network, write_network
from daguerre.graph import Graph, Variable


@pytest.fixture
def read(tmp_path):
    """Read a text, or a document, as a file called net.json."""

    def read(text, **options):
        path = tmp_path / "net.json"
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return read_network(path, **options)

    return read


def gaussian(model: dg.Model, name: str) -> LinearGaussian:
    found = cpd(model, name)
    assert isinstance(found, LinearGaussian)
    return found


def mixed() -> dg.Model:
    """All that the form can hold: numbers and vectors, with and without states, both scales."""
    draw = torch.randn
    cpds = {
        "s": Tabular(rows(2), states=["lo", "hi"]),
        "t": Tabular(rows(2, 3), "s"),
        "x": LinearGaussian(draw(3, 2).double(), torch.rand(3, 2).double(), given=["t", "s"]),
        "y": LinearGaussian(
            draw(2, 5).double(),
            weights={"x": draw(2, 5).double()},
            given=["s"],
            scale_tril=torch.rand(2, 5, 5).double().tril(),
        ),
        "z": LinearGaussian(draw(7).double(), torch.zeros(7).double(), weights={"y": draw(7, 5)}),
        "w": LinearGaussian(0.5, 2.0, weights={"z": draw(7), "x": 3.0}),
    }
    return Composed(Graph(Variable(n, c.parents) for n, c in cpds.items()), cpds)


def test_a_network_is_read_with_its_names_and_numbers(read):
    model = read(JSON, strict=True)
    assert model.graph.names == ("rain", "level", "depth", "flow")
    assert model.graph.parents("flow") == ("depth", "rain")
    torch.testing.assert_close(table(model, "rain"), RAIN, rtol=1e-15, atol=0)
    torch.testing.assert_close(table(model, "level"), LEVEL, rtol=1e-15, atol=0)
    assert cpd(model, "rain").states == ("no", "yes")
    assert cpd(model, "level").states is None
    bias, weights, scale = gaussian(model, "flow").affine()
    assert bias.tolist() == [[1, 2], [3, 4]]
    assert weights["depth"].tolist() == [[[0.5], [0]], [[1], [-1]]]
    assert scale.tolist() == [[[1, 0], [0.5, 2]], [[1, 0], [0, 0]]]
    drawn = model.sample(100)
    assert drawn["flow"].shape == (100, 2)
    assert (drawn["depth"][drawn["level"] == 0] == 0).all()


@pytest.mark.parametrize("name", ["net.json", "net.json.gz"])
def test_reading_undoes_writing(tmp_path, name):
    model = mixed()
    again = read_network(write_network(model, tmp_path / name), strict=True)
    assert again.graph == model.graph
    assert [v.parents for v in again.graph.variables] == [v.parents for v in model.graph.variables]
    for step in model.steps():
        if isinstance(step.cpd, Tabular):
            assert cpd(again, step.name).states == step.cpd.states
            torch.testing.assert_close(table(again, step.name), step.cpd.probs, rtol=2e-15, atol=0)
            continue
        one, other = gaussian(model, step.name).affine(), gaussian(again, step.name).affine()
        assert one.bias.double().equal(other.bias)
        assert all(w.double().equal(other.weights[n]) for n, w in one.weights.items())
        torch.testing.assert_close(other.scale, one.scale.double(), rtol=1e-14, atol=0)


def test_a_network_of_tables_keeps_any_name(tmp_path):
    model = primes("a.b", "\n", 'say "ä"', "\x00")
    again = read_network(write_network(model, tmp_path / "net.json"))
    assert again.graph == model.graph
    torch.testing.assert_close(table(again, "\x00"), table(model, "\x00"), rtol=2e-15, atol=0)


def test_what_no_file_holds_is_refused_by_name(tmp_path):
    path = tmp_path / "net.json"
    with pytest.raises(dg.InadmissibleError, match="'z' is stochastic, of other code: a file hol"):
        write_network(dg.model(z=Normal(0.0, 1.0)), path)
    with pytest.raises(dg.InadmissibleError, match="'y' is deterministic, of other code"):
        write_network(dg.do(dg.model(y=LinearGaussian(0.0, 1.0)), y=1.0), path)
    spoilt = dg.model(z=LinearGaussian(0.0, 1.0))
    torch.nn.init.constant_(next(spoilt.parameters()), torch.inf)
    with pytest.raises(dg.GraphError, match="the linear Gaussian of 'z' holds NaN or infinity"):
        write_network(spoilt, path)
    two = dg.model(
        z=LinearGaussian(torch.zeros(2), 1 + torch.zeros(2)),
        x=LinearGaussian(0.0, 1.0, weights={"z": 1.0}),
    )
    with pytest.raises(
        dg.GraphError, match=r"'x' has a weight for an event \[\] of 'z', whose ev"
    ):
        write_network(two, path)
    discrete = dg.model(s=Tabular([0.5, 0.5]), x=LinearGaussian(0.0, 1.0, weights={"s": 1.0}))
    with pytest.raises(dg.GraphError, match=r"event \[\] of 's', whose event is of states"):
        write_network(discrete, path)
    under = dg.model(z=LinearGaussian(0.0, 1.0), s=Tabular([[0.5, 0.5]], "z"))
    with pytest.raises(dg.GraphError, match="'s' has a table over 'z', which is continuous"):
        write_network(under, path)
    assert not path.exists()


def test_rounded_rows_are_divided_by_their_sum_unless_strict(read):
    text = JSON.replace("0.75, 0.25]", "0.74, 0.25]")
    assert table(read(text), "rain").sum().item() == pytest.approx(1, abs=1e-15)
    with pytest.raises(dg.GraphError, match=r"net.json, 'rain': table: row \[\] sums to 0.99"):
        read(text, strict=True)


SLIPS = {
    "net.json:2: no JSON: Expecting property name": ('"rain"', "rain"),
    "net.json: JSON has no NaN; expected finite numbers": ("0.75", "NaN"),
    "net.json: JSON has no -Infinity": ("0.75", "-Infinity"),
    "net.json: the key 'rain' stands twice": ('"level"', '"rain"'),
    'net.json: expected "format": "daguerre network" and "version": 1': ("1,", "2,"),
    "net.json: unknown key 'variable'; did you mean 'variables'": ('"variables"', '"variable"'),
    "net.json, 'rain': unknown key 'tables'; did you mean 'table'": ('"table":', '"tables":'),
    '\'rain\': expected "kind": "table" or "linear gaussian"': ('"table",', '"tables",'),
    "'rain': table: expected finite numbers of shape [2], found inf": ("0.75", "1e999"),
    "'rain': table: expected finite numbers of shape [2], found true": ("0.75", "true"),
    "'rain': table: expected finite numbers of shape [2], found '0.75'": ("0.75", '"0.75"'),
    "of shape [2], found a huge integer": ("0.75", "1" + "0" * 400),
    "net.json: Exceeds the limit": ("0.75", "1" + "0" * 5000),
    "'rain': table: row [] holds -0.75; probabilities": ("0.75", "-0.75"),
    "'level': table: row [0] sums to 1.5; expected 1": ("[0.5,", "[1.0,"),
    "numbers of shape [2]; found a list of 3 instead of a list of 2 at depth 0": (
        "[0.75,",
        "[0.75, 0,",
    ),
    "shape [2, 3]; found a list of 2 instead of a list of 3 at depth 1": ("[0.5, 0.25,", "[0.5,"),
    "'rain': states: expected a name, found 1": ('"no"', "1"),
    "'rain': states: a name stands twice": ('"no"', '"yes"'),
    "'level': states: expected a count from 1 to 16,777,216, found 0": ("3,", "0,"),
    "'level': states: expected a count from 1 to 16,777,216, found 1000000000": (
        "3,",
        "1000000000,",
    ),
    "'level': states: expected a count from 1 to 16,777,216, found true": ("3,", "true,"),
    "'level': parents: no variable 'rainy' is declared; did you mean": ('["rain"]', '["rainy"]'),
    "'level': parents: expected a list of names, found 'rain'": ('["rain"]', '"rain"'),
    "'level': parents: 'depth' has no states; a parent of weights": ('["rain"]', '["depth"]'),
    "'level': states: expected a count from 1 to 16,777,216, found null": ("3,", "null,"),
    "'depth': bias must be finite and scales 0 or more": ("[0, 0.5, 1]", "[0, 0.5, -1]"),
    "'depth': expected the key 'bias', with numbers of shape [3]": ('"bias": [0, 1, 2],', ""),
    "'flow': event: expected [] of a number, or [d] of a vector": ("[2]", "[2, 2]"),
    "'flow': event: expected a count from 1": ("[2]", "[-2]"),
    "'flow', weights: parent: no variable 'depths' is declared": ('"depth":  [', '"depths": ['),
    "'flow': scale_tril: expected zeros above the diagonal": (
        "[[1, 0], [0, 0]]",
        "[[1, 1], [0, 0]]",
    ),
    "'flow': expected scale, or for a vector either": ('"scale_tril"', '"scale": 1, "scale_tril"'),
    "'flow': bias must be finite and scales": ("[[1, 0], [0, 0]]", "[[1, 0], [0, -1]]"),
    "net.json, 'flow', weights: expected an object, found a list of 1": (
        '{"depth": [[0.5, 0], [1, -1]]}',
        "[1]",
    ),
    "weights: 'rain' is no number; name it in given": ('{"depth":', '{"rain":'),
    "net.json, 'rain': the name '\\ud800' holds half a character": ('"no"', '"\\ud800"'),
    "the name '\\udfff' holds half a character": ('"rain"', '"\\udfff"'),
}


@pytest.mark.parametrize("message", SLIPS)
def test_a_slip_is_refused_with_its_place(read, message):
    old, new = SLIPS[message]
    text = JSON.replace('{"depth": [[', '{"depth":  [[') if old == '"depth":  [' else JSON
    assert old in text
    with pytest.raises(dg.GraphError, match=re.escape(message)):
        read(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "net.json: nested too deep for a network"),
        ('{"a":' * 100_000, "net.json: nested too deep for a network"),
        ("[]", "net.json: expected an object, found a list of 0"),
        ("1", "net.json: expected an object, found 1"),
        ('{"format": "daguerre network", "version": 1}', "from 1 to 100,000 variables, found 0"),
    ],
)
def test_what_is_no_network_is_refused(read, text, message):
    with pytest.raises(dg.GraphError, match=re.escape(message)):
        read(text)


def test_a_cycle_is_refused_with_the_file(read):
    one = {"kind": "linear gaussian", "bias": 0, "scale": 1}
    variables = {"a": one | {"weights": {"b": 1}}, "b": one | {"weights": {"a": 1}}}
    with pytest.raises(dg.GraphError, match=r"net.json: the graph has a cycle: a -> b -> a"):
        read({"format": "daguerre network", "version": 1, "variables": variables})


def test_brackets_are_counted_before_they_are_parsed(read):
    with pytest.raises(
        dg.GraphError, match="has 2,000,021 brackets and commas, more than 2,000,020"
    ):
        read("[" * 2_000_021, max_entries=10)
    with pytest.raises(dg.GraphError, match="nested too deep"):
        read("[" * 2_000_020, max_entries=10)


def test_large_networks_are_refused_before_they_are_made(read):
    wide = {f"v{i}": {"kind": "table", "states": 2, "table": [0.5, 0.5]} for i in range(30)}
    wide["x"] = {"kind": "table", "states": 2, "parents": list(wide), "table": 0}
    document = {"format": "daguerre network", "version": 1, "variables": wide}
    with pytest.raises(dg.GraphError, match=r"'x': table: the tables have 2,147,483,708 entries"):
        read(document)
    del wide["x"]
    assert len(read(document).graph.names) == 30
    with pytest.raises(dg.GraphError, match=r"'v5': table: .* more than 10; if they are meant"):
        read(document, max_entries=10)
