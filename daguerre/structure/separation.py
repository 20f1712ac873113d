"""Independence that the graph alone implies: D-separation, which knows deterministic variables.

What the given variables determine counts as given too; then paths decide as ever.
"""

from __future__ import annotations

from daguerre.graph import Graph, HasGraph, graph_of
from daguerre.structure.names import Names, check_static, read_names
from daguerre.structure.query import closure
from daguerre.structure.windows import read_query

__all__ = ["determined", "independent"]


def independent(
    g: Graph | HasGraph,
    xs: Names,
    ys: Names,
    *,
    given: Names = (),
    deterministic: bool = True,
) -> bool:
    r"""Whether xs and ys are independent given others in every model with this graph.

    D-separation (Geiger, Verma and Pearl): what the given variables determine, through
    deterministic variables, constants and declared bijections read both ways, counts as given;
    then d-separation decides, in time linear in the graph. It is sound for every model, and
    complete: each dependence it leaves open exists in some model with this graph. A particular
    function can imply more (the exclusive or lets a parent be read off the child), so `False` is
    no proof of dependence.

    An input is always given, unless it is named in xs or ys: then the question is whether the
    other side depends on it.

    In a graph with lagged edges names carry time: `"z[t]"`, `"z[t-1]"`, `"z[0]"` for the first
    slice, `"x[:t]"` for the slices before t, `"x[t:]"` for those from t on; a bare name stands for
    all slices. True says that the sides are independent for every t in chains of every length.

    Args:
        g: The graph, or a model.
        xs: One variable or several.
        ys: One variable or several.
        given: Variables that are observed, perhaps none.
        deterministic: False for plain d-separation, which takes every map for random.

    Raises:
        GraphError: An unknown name, an empty side, a variable in two of the sets, a time that
            cannot be read.
        InadmissibleError: A chain in which nothing repeats within the time slices that are tried.

    References:
        Geiger, Verma and Pearl (1990), *Networks* 20; Koller and Friedman (2009), chapter 5;
        Constantinou and Dawid (2017) for inputs.

    Example:
        >>> g = Graph.from_edges([("z", "h"), ("h", "x1"), ("h", "x2")], deterministic=["h"])
        >>> independent(g, "x1", "x2", given="z")
        True
        >>> independent(g, "x1", "x2", given="z", deterministic=False)
        False
        >>> hmm = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)])
        >>> independent(hmm, "x[:t]", "x[t:]"), independent(hmm, "x[:t]", "x[t:]", given="z[t]")
        (False, True)
    """
    return read_query(g, xs, ys, given, deterministic=deterministic).independent


def determined(g: Graph | HasGraph, given: Names = ()) -> tuple[str, ...]:
    """Return what the given variables determine, themselves, inputs and constants included.

    A deterministic variable is determined when all its parents are. A declared bijection that is
    determined determines the variable it inverts, once its other parents are determined.

    Args:
        g: The graph, or a model.
        given: Variables that are observed, perhaps none.

    Returns:
        Names in order of declaration.

    Example:
        >>> determined(Graph.from_edges([], bijective=[("z", "y"), ("y", "x")]), "x")
        ('z', 'y', 'x')
    """
    graph = check_static(graph_of(g))
    number = graph.adjacency.number
    fixed = [number[n] for n in (*read_names(graph, given, "given"), *graph.inputs)]
    return tuple(graph.names[i] for i in sorted(closure(graph.adjacency, fixed)))
