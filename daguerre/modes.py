"""Training and evaluation mode, set for a while and given back to every submodule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["mode"]


@contextmanager
def mode(modules: Iterable[nn.Module], *, training: bool) -> Iterator[None]:
    """Put modules into training or evaluation mode; each submodule gets its own mode back.

    Example:
        >>> net = nn.Sequential(nn.Dropout().eval(), nn.Linear(1, 1))
        >>> with mode([net], training=False):
        ...     net[1].training
        False
        >>> net[0].training, net[1].training
        (False, True)
    """
    modules = list(modules)
    before = {m: m.training for module in modules for m in module.modules()}
    for module in modules:
        module.train(training)
    try:
        yield
    finally:
        for module, was in before.items():
            module.training = was
