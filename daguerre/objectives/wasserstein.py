r"""The Wasserstein-1 distance, by the dual that a Lipschitz critic raises.

$$W_1(a, b) = \max_{\lVert f \rVert_L \le 1} \mathbb{E}_a[f] - \mathbb{E}_b[f]$$
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import _SpectralNorm

from daguerre.graph import InadmissibleError
from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.adversarial import Adversarial
from daguerre.objectives.games import WASSERSTEIN
from daguerre.objectives.objective import Objective
from daguerre.objectives.penalties import Penalised, as_penalties

__all__ = ["Wasserstein"]


def Wasserstein(  # noqa: N802 - the field's name
    a: Factor | Joint,
    b: Factor | Joint,
    *,
    critic: nn.Module,
    penalty: Penalised = (),
    clip: float | None = None,
) -> Objective:
    r"""Return the Wasserstein-1 distance of two joints, by a critic that is kept Lipschitz.

    The critic raises the dual, the model lowers it. Near its best, minus the critic's loss is the
    distance, up to the slope that the critic has; so let it move more often than the model:
    `dg.fit(..., optimizer={"critic": dg.train.Turn(updates=5)})`.

    Exactly one thing keeps the critic's slope bounded: a penalty, clipping, or spectral norm on
    each of its layers.

    Args:
        a: The first side, such as `dg.data("x")`.
        b: The second side, such as `p["x"]`; draws carry pathwise gradients.
        critic: As for `dg.JS`, with any real numbers for output.
        penalty: `dg.penalties.gradient(10)`, `dg.penalties.lipschitz(10)`, or a tuple of several.
        clip: The size that no parameter of the critic exceeds after its updates, such as 0.01.

    Raises:
        InadmissibleError: Nothing bounds the critic's slope, or more than one thing does; a draw
            that needs a gradient has none; a penalty on a critic with batch normalisation.
        ValueError: `clip` is not positive.
        GraphError: The sides differ in variables or shapes, or the critic does not fit them.

    References:
        Arjovsky, Chintala and Bottou (2017, arXiv 1701.07875), with clipping; Gulrajani et al.
        (2017, arXiv 1704.00028), with a penalty; Miyato et al. (2018, arXiv 1802.05957).

    Example:
        >>> import daguerre as dg
        >>> import torch
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> Wasserstein(dg.data("x"), p["x"], critic=dg.nn.mlp(2, 8, 1), clip=0.01)
        Objective(Wasserstein-1 over x; players: critic, model)
    """
    penalties = as_penalties(penalty)
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is the largest size of a parameter, above 0, not {clip}")
    means = {
        "a penalty": bool(penalties),
        "clipping": clip is not None,
        "spectral norm on every layer": isinstance(critic, nn.Module) and _is_normed(critic),
    }
    found = [name for name, there in means.items() if there]
    if isinstance(critic, nn.Module) and len(found) != 1:
        raise InadmissibleError(
            "the critic of a Wasserstein distance needs a bounded slope, by exactly one of:"
            " penalty=dg.penalties.gradient(10), clip=0.01, or"
            " torch.nn.utils.parametrizations.spectral_norm on every linear and convolutional"
            f" layer; found {' and '.join(found) or 'none'}"
        )
    game = Adversarial(as_joint(a), as_joint(b), critic, WASSERSTEIN, penalties, clip=clip)
    return Objective(((1.0, game),))


def _is_normed(critic: nn.Module) -> bool:
    """Whether every linear and convolutional layer has its spectral norm divided out."""
    layers = [m for m in critic.modules() if isinstance(m, nn.Linear | nn.Bilinear | _ConvNd)]
    return bool(layers) and all(_has_spectral_norm(layer) for layer in layers)


def _has_spectral_norm(layer: nn.Module) -> bool:
    return any(
        isinstance(step, _SpectralNorm)
        for name, steps in layer.named_children()
        if name == "parametrizations"
        for step in steps.modules()
    )
