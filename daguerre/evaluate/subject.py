"""What is measured: a model, its inference model, data, and samples beside them, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from daguerre.devices import device_of, on_device_of
from daguerre.evaluate.scores import Score
from daguerre.graph import GraphError, InadmissibleError, did_you_mean
from daguerre.joint import as_joint
from daguerre.model import Model
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.estimators import ScoreFunction
from daguerre.objectives.objective import Objective
from daguerre.objectives.observations import Data, read_data
from daguerre.objectives.recipes import elbo
from daguerre.program import validation
from daguerre.queries import declared_sizes, read_sizes, sample

__all__ = ["Measure", "Subject", "divergence_of", "rows_of", "seeded"]

ODD, SALT = 0x9E3779B97F4A7C15, 0x5851F42D4C957F2D  # spread seeds over all numbers


@dataclass(frozen=True, eq=False)
class Subject:
    """What a measure looks at.

    Attributes:
        p: The model.
        q: Its inference model, if there is one.
        data: `{name: Tensor[N, *event]}`, or a Tensor where one variable is observed.
        seed: Of all draws.
        observe: The variables that the data holds, as for `dg.elbo`: those of p, and data that q
            alone looks at. By default q's inputs and p's leaves that q does not draw.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(x=Normal(torch.zeros(3), 1.0))
        >>> Subject(p, data=torch.zeros(10, 3)).fake.shape  # as many draws as rows
        torch.Size([10, 3])
    """

    p: Model
    q: Model | None = None
    data: Data | None = None
    seed: int = 0
    observe: tuple[str, ...] | None = None

    @property
    def models(self) -> list[Model]:
        """The model, and the inference model if there is one."""
        return [self.p] if self.q is None else [self.p, self.q]

    @cached_property
    def cost(self) -> Objective:
        """Minus the ELBO.

        Raises:
            InadmissibleError: There is no inference model, or no density.
        """
        if self.q is None:
            raise InadmissibleError(
                "it takes draws of the latents given the data, so an inference model:"
                " dg.evaluate(p, q, data)"
            )
        return elbo(self.p, self.q, observed=self.observe)

    @cached_property
    def sampled(self) -> Objective:
        """The same, each row with one draw of the latents, even of those that could be listed."""
        assert self.cost.parts, "it is admissible"
        assert self.q is not None, "and so there is a q"
        return elbo(self.p, self.q, observed=self.observe, gradients=ScoreFunction(1))

    @cached_property
    def given(self) -> dict[str, Tensor]:
        """What the ELBO observes, checked: names, shapes, supports."""
        return read_data(self.cost, self.provided)

    @cached_property
    def held(self) -> tuple[str, ...]:
        """The variables that the data holds: what q is given, else the leaves; and inputs."""
        graph = self.p.graph
        if self.q is not None:
            return self.cost.given
        return (*(graph.leaves if self.observe is None else self.observe), *graph.inputs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The variables that the data holds and the model draws."""
        graph = self.p.graph
        return tuple(name for name in self.observed if name in graph and name not in graph.inputs)

    @cached_property
    def observed(self) -> dict[str, Tensor]:
        """The observed variables and the inputs.

        Raises:
            GraphError: The data lacks one of them.
        """
        names, data = self.held, self.provided
        if isinstance(data, Tensor):
            data = {names[0]: data}
        for name in names:
            if name not in data:
                raise GraphError(f"the data lacks {name!r}{did_you_mean(name, data)}")
        return {name: data[name] for name in names}

    @cached_property
    def drawn(self) -> dict[str, Tensor]:
        """One draw of all variables for each row of the data, inputs given."""
        some = next(iter(self.observed.values()))
        n, device = len(some), device_of([self.p]) or some.device
        given = {name: self.observed[name].to(device) for name in self.p.graph.inputs}
        program = as_joint(self.p).program
        sizes = read_sizes(program.plates, self.observed, n, declared_sizes(self.p.graph))
        of = {} if sizes is None else sizes.of
        with torch.no_grad(), seeded(self.seed, [self.p]), on_device_of([self.p]):
            drawn = sample(program, n, given, pathwise=False, sizes=of)
        return {name: value.to(some.device) for name, value in drawn.items()}

    @cached_property
    def real(self) -> Tensor:
        """The observed variables as rows, `[N, D]`."""
        return rows_of(self.observed, self.names)

    @cached_property
    def fake(self) -> Tensor:
        """As many draws of them, `[N, D]`."""
        return rows_of(self.drawn, self.names)

    def rows(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return what features see: one variable as it is, `[N, *event]`, several as rows."""
        if len(self.names) == 1:
            return values[self.names[0]]
        return rows_of(values, self.names)

    @property
    def provided(self) -> Data:
        """The data as they came, where they did.

        Raises:
            ValueError: There are none.
        """
        if self.data is None:
            raise ValueError("say what the model is measured on: dg.evaluate(p, q, data=x)")
        return self.data


Measure = Callable[[Subject], Score | Sequence[Score]]
"""A function from a subject to one score or several; it raises InadmissibleError where it does
not apply, saying why and what else does."""


@contextmanager
def seeded(seed: int, modules: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Seed torch's generators for a while and give them back.

    The seed is not used as it is: data that a program made from the same seed, as `torch.randn`
    after `torch.manual_seed(0)`, would otherwise be the very noise that is drawn here.

    Example:
        >>> with seeded(0):
        ...     a = torch.randn(())
        >>> with seeded(0):
        ...     b = torch.randn(())
        >>> bool(a == b), bool(a == torch.randn((), generator=torch.Generator().manual_seed(0)))
        (True, False)
    """
    device = device_of(modules)
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), validation(enabled=False):
        torch.manual_seed((seed * ODD + SALT) % 2**63)
        yield


def divergence_of(cost: Objective) -> KullbackLeibler:
    """Return the one term that an ELBO is."""
    ((_, part),) = cost.parts
    assert isinstance(part, KullbackLeibler), "an ELBO is one KL divergence"
    return part


def rows_of(values: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    """Lay variables `[N, *event]` side by side as rows of floats, `[N, D]`."""
    return torch.cat([v.float().reshape(len(v), -1) for v in (values[name] for name in names)], 1)
