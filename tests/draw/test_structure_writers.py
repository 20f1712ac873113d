"""DOT and Mermaid: structure, flags, and the loss that is owned up to."""

from typing import get_args

from figures import DRAWN, figures
from hypothesis import given, settings
from programs import accepted_by_dot, accepted_by_mermaid

from daguerre.draw import Arrow, Figure, Frame, Node, draw
from daguerre.draw.clusters import Cluster, cluster_tree, lost_crossings
from daguerre.draw.dot import dot
from daguerre.draw.mermaid import mermaid
from daguerre.draw.notation import Shape
from daguerre.draw.plain import plain

FLAGS = [(bool(i & 1), bool(i & 2), bool(i & 4)) for i in range(8)]
ALL_FLAGS = Figure(
    tuple(Node(f"v{i}", f"v_{i}") for i in range(9)),
    tuple(Arrow(f"v{i}", f"v{i + 1}", *flags) for i, flags in enumerate(FLAGS)),
)
CROSSING = Figure(
    tuple(Node(name, name) for name in "abx"),
    (Arrow("a", "x"), Arrow("b", "x")),
    (Frame("i", "I = 2", ("a", "x")), Frame("j", "J", ("b", "x"))),
)


def test_dot_carries_every_flag():
    lines = {line.strip() for line in dot([ALL_FLAGS]).splitlines()}
    for i, (inference, deterministic, adversarial) in enumerate(FLAGS):
        found = next(line for line in lines if line.startswith(f'"v{i}" -> "v{i + 1}"'))
        assert ('style="dashed"' in found) is inference
        assert ('arrowhead="empty"' in found) is deterministic
        assert ('color="#1d4ed8"' in found) is adversarial


def test_every_shape_is_known_and_shading_is_kept():
    shapes = get_args(Shape)
    nodes = (Node(f"{s}{o}", "x", s, observed=o) for s in shapes for o in (False, True))
    figure = Figure(tuple(nodes))
    assert dot([figure]).count('fillcolor="#d9dde3"') == len(shapes)
    assert mermaid([figure]).count(":::observed") == len(shapes)
    marks = 4  # whose labels stand beside them
    assert draw(figure).tikz().count("\\node[") == 2 * len(shapes) + marks


def test_inference_ranks_no_node_that_generation_ranks():
    lines = draw(DRAWN["vae"]).dot.splitlines()
    (encoder,) = (line for line in lines if '"x" -> "z"' in line)
    assert 'constraint="false"' in encoder
    assert sum("constraint" in line for line in lines) == 1


def test_graphviz_takes_every_figure():
    texts = [draw(figure).dot for figure in DRAWN.values()]
    for figure, lines in zip(DRAWN.values(), accepted_by_dot(*texts), strict=True):
        assert sum(line.startswith("node ") for line in lines) == len(figure.nodes)
        assert sum(line.startswith("edge ") for line in lines) == len(figure.arrows)


def test_graphviz_puts_generation_on_top():
    (lines,) = accepted_by_dot(draw(DRAWN["vae"]).dot)
    height = {line.split()[1]: float(line.split()[3]) for line in lines if line[:5] == "node "}
    assert height["z"] > height["x"]


def test_several_figures_are_one_graph():
    drawing = draw(DRAWN["vae"], DRAWN["gan"])
    (lines,) = accepted_by_dot(drawing.dot)
    assert sum(line.startswith("node ") for line in lines) == 5
    (parsed,) = accepted_by_mermaid(drawing.mermaid)
    assert sum(node[0].startswith("n") for node in parsed["nodes"]) == 5


def test_mermaid_is_read_as_it_was_meant():
    texts = [mermaid([figure]) for figure in (*DRAWN.values(), ALL_FLAGS, CROSSING)]
    parsed = accepted_by_mermaid(*texts)
    for figure, found in zip((*DRAWN.values(), ALL_FLAGS, CROSSING), parsed, strict=True):
        numbers = {f"n{i}": node.name for i, node in enumerate(figure.nodes, 1)}
        drawn = [node[0] for node in found["nodes"] if node[0] in numbers]
        assert sorted(drawn) == sorted(numbers)
        edges = [(numbers[a], numbers[b], kind) for a, b, kind in found["edges"]]
        assert edges == [
            (a.source, a.target, "dotted" if a.inference else "normal") for a in figure.arrows
        ]


def test_mermaid_says_what_it_loses_and_colours_by_index():
    text = mermaid([ALL_FLAGS])
    blue = [i for i, (_, _, adversarial) in enumerate(FLAGS) if adversarial]
    styled = [line.split()[1] for line in text.splitlines() if "linkStyle" in line]
    assert styled == [str(i) for i in blue]
    (hollow,) = (line for line in text.splitlines() if "hollow heads" in line)
    assert hollow.startswith("%% lost")
    assert hollow.endswith("at n3 to n4, n4 to n5, n7 to n8, n8 to n9")
    assert "%%" not in mermaid([Figure((Node("x", "x"),))])


def test_crossing_plates_come_in_parts_and_it_is_said():
    assert [frame.name for frame in lost_crossings(CROSSING)] == ["j"]
    text = dot([CROSSING])
    assert text.startswith("// j crosses another plate: clusters only nest")
    assert text.count('comment="plate j: b, x"') == 2
    accepted_by_dot(text)
    assert "%% lost: plate j crosses another and is in parts; it holds b, x" in mermaid([CROSSING])


def test_nested_plates_are_whole():
    assert lost_crossings(DRAWN["mixed"]) == []
    assert "crosses" not in draw(DRAWN["mixed"]).dot


def test_costs_are_comments():
    assert "// cost: \\mathbb{E}_{q}" in draw(DRAWN["vae"]).dot
    assert "%% cost: 𝔼_q" in draw(DRAWN["vae"]).mermaid


@settings(max_examples=40, deadline=None)
@given(figures())
def test_each_cluster_holds_members_alone_and_all_of_them(figure):
    tree = cluster_tree(figure)
    for frame in figure.frames:
        parts = [c for c in walk(tree) if c.frame == frame]
        held = [node.name for part in parts for c in walk(part) for node in c.nodes]
        assert sorted(held) == sorted(set(frame.members))
    assert len([node for c in walk(tree) for node in c.nodes]) == len(figure.nodes)


def walk(cluster: Cluster) -> list[Cluster]:
    return [cluster, *(c for inner in cluster.inner for c in walk(inner))]


def test_formulas_as_text():
    assert plain(r"\mathbb{E}_{q}\left[\log p_\theta(x)\right]") == "𝔼_q[logp_θ(x)]"
    assert plain(r"\mathbb{E}_{q(z \mid x)} x_{nt}") == "𝔼_{q(z ∣ x)}x_nt"
    assert plain(r"\begin{aligned}& a \\ & b\end{aligned}") == "a ; b"
    assert plain(r"\frac{a}{b} < x^{2}", escape=lambda text: text.replace("<", "&lt;")) == (
        "a/b&lt;x^2"
    )
