r"""Expectations as terms: the mean of a function of the variables, under a joint.

$$\mathbb{E}_{v \sim \mathrm{joint}}\left[f(v)\right]$$

What a paper adds to a divergence is often of this kind: a commitment loss, a reconstruction after
a cycle, a match of features, a penalty on the covariance of the latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from daguerre.declare import parameters_of, place_of
from daguerre.draw.labels import label
from daguerre.graph import Graph, GraphError, Variable, did_you_mean
from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.objective import Divergence, Objective, Player, Round, Term
from daguerre.objectives.sides import expectation as averaged
from daguerre.objectives.sides import modules_of, needed, pair_shapes
from daguerre.program import Program, Step
from daguerre.running import draw
from daguerre.shapes import trace_shapes

__all__ = ["Expectation", "covariance_penalty", "expectation"]


def expectation(
    joint: Factor | Joint,
    function: Callable[..., Tensor],
    *,
    name: str | None = None,
    **modules: nn.Module,
) -> Objective:
    r"""Return $\mathbb{E}_{\mathrm{joint}}[f]$, with gradients through draws and function.

    As in a CPD, the parameter names of the function are the variables; each comes as a batch
    `[n, *event]`. It returns one number per row, `[n]`, which is averaged, or a scalar, a
    statistic of the batch. Keyword modules are bound to the parameters of the same name and
    trained; those that the function finds elsewhere (the layers of a critic, say) stay as they
    are.

    Args:
        joint: What is drawn from, such as `dg.data("x") * q`.
        function: From variables, and modules, to `[n]` or a scalar.
        name: What the ledger calls it; by default the function's own name.
        **modules: Modules to bind and train, by the name of the parameter.

    Raises:
        GraphError: An unknown variable, a module that the function does not take, a function
            without variables, a result of another shape.
        InadmissibleError: A draw that needs a gradient has none.
        TypeError: What is called is no function.

    References:
        Van den Oord, Vinyals and Kavukcuoglu (2017, arXiv 1711.00937) for the commitment loss;
        Zhu, Park, Isola and Efros (2017, arXiv 1703.10593) for cycles; Salimans et al. (2016,
        arXiv 1606.03498) for features.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0))
        >>> power = expectation(p, lambda z: (z**2).sum(1), name="power")
        >>> _ = torch.manual_seed(0)
        >>> power, round(power.losses(100_000)["model"].item(), 1)
        (Objective(E[power(z)]; players: model), 2.0)
    """
    if not callable(function):
        raise TypeError(f"an expectation is of a function of the variables, not of {function!r}")
    return Objective(((1.0, Expectation(as_joint(joint), function, name, modules)),))


@final
class Expectation(Divergence):
    """The mean of a function under a joint."""

    def __init__(
        self,
        joint: Joint,
        function: Callable[..., Tensor],
        name: str | None,
        modules: dict[str, nn.Module],
    ) -> None:
        self.name, self.function, self.modules = name or _name(function), function, modules
        self.place = place_of(function)
        self._parameters = parameters_of(function, f"{self.name} ({self.place})")
        self.names = self._variables(joint)
        self.a = self.b = joint[self.names]
        self._program = needed(self.b)
        bound = tuple(modules.values())
        self.players = (Player("model", tuple(dict.fromkeys((*modules_of(joint), *bound)))),)
        learns = (self.b,) if self.players[0].parameters() else ()
        self.shapes = pair_shapes(self.a, self.b, pathwise=learns, run=needed)
        self._check_result()

    def _variables(self, joint: Joint) -> tuple[str, ...]:
        """Read off the signature which variables the function is of."""
        what = f"{self.name} ({self.place})"
        for module in self.modules:
            if module not in self._parameters:
                hint = did_you_mean(module, self._parameters)
                raise GraphError(
                    f"{what} binds the module {module!r}, which its function does not take{hint}"
                )
        names = tuple(n for n in self._parameters if n not in self.modules)
        if not names:
            raise GraphError(
                f"{what} is a function of no variable, so its mean is no expectation; name the"
                f" variables as its parameters: {', '.join(joint.names)}"
            )
        for name in names:
            if name not in joint.names:
                hint = did_you_mean(name, joint.names)
                raise GraphError(f"{what} is a function of {name!r}, which is not drawn{hint}")
        return names

    def _check_result(self) -> None:
        """Call the function on tensors without contents, where the shapes it takes are known."""
        known = self.shapes.a | self.shapes.b
        result = Variable(self.name, self.names, "deterministic")
        graph = Graph((*(Variable(n, map="input") for n in self.names), result))
        inputs = (Step(graph[n], None) for n in self.names)
        last = Step(result, _Checked(self), self.place)
        trace_shapes(
            Program.of(graph, (*inputs, last)), {n: known[n] for n in self.names if n in known}
        )

    @property
    def title(self) -> str:
        """The function, of which variables."""
        return f"E[{self.name}({', '.join(self.names)})]"

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the mean over the batch, or the statistic of the batch."""
        assert player == "model"
        given = {k: at.given[k] for k in self.b.given}
        values = draw(self._program, at.n, given, pathwise=True).values
        compared = [values[name] for name in self.names]
        found = self.result(*compared)
        if at.peers.world > 1 and found.dim() == 0:  # a statistic is that of the whole batch
            found = self.result(*map(at.peers.rows, compared))
        return found.mean()

    def result(self, *values: Tensor) -> Tensor:
        """Return the function's result for a batch, `[n]`, or a statistic of it, a scalar.

        Raises:
            GraphError: It has another shape.
            TypeError: It is no tensor.
        """
        n = values[0].shape[0]
        found = self.function(**dict(zip(self.names, values, strict=True)), **self.modules)
        if not isinstance(found, Tensor):
            raise TypeError(f"{self.name} ({self.place}) returned {found!r}, not a Tensor")
        if found.shape not in ((), (n,)):
            raise GraphError(
                f"{self.name} ({self.place}) must return one number per row, [{n}], or a scalar of"
                f" the batch; it returned the shape {list(found.shape)}: sum or average what is"
                " left of each row"
            )
        return found

    def ledger(self) -> tuple[Term, ...]:
        """Say how it is estimated."""
        drawn = [s.name for s in self._program.steps if s.name not in self.b.given]
        how = f"n rows, pathwise through {', '.join(drawn)}" if drawn else "n rows of the data"
        return (Term("model", self.title, how, "a mean of draws: no density, no critic"),)

    def latex(self) -> dict[str, str]:
        """Return the expectation."""
        over = averaged(self.a, self.shapes.a, "q")
        of = ", ".join(label(name) for name in self.names)
        return {"model": rf"\mathbb{{E}}_{{{over}}}\left[{label(self.name)}({of})\right]"}


@final
class _Checked(nn.Module):
    """The function of an expectation as a module, so that its modules are tried as copies."""

    def __init__(self, term: Expectation) -> None:
        super().__init__()
        self.term = term
        self.bound = nn.ModuleList(term.modules.values())

    def forward(self, *values: Tensor) -> Tensor:
        """Return the function's result for a batch."""
        return self.term.result(*values).expand(values[0].shape[0])


def _name(function: Callable[..., Tensor]) -> str:
    """Return the name of a function, f where it has none."""
    own = getattr(function, "__name__", type(function).__name__)
    return "f" if own == "<lambda>" else own


def covariance_penalty(z: Tensor, *, off_diagonal: float = 10.0, diagonal: float = 10.0) -> Tensor:
    r"""Return how far the covariance of the columns of a batch is from the identity.

    $$\lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2$$

    It is a statistic of the batch for `expectation`. Of the latents it makes a DIP-VAE-II, of
    their means, declared as a variable of q, a DIP-VAE-I:
    `dg.elbo(p, q) + dg.expectation(dg.data("x") * q, lambda z: covariance_penalty(z))`. Noise of
    the batch makes it too large, less so in large batches.

    Args:
        z: Rows `[n, *event]`, two or more.
        off_diagonal: The weight of covariances.
        diagonal: The weight of variances that are not 1.

    Raises:
        GraphError: One row, which has no covariance.

    References:
        Kumar, Sattigeri and Balakrishnan (2018, arXiv 1711.00848).

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # covariance 2 everywhere
        >>> covariance_penalty(z, off_diagonal=1.0, diagonal=1.0)
        tensor(10.)
    """
    n = len(z)
    if n < 2:
        raise GraphError(f"a covariance is that of two rows or more, not {n}")
    z = z.reshape(n, -1)
    z = z - z.mean(0)
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    squares = (z.T @ z / (n - 1) - identity) ** 2
    itself = (squares * identity).sum()
    return off_diagonal * (squares.sum() - itself) + diagonal * itself
