"""Products of nonnegative tables over finite variables: undirected models (Markov networks)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from daguerre.graph import GraphError, did_you_mean

__all__ = ["Factors"]


@dataclass(frozen=True, eq=False)
class Factors:
    r"""A product of nonnegative tables: $p(v) = \frac{1}{Z} \prod_i \phi_i(v_{S_i})$.

    The tables of a Bayesian network are such a product with Z = 1; those of a Markov network need
    neither sum to one nor follow a direction.

    Attributes:
        sizes: Per variable, its number of states.
        scopes: Per table, the variables of its dimensions, in that order.
        tables: The tables, `[*states of each variable of the scope]`; a table of an empty scope
            is a number.

    Raises:
        GraphError: Other shapes than the sizes of the scope, an unknown or repeated variable,
            entries that are negative, NaN or infinite.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, chapter 4.

    Example:
        >>> import torch
        >>> coupled = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
        >>> Factors({"a": 2, "b": 2}, (("a", "b"),), (coupled,)).tables[0].sum()
        tensor(6.)
    """

    sizes: dict[str, int]
    scopes: tuple[tuple[str, ...], ...]
    tables: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if len(self.scopes) != len(self.tables):
            raise GraphError(
                f"{len(self.scopes)} scopes came with {len(self.tables)} tables; expected one each"
            )
        for name, size in self.sizes.items():
            if size < 1:
                raise GraphError(f"{name!r} has {size} states; expected one or more")
        for number, (scope, table) in enumerate(zip(self.scopes, self.tables, strict=True)):
            self._check_scope(number, scope)
            self._check_table(number, table)

    def _check_scope(self, number: int, scope: tuple[str, ...]) -> None:
        for name in scope:
            if name not in self.sizes:
                hint = did_you_mean(name, self.sizes)
                raise GraphError(f"factor {number} has the unknown variable {name!r}{hint}")
        if len(set(scope)) != len(scope):
            raise GraphError(f"factor {number} repeats a variable: {', '.join(scope)}")

    def _check_table(self, number: int, table: Tensor) -> None:
        scope = self.scopes[number]
        expected = [self.sizes[name] for name in scope]
        if list(table.shape) != expected or not table.is_floating_point():
            raise GraphError(
                f"factor {number} over ({', '.join(scope)}) takes a table of floats of shape"
                f" {expected}, not {table.dtype} of {list(table.shape)}"
            )
        wrong = ~(table >= 0) | table.isinf()
        if wrong.any():
            place = tuple(wrong.nonzero()[0].tolist())
            raise GraphError(
                f"factor {number} over ({', '.join(scope)}) is {table[place].item():g} at"
                f" {list(place)}; expected 0 or more, and finite"
            )
