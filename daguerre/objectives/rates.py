r"""What the rate of a latent counts in a bound: a weight, a schedule, free bits, a capacity.

The rate is the term $\mathrm{KL}(q(z \mid x) \Vert p(z))$ of a latent z, in nats for each
example; the other term of an ELBO is the distortion. `dg.elbo(p, q, rate=...)` takes a number, a
schedule or one of these, for all latents or by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor

from daguerre.graph import did_you_mean
from daguerre.objectives.schedules import (
    Number,
    Schedule,
    at_step,
    check_weight,
    cyclical,
    linear,
    show,
)

__all__ = ["Rate", "Rates", "Schedule", "by_name", "capacity", "cyclical", "free_bits", "linear"]


@final
@dataclass(frozen=True)
class Rate:
    """What a rate counts, as a function of it.

    Attributes:
        name: How the ledger writes it, with # for the rate.
        value: From the rates of a batch, `[n, *event]`, and the updates made, to a scalar.
        formula: The same in LaTeX, with # for the rate.
    """

    name: str
    value: Callable[[Tensor, Tensor | int], Tensor]
    formula: str


Rates = Mapping[str, Number | Rate]
"""What the rate of each latent counts; once, where it is not named."""


def free_bits(nats: float, *, each: bool = False) -> Rate:
    r"""Count a rate only where it exceeds some nats: $\max(\lambda, \mathrm{KL})$.

    The maximum is that of the mean over the batch, not of each example.

    Args:
        nats: $\lambda$.
        each: Of each dimension of the latent, rather than of all together.

    Raises:
        ValueError: Negative or not finite.

    References:
        Kingma et al. (2016, arXiv 1606.04934), appendix C.8.

    Example:
        >>> import torch
        >>> rates = torch.tensor([[0.1, 3.0], [0.3, 1.0]])  # two examples, two dimensions
        >>> rule = free_bits(0.5, each=True)
        >>> round(rule.value(rates, 0).item(), 6)  # 0.5 for 0.2, and 2
        2.5
    """
    check_weight(nats, "free_bits")

    def value(rate: Tensor, step: Tensor | int) -> Tensor:
        groups = rate.flatten(1) if each and rate.dim() > 1 else _total(rate)[:, None]
        return groups.mean(0).clamp_min(nats).sum()

    kind = "of each dimension" if each else ""
    return Rate(f"max({nats:g}, #){kind and ' ' + kind}", value, rf"\max({nats:g}, #)")


def capacity(weight: float, nats: Number) -> Rate:
    r"""Pull a rate towards a capacity: $\gamma\,\lvert \mathrm{KL} - C_t \rvert$.

    Args:
        weight: $\gamma$.
        nats: $C_t$, usually a schedule such as `linear(0, 25, steps=100_000)`.

    Raises:
        ValueError: Negative or not finite.

    References:
        Burgess et al. (2018, arXiv 1804.03599).

    Example:
        >>> import torch
        >>> rule = capacity(10.0, linear(0.0, 4.0, steps=4))
        >>> rule.value(torch.full([5], 3.0), 1).item()
        20.0
    """
    check_weight(weight, "the weight of a capacity")
    check_weight(nats, "a capacity")

    def value(rate: Tensor, step: Tensor | int) -> Tensor:
        return weight * (_total(rate).mean() - at_step(nats, step)).abs()

    target = "C_t" if isinstance(nats, Schedule) else f"{nats:g}"
    name = f"{weight:g} * |# - {show(nats)}|"
    return Rate(name, value, rf"{weight:g}\,\left|# - {target}\right|")


def by_name(
    rate: Number | Rate | Rates | None, latents: tuple[str, ...]
) -> dict[str, Number | Rate]:
    """Spread what rates count over the latents: one for all, or one by name.

    Raises:
        ValueError: A name that is no latent, a weight that is negative or not finite.
    """
    if rate is None:
        return {}
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(latents, rate)
    for name, one in rates.items():
        if name not in latents:
            raise ValueError(f"rate names {name!r}, no latent here{did_you_mean(name, latents)}")
        if not isinstance(one, Rate):
            check_weight(one, f"the rate of {name}")
    return {name: one for name, one in rates.items() if one != 1}


def _total(rate: Tensor) -> Tensor:
    return rate.flatten(1).sum(1) if rate.dim() > 1 else rate
