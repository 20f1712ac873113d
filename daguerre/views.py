"""Two readings of one cost: what most readers expect, and the unified view of Hu et al."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from daguerre.draw import Drawable, Drawing, Figure
from daguerre.draw import draw as draw_figures
from daguerre.graph import Graph, did_you_mean
from daguerre.objectives import Objective
from daguerre.objectives.unified import augmented

__all__ = ["VIEWS", "draw"]

Thing = Graph | Figure | Drawable


def draw(
    *things: Thing,
    titles: Sequence[str] = (),
    view: str = "conventional",
    depth: int | None = None,
) -> Drawing:
    r"""Draw graphs, figures, models, nets or objectives, side by side.

    Two views of an objective show the same conditionals. The conventional one is the model as a
    program: solid generation, dashed inference, the critic as a small blue node that looks at its
    inputs. That of Hu et al. shows the two processes that the cost links: dashed what it draws
    from, solid what it scores, with y, real or fake, as a variable; a GAN's generator is dashed
    there, and its x is latent.

    Args:
        things: What to draw, from left to right.
        titles: Plain text above each; one for each thing, or none at all.
        view: `"conventional"` or `"hu"`; the latter is of objectives alone.
        depth: How many levels of the modules of nets to look into, from 1; by default all.

    Raises:
        GraphError: An empty graph.
        InadmissibleError: An objective without a unified view, such as an MMD.
        TypeError: Something that has no figure, or not this view.
        ValueError: Nothing to draw, titles for another number of things, an unknown view.

    References:
        Hu, Yang, Salakhutdinov and Xing (2018, arXiv 1706.00550), figure 1.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> gan = dg.gan(p, dg.nn.mlp(2, 8, 1))
        >>> for view in ("conventional", "hu"):
        ...     (panel,) = draw(gan, view=view).sheet.panels
        ...     print([(a.source, a.target, a.inference) for a in panel.figure.arrows])
        [('z', 'x', False), ('x', 'critic', True)]
        [('y', 'x', True), ('z', 'x', True), ('x', 'y', False)]
    """
    if view not in VIEWS:
        raise ValueError(f"there is no view {view!r}{did_you_mean(view, VIEWS)}")
    return draw_figures(*map(VIEWS[view], things), titles=titles, depth=depth)


def _unified(thing: Any) -> Thing:
    if not isinstance(thing, Objective):
        raise TypeError(
            'view="hu" shows the two processes that a cost links: draw an objective, such as '
            f"dg.elbo(p, q), not a {type(thing).__name__}"
        )
    return augmented(thing)


VIEWS: Mapping[str, Callable[[Any], Thing]] = {"conventional": lambda thing: thing, "hu": _unified}
