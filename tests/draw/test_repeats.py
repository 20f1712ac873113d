"""Equal blocks in a row are drawn once with a count, and nothing else is; modules to a depth."""

from dataclasses import replace
from itertools import pairwise

import pytest
from dotted import NETS, chain, net
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import check

from daguerre.draw import Figure, Frame, collapsed, draw, figure, folded, layout
from daguerre.graph import Graph

PARTS = ("norm", "attend", "add")


def block(i: int, above: str, *, skip: bool = True, at: str = "layers") -> list[tuple[str, str]]:
    norm, attend, add = (f"{at}.{i}.{part}" for part in PARTS)
    return [(above, norm), (norm, attend), (attend, add), *([(above, add)] if skip else [])]


def stack(count: int, *more: tuple[str, str]) -> Graph:
    above = ["x", *(f"layers.{i}.add" for i in range(count - 1))]
    edges = [edge for i in range(count) for edge in block(i, above[i])]
    return net([*edges, (f"layers.{count - 1}.add", "y"), *more])


def repeats(picture: Figure) -> dict[str, int]:
    return {f.name: f.repeats for f in picture.frames if f.repeats > 1}


def test_a_stack_of_equal_blocks_is_one_block_with_a_count():
    picture = folded(figure(stack(6)))
    assert [n.name for n in picture.nodes] == [
        *("x", "layers.0.norm", "layers.0.attend", "layers.0.add", "y")
    ]
    assert {(a.source, a.target) for a in picture.arrows} == {
        *block(0, "x"),
        ("layers.0.add", "y"),
    }
    (frame,) = picture.frames
    assert (frame.name, frame.repeats) == ("layers.0", 6)
    assert r"\times 6" in frame.label
    assert r"\mathrm{layers.0}" in frame.label
    check(layout(picture))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 8))
def test_one_block_that_differs_cuts_the_run(count, odd):
    graph = stack(count)
    kinds = {f"layers.{odd}.attend": "Wide(8)"}
    picture = folded(figure(graph, kinds=kinds))
    runs = [odd, count - odd - 1] if odd < count else [count]
    assert sorted(repeats(picture).values()) == sorted(run for run in runs if run > 1)
    shown = sum(len(f.members) * f.repeats for f in picture.frames if f.repeats > 1)
    alone = sum(3 for run in (*runs, 1 if odd < count else 0) if run == 1)
    assert shown + alone == 3 * count


@pytest.mark.parametrize(
    ("edge", "left"),
    [
        (("layers.1.attend", "z"), {}),  # a block in the middle is read
        (("layers.0.norm", "layers.2.add"), {}),  # a skip past a block
        (("extra", "layers.1.norm"), {}),  # one block is given more
        (("x", "layers.1.add"), {}),  # one block is given the input again
        (("layers.2.norm", "layers.2.add"), {"layers.0": 2}),  # the last is wired otherwise
        (("layers.2.norm", "z"), {"layers.0": 2}),  # the last is read where no other is
    ],
)
def test_what_is_not_the_same_everywhere_is_drawn_in_full(edge, left):
    picture = folded(figure(stack(3, edge)))
    assert repeats(picture) == left
    assert edge in {(a.source, a.target) for a in picture.arrows}


def test_what_every_block_is_given_is_marked():
    more = [("memory", f"layers.{i}.attend") for i in range(4)]
    picture = folded(figure(stack(4, *more)))
    labels = {(a.source, a.target): a.label for a in picture.arrows}
    assert repeats(picture) == {"layers.0": 4}
    assert labels["memory", "layers.0.attend"] == r"\text{each}"
    assert labels["x", "layers.0.norm"] == ""


def test_numbers_alone_say_nothing_unless_the_kind_is_known():
    names = ["x", "net.0", "net.1", "net.2", "net.3", "y"]
    graph = net(list(pairwise(names)))
    assert folded(figure(graph)) == figure(graph)
    kinds = dict.fromkeys(names[1:4], "Linear(in_features=2, out_features=2)")
    picture = folded(figure(graph, kinds={**kinds, "net.3": "ReLU()"}))
    assert [n.name for n in picture.nodes] == ["x", "net.0", "net.3", "y"]
    assert picture.nodes[1].label == r"\mathrm{0}\text{–}\mathrm{2}\ \mathrm{Linear} \;\times 3"
    draw(picture)


def test_blocks_in_blocks_are_folded_outside_in():
    edges, above = [], "x"
    for stage in range(2):
        for i in range(3):
            edges += block(i, above, at=f"stage.{stage}")
            above = f"stage.{stage}.{i}.add"
    picture = folded(figure(net([*edges, (above, "y")])))
    assert repeats(picture) == {"stage.0": 2, "stage.0.0": 3}
    assert len(picture.nodes) == 5
    check(layout(picture))


def test_a_frame_around_some_of_the_blocks_keeps_them_apart():
    whole = figure(stack(3))
    own = tuple(n.name for n in whole.nodes if n.name.startswith(("layers.0", "layers.1")))
    framed = replace(whole, frames=(*whole.frames, Frame("n", "N", own)))
    assert 3 not in repeats(folded(framed)).values()


@pytest.mark.parametrize("name", NETS)
def test_folding_twice_changes_nothing_and_every_arrow_comes_from_the_net(name):
    whole = figure(NETS[name])
    once = folded(whole)
    assert folded(once) == once
    assert {n.name for n in once.nodes} <= {n.name for n in whole.nodes}
    check(layout(once))


# Depths


def test_modules_below_a_depth_are_one_node_each():
    whole = figure(NETS["resnet"])
    picture = collapsed(whole, 2)
    names = [n.name for n in picture.nodes]
    assert "layer1.0" in names
    assert "layer1.0.conv1" not in names
    assert {f.name for f in picture.frames} == {f"layer{i}" for i in range(1, 5)}
    assert collapsed(whole, 1).frames == ()
    assert collapsed(whole, 99) == whole
    check(layout(picture))


def test_a_module_that_draws_is_random_and_any_other_a_map():
    edges = [("x", "a.fc"), ("a.noise", "a.add"), ("a.fc", "a.add"), ("a.add", "b.fc")]
    picture = collapsed(figure(net([*edges, ("b.fc", "b.out")], noise=["a.noise"])), 1)
    assert [(n.name, n.shape) for n in picture.nodes] == [
        ("x", "constant"),
        ("a", "random"),
        ("b", "module"),
    ]
    assert [a.deterministic for a in picture.arrows] == [False, True]


def test_a_module_that_the_data_enters_again_stays_open():
    graph = net(chain("x", "a.one", "b.one", "a.two", "b.two"))
    assert collapsed(figure(graph), 1) == figure(graph)


def test_a_folded_block_keeps_its_count_as_a_node():
    picture = collapsed(folded(figure(stack(6))), 2)
    (node,) = (n for n in picture.nodes if n.name == "layers.0")
    assert r"\times 6" in node.label
    assert picture.frames == ()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NETS)), st.integers(1, 4))
def test_a_collapsed_net_has_no_cycle_and_keeps_what_is_joined(name, depth):
    whole = figure(NETS[name])
    picture = collapsed(whole, depth)
    Graph.from_edges({(a.source, a.target): None for a in picture.arrows})
    assert len(picture.nodes) <= len(whole.nodes)
    assert all(a.source != a.target for a in picture.arrows)


def test_a_depth_below_one_is_refused():
    with pytest.raises(ValueError, match="from 1, not 0"):
        draw(NETS["resnet"], depth=0)
    names = [n.name for n in draw(NETS["resnet"], depth=1).sheet.panels[0].figure.nodes]
    assert names[4:9] == ["maxpool", "layer1", "layer2", "layer3", "layer4"]
