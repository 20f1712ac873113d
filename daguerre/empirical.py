"""`dg.data`: the empirical distribution of named variables, and the readers that fill it."""

from __future__ import annotations

from typing import final

from daguerre.data import array, chorales, digits, fashion_mnist, mnist, series, text
from daguerre.joint import Empirical

__all__ = ["data"]


@final
class _Data:
    """The data: `dg.data("x")` is its distribution, `dg.data.digits()` and others read it."""

    array = staticmethod(array)
    chorales = staticmethod(chorales)
    digits = staticmethod(digits)
    fashion_mnist = staticmethod(fashion_mnist)
    mnist = staticmethod(mnist)
    series = staticmethod(series)
    text = staticmethod(text)

    def __call__(self, *names: str) -> Empirical:
        """Return the empirical distribution of the named variables: a root of a joint.

        It can be sampled (its samples are the batches of a fit) and has no density.

        Example:
            >>> data("x").graph
            Graph(-> x)
        """
        return Empirical(names)


data = _Data()
