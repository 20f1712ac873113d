"""Small networks, critics and flows, so that examples need no boilerplate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.distributions import ComposeTransform, Normal, Transform, constraints

__all__ = ["Codebook", "Coupling", "Joined", "Projection", "mlp", "product_of_experts"]


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Build a multilayer perceptron `[n, sizes[0]] -> [n, sizes[-1]]`, linear at the end.

    Args:
        sizes: Widths of input, hidden layers and output; two at least.
        activation: The module class between the layers.

    Raises:
        ValueError: Fewer than two sizes.

    Example:
        >>> import torch
        >>> mlp(8, 128, 64)(torch.zeros(5, 8)).shape
        torch.Size([5, 64])
    """
    if len(sizes) < 2:
        raise ValueError(f"an mlp needs at least an input and an output size, not {sizes}")
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


@final
class Joined(nn.Module):
    """A net of one input called with several: they are flattened and laid side by side.

    Args:
        net: From `[n, D]`, D the numbers in all values of a row.

    Example:
        >>> critic = Joined(mlp(2 + 3, 8, 1))
        >>> critic(torch.zeros(5, 2), torch.zeros(5, 3)).shape
        torch.Size([5, 1])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *values: Tensor) -> Tensor:
        """Return what the net says of the values together."""
        return self.net(torch.cat([v.reshape(len(v), -1) for v in values], 1))


@final
class Projection(nn.Module):
    r"""A conditional critic whose logit is linear in an embedding of the condition.

    $$s(x, y) = \psi(\phi(x)) + \langle \mathrm{embed}(y), \phi(x) \rangle$$

    This is the form of the log-ratio where the classes are log-linear in the features.

    Args:
        features: $\phi$, from x to `[n, width]`.
        embed: From the condition y to `[n, width]`: `torch.nn.Embedding(classes, width)` for
            labels, `torch.nn.Linear(classes, width, bias=False)` for one-hot vectors.
        width: The number of features.

    References:
        Miyato and Koyama (2018, arXiv 1802.05637).

    Example:
        >>> import torch
        >>> critic = Projection(mlp(4, 16, 8), nn.Embedding(10, 8), width=8)
        >>> critic(torch.zeros(5, 4), torch.arange(5)).shape
        torch.Size([5])
    """

    def __init__(self, features: nn.Module, embed: nn.Module, *, width: int) -> None:
        super().__init__()
        self.features, self.embed, self.head = features, embed, nn.Linear(width, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return one logit per row, `[n]`."""
        phi = self.features(x)
        return self.head(phi).squeeze(1) + (self.embed(y) * phi).sum(1)


@final
class Codebook(nn.Module):
    r"""The codes of a vector-quantised autoencoder.

    Called on features `[n, ..., width]` it returns the nearest code of each, which carries
    gradients to the codes alone. In q, `e` is the codebook of the features `h`, and
    `z = codebook.passed(h, e)` the code with the gradient of the features.

    Args:
        codes: How many there are.
        width: Numbers in each.

    References:
        Van den Oord, Vinyals and Kavukcuoglu (2017, arXiv 1711.00937).

    Example:
        >>> book = Codebook(2, 1)
        >>> _ = book.codes.data.copy_(torch.tensor([[0.0], [1.0]]))
        >>> book(torch.tensor([[0.2], [0.9]])).tolist(), book.index(torch.tensor([[0.9]]))
        ([[0.0], [1.0]], tensor([1]))
    """

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(codes, width))

    def index(self, h: Tensor) -> Tensor:
        """Return the number of the nearest code of each feature, `[n, ...]`."""
        with torch.no_grad():
            rows = h.reshape(-1, h.shape[-1])
            distances = self.codes.square().sum(1) - 2 * rows @ self.codes.T
            return distances.argmin(1).reshape(h.shape[:-1])

    def forward(self, h: Tensor) -> Tensor:
        """Return the nearest code of each feature, `[n, ..., width]`."""
        return self.codes[self.index(h)]

    @staticmethod
    def passed(h: Tensor, e: Tensor) -> Tensor:
        """Return e with the gradient of h: the straight-through estimator."""
        return h + (e - h).detach()

    def perplexity(self, h: Tensor) -> Tensor:
        """Return how many codes are in use, as the exponential of their entropy: a scalar."""
        share = torch.bincount(self.index(h).flatten(), minlength=len(self.codes)).double()
        return torch.special.entr(share / share.sum()).sum().exp()


def product_of_experts(
    means: Sequence[Tensor], scales: Sequence[Tensor], held: Sequence[Tensor]
) -> Normal:
    r"""Return the product of a standard normal prior and an expert for each modality.

    $q(z \mid x_1, \dots) \propto p(z) \prod_{m\,\mathrm{held}} N(z; \mu_m, \sigma_m^2)$, so that
    precisions add and any set of modalities has a posterior.

    Args:
        means: $\mu_m$, each `[n, width]`.
        scales: $\sigma_m$, each `[n, width]`.
        held: Whether each row has the modality, `[n]` each.

    Raises:
        ValueError: The three are not of one length.

    References:
        Wu and Goodman (2018, arXiv 1802.05335); Hinton (2002) for products of experts.

    Example:
        >>> one, held = torch.ones(1, 1), torch.tensor([True])
        >>> q = product_of_experts([3 * one, one], [one, one], [held, ~held])
        >>> q.loc.item(), round(q.scale.item() ** 2, 6)  # the prior and the first expert
        (1.5, 0.5)
    """
    if not len(means) == len(scales) == len(held):
        came = f"{len(means)} means, {len(scales)} scales and {len(held)} masks"
        raise ValueError(f"each expert has a mean, a scale and a mask, but there are {came}")
    precision, total = torch.ones_like(means[0]), torch.zeros_like(means[0])
    for mean, scale, there in zip(means, scales, held, strict=True):
        own = torch.where(there[:, None], scale**-2, 0.0)
        precision = precision + own
        total = total + torch.where(there[:, None], mean, 0.0) * own
    return Normal(total / precision, precision**-0.5)


@final
class Coupling(nn.Module):
    r"""A flow of affine couplings, RealNVP: a bijection of vectors that nets parametrise.

    Each layer moves one half of the vector by a shift and a scale that are nets of the other
    half (and of a context); halves take turns. Log-scales are bounded, so that nothing overflows.
    Called, it returns the Transform that `dg.bijection` takes.

    Args:
        width: Numbers in a vector, two at least.
        layers: Couplings.
        hidden: Width of the nets.
        context: Numbers in the context, such as features of an observation.

    Raises:
        ValueError: A vector of fewer than two numbers.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017, arXiv 1605.08803).

    Example:
        >>> flow = Coupling(3)
        >>> z = torch.randn(5, 3)
        >>> torch.allclose(flow().inv(flow()(z)), z, atol=1e-5)
        True
    """

    def __init__(self, width: int, *, layers: int = 4, hidden: int = 64, context: int = 0) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"a coupling has two halves, so a vector of two or more, not {width}")
        self.first = width // 2
        sizes = [(self.first, width - self.first)[:: 1 - 2 * (i % 2)] for i in range(layers)]
        self.nets = nn.ModuleList(
            mlp(kept + context, hidden, hidden, 2 * moved, activation=nn.Tanh)
            for kept, moved in sizes
        )
        for net in self.nets:  # begin as the identity
            *_, last_weight, last_bias = net.parameters()
            nn.init.zeros_(last_weight)
            nn.init.zeros_(last_bias)

    def forward(self, context: Tensor | None = None) -> Transform:
        """Return the bijection of `[n, width]`, given a context `[n, context]` if there is one."""
        layers: list[Transform] = [
            _AffineCoupling(net, self.first, context, flipped=bool(i % 2))
            for i, net in enumerate(self.nets)
        ]
        return ComposeTransform(layers)


class _AffineCoupling(Transform):
    """One layer: a half moves by what the other half and the context say."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(
        self, net: nn.Module, first: int, context: Tensor | None, *, flipped: bool
    ) -> None:
        super().__init__()
        self.net, self.first, self.context, self.flipped = net, first, context, flipped

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, other = x[..., : self.first], x[..., self.first :]
        return (other, one) if self.flipped else (one, other)

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, kept] if self.flipped else [kept, moved], -1)

    def _parameters(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        inside = kept if self.context is None else torch.cat([kept, self.context], -1)
        shift, raw = self.net(inside).chunk(2, -1)
        return shift, 2 * torch.tanh(raw / 2)

    def _call(self, x: Tensor) -> Tensor:
        kept, moved = self._halves(x)
        shift, log_scale = self._parameters(kept)
        return self._joined(kept, moved * log_scale.exp() + shift)

    def _inverse(self, y: Tensor) -> Tensor:
        kept, moved = self._halves(y)
        shift, log_scale = self._parameters(kept)
        return self._joined(kept, (moved - shift) * (-log_scale).exp())

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of the log-scales, `[n]`."""
        return self._parameters(self._halves(x)[0])[1].sum(-1)
