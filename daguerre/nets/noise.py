"""What is random in a net: which operations draw, and from which distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Exponential,
    Gamma,
    Normal,
    Poisson,
    Uniform,
)

__all__ = ["Law", "Noise", "is_random", "noise_of"]


class Noise(NamedTuple):
    """A random operation, taken apart.

    Attributes:
        law: Returns the distribution; of one event if it takes no arguments.
        arguments: The values that the law depends on.
        then: What the operation does with the draw, called as `then(*kept, draw)`; None if it
            returns the draw.
        kept: The values that `then` needs.
        shape: The shape of the draw, where it is not that of the result.
    """

    law: Callable[..., Distribution]
    arguments: tuple[Any, ...] = ()
    then: Callable[..., Any] | None = None
    kept: tuple[Any, ...] = ()
    shape: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple


@final
class Kept(Bernoulli):
    """Bernoulli noise as dropout draws it: the same numbers from the same seed.

    Args:
        probs: The probability of 1, the same for every entry.
        keep: The same as a number, by which the draws are made.
        validate_args: Whether to check `probs`.
    """

    def __init__(self, probs: Tensor, keep: float, *, validate_args: bool | None = None) -> None:
        self.keep = keep
        super().__init__(probs, validate_args=validate_args)

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw 0 or 1, of shape `[*sample_shape, *batch_shape]`."""
        shape = self._extended_shape(torch.Size(sample_shape))
        draw = torch.empty(shape, dtype=self.probs.dtype, device=self.probs.device)
        return draw.bernoulli_(self.keep)

    def expand(self, batch_shape: Iterable[int], _instance: object = None) -> Kept:
        """Return the distribution of independent copies."""
        return Kept(self.probs.expand(torch.Size(batch_shape)), self.keep, validate_args=False)


@dataclass(frozen=True, slots=True)
class Law:
    """The distribution of one event of noise that depends on nothing.

    Attributes:
        family: The family.
        values: Its parameters, the same for every entry.
        event: The event shape.
        dtype: Type of the parameters.
    """

    family: Callable[..., Distribution]
    values: tuple[float, ...]
    event: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32

    def __call__(self) -> Distribution:
        """Return the distribution, on the default device."""
        parameters = (torch.full(self.event, v, dtype=self.dtype) for v in self.values)
        return self.family(*parameters, validate_args=False)


def _kept(keep: float) -> Law:
    return Law(partial(Kept, keep=keep), (keep,))


def _scaled(x: Tensor, mask: Tensor, *, keep: float) -> Tensor:
    return x * mask.div(keep)


def _scaled_and_mask(x: Tensor, mask: Tensor, *, keep: float) -> tuple[Tensor, Tensor]:
    return _scaled(x, mask, keep=keep), mask


def _channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], *(1 for _ in shape[2:]))


def _dropout(x: Any, p: float, _: bool) -> Noise:  # noqa: FBT001 - torch's signature
    return Noise(_kept(1 - p), then=partial(_scaled, keep=1 - p), kept=(x,))


def _feature_dropout(x: Any, p: float, train: bool) -> Noise:  # noqa: FBT001
    return _dropout(x, p, train)._replace(shape=_channels)


def _native_dropout(x: Any, p: float, train: bool) -> Noise:  # noqa: FBT001
    return _dropout(x, p, train)._replace(then=partial(_scaled_and_mask, keep=1 - p))


def _bernoulli(x: Any, p: float | None = None) -> Noise:
    return Noise(Bernoulli, (x,)) if p is None else Noise(_kept(p))


def _normal(mean: Any, std: Any = 1.0, *_: Any) -> Noise:
    return Noise(Normal, (mean, std))


def _filled_normal(_: Any, mean: float = 0.0, std: float = 1.0) -> Noise:
    return Noise(Law(Normal, (mean, std)))


def _filled_uniform(_: Any, low: float = 0.0, high: float = 1.0) -> Noise:
    return Noise(Law(Uniform, (low, high)))


def _filled_exponential(_: Any, rate: float = 1.0) -> Noise:
    return Noise(Law(Exponential, (rate,)))


def _gamma(concentration: Tensor) -> Distribution:
    return Gamma(concentration, torch.ones_like(concentration), validate_args=False)


def _multinomial(probs: Any, draws: int, *_: Any) -> Noise | None:
    if draws != 1:
        return None
    return Noise(Categorical, (probs,), then=_as_column, shape=lambda shape: shape[:-1])


def _as_column(draw: Tensor) -> Tensor:
    return draw.unsqueeze(-1)


_STANDARD = Law(Normal, (0.0, 1.0))
_UNIFORM = Law(Uniform, (0.0, 1.0))
_RULES: dict[str, Callable[..., Noise | None]] = {
    "randn": lambda *_: Noise(_STANDARD),
    "randn_like": lambda *_: Noise(_STANDARD),
    "rand": lambda *_: Noise(_UNIFORM),
    "rand_like": lambda *_: Noise(_UNIFORM),
    "normal_": _filled_normal,
    "normal_functional": _filled_normal,
    "uniform_": _filled_uniform,
    "uniform": _filled_uniform,
    "exponential_": _filled_exponential,
    "exponential": _filled_exponential,
    "bernoulli_": lambda _, p=0.5: Noise(_kept(p)),
    "bernoulli": _bernoulli,
    "normal": _normal,
    "_standard_gamma": lambda shape: Noise(_gamma, (shape,)),
    "poisson": lambda rate: Noise(Poisson, (rate,)),
    "multinomial": _multinomial,
    "dropout": _dropout,
    "native_dropout": _native_dropout,
    "feature_dropout": _feature_dropout,
}


def _keeps_all(_: Any, p: float, train: bool) -> bool:  # noqa: FBT001 - torch's signature
    return not train or p == 0


def _keeps_layers(*arguments: Any, **_: Any) -> bool:
    """Whether a recurrent net drops nothing between its layers."""
    dropout, train = arguments[5:7]
    return not train or not dropout


# whether an operation that can draw does not, as it is called
_IDLE: dict[str, Callable[..., bool]] = {
    **dict.fromkeys(("dropout", "feature_dropout", "native_dropout"), _keeps_all),
    **dict.fromkeys(("alpha_dropout", "feature_alpha_dropout"), _keeps_all),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _keeps_layers),
    "scaled_dot_product_attention": lambda *a, dropout_p=0.0, **_: (
        not (a[4] if len(a) > 4 else dropout_p)
    ),
    "_scaled_dot_product_flash_attention_for_cpu": lambda *a, dropout_p=0.0, **_: (
        not (a[3] if len(a) > 3 else dropout_p)
    ),
    "rrelu": lambda *a, training=False, **_: not (a[3] if len(a) > 3 else training),
}


def is_random(target: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether an operation, called like this, draws random numbers."""
    if torch.Tag.nondeterministic_seeded not in getattr(target, "tags", ()):
        return False
    idle = _IDLE.get(target.overloadpacket.__name__)
    return idle is None or not idle(*arguments, **options)


def noise_of(target: Any, arguments: tuple[Any, ...]) -> Noise | None:
    """Take a random operation apart, or return None if its law is not known."""
    rule = _RULES.get(target.overloadpacket.__name__)
    return rule(*arguments) if rule is not None else None
