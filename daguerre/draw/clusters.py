"""Plates and scopes as a tree, for formats in which boxes only nest: what crosses is split."""

from __future__ import annotations

from dataclasses import dataclass, field

from daguerre.draw.notation import Figure, Frame, Node

__all__ = ["Cluster", "cluster_tree", "lost_crossings"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A box, or a part of one that crosses another.

    Attributes:
        frame: The plate or scope; None for the whole figure.
        nodes: The nodes directly inside.
        inner: The clusters directly inside.
    """

    frame: Frame | None = None
    nodes: list[Node] = field(default_factory=list)
    inner: list[Cluster] = field(default_factory=list)

    def parts(self, frame: Frame) -> int:
        """Count the clusters in here that stand for a frame."""
        return (self.frame == frame) + sum(cluster.parts(frame) for cluster in self.inner)


def cluster_tree(figure: Figure) -> Cluster:
    """Nest the frames of a figure, larger ones outside.

    Args:
        figure: The picture; its plates may cross.

    Returns:
        The whole figure as a cluster. A frame that crosses a larger one is in several parts.

    Example:
        >>> a, b, x = (Node(name, name) for name in "abx")
        >>> crossing = (Frame("i", "I", ("a", "x")), Frame("j", "J", ("b", "x")))
        >>> [c.parts(crossing[1]) for c in [cluster_tree(Figure((a, b, x), frames=crossing))]]
        [2]
    """
    root = Cluster()
    home = {node.name: root for node in figure.nodes}
    for frame in sorted(figure.frames, key=lambda f: -len(f.members)):
        parts: dict[int, Cluster] = {}
        for name in dict.fromkeys(frame.members):
            outer = home[name]
            if id(outer) not in parts:
                parts[id(outer)] = Cluster(frame)
                outer.inner.append(parts[id(outer)])
            home[name] = parts[id(outer)]
    for node in figure.nodes:
        home[node.name].nodes.append(node)
    return root


def lost_crossings(figure: Figure) -> list[Frame]:
    """Return the frames that a tree of clusters holds only in parts."""
    root = cluster_tree(figure)
    return [frame for frame in figure.frames if root.parts(frame) > 1]
