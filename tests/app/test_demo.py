"""The main job in small: both games on real digits for an epoch, the table and the page."""

import re
from xml.etree import ElementTree

import pytest
import torch

from daguerre import demo as module
from daguerre.demo import demo
from daguerre.gallery import GAMES
from daguerre.gallery.twins import Decoder, Generator
from daguerre.game import Game

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Run the demo for an epoch each; return what was said, the table and the page."""
    out = tmp_path_factory.mktemp("demo")

    def short(name):
        def build(pixels):
            game = GAMES[name](pixels)
            return Game(game.modules, game.objective, {**game.options, "epochs": 1})

        return build

    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GAMES", {name: short(name) for name in GAMES})
        table = demo(out, said.append)
    return said, table, (out / "report.html").read_text(encoding="utf-8")


def test_the_demo_reports_both_models_on_the_same_measures(report):
    said, table, page = report
    rows = {row[""]: row for row in table}
    assert set(rows) == {"VAE", "GAN", "other real digits"}
    assert re.fullmatch(r"-?[\d.]+ ± [\d.]+", rows["VAE"]["ELBO (nats)"])
    assert re.fullmatch(r"-?[\d.]+ ± [\d.]+", rows["VAE"]["IWAE-100 (nats)"])
    assert rows["GAN"]["ELBO (nats)"] == "no density"
    for name in rows:
        assert re.fullmatch(r"-?[\d.]+ ± [\d.]+", rows[name]["MMD² x 1000"])
        assert re.fullmatch(r"[\d.]+ ± [\d.]+", rows[name]["classifier accuracy"])
    assert str(table) in said[-1]
    assert "Graph(-> z; z => x)" in "\n".join(said)
    for cell in rows["VAE"].values():
        assert cell in page


def test_the_page_is_whole_and_asks_for_nothing(report):
    _, _, page = report
    assert page.count("<svg") == 3  # the pair of graphs and two plots of losses
    assert page.count("data:image/png;base64,") == 4  # samples of both, the VAE's means, digits
    assert not re.search(r'(src|href)="(?!data:)', page)
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_gallery_twins_have_one_graph_and_share_their_network():
    decoder, generator = Decoder().eval(), Generator().eval()
    assert decoder.graph.edges == generator.graph.edges
    assert decoder.graph != generator.graph
    assert (decoder.kind("x"), generator.kind("x")) == ("prescribed", "implicit")
    generator.load_state_dict(decoder.state_dict())
    z = torch.randn(3, 16)
    with torch.no_grad():
        torch.testing.assert_close(decoder.x(z).mean, generator.x(z))
