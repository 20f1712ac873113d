"""One call for both kinds of models: bounds where there is a density, two-sample tests always."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from daguerre.devices import on_device_of
from daguerre.evaluate.bounds import evidence_bound
from daguerre.evaluate.two_sample import classifier_accuracy, mmd2
from daguerre.graph import GraphError, did_you_mean
from daguerre.joint import as_joint
from daguerre.model import Model
from daguerre.modes import mode
from daguerre.objectives.recipes import elbo
from daguerre.queries import declared_sizes, read_sizes, sample
from daguerre.table import Table

__all__ = ["Score", "Scores", "evaluate"]


@dataclass(frozen=True)
class Score:
    """One measure of a model on data.

    Attributes:
        name: The measure.
        value: Its value.
        spread: Its standard error; for MMD² the standard deviation under equal distributions.
        note: How to read it.
    """

    name: str
    value: float
    spread: float
    note: str


@dataclass(frozen=True)
class Scores:
    """The measures of a model on data, by name."""

    scores: tuple[Score, ...]

    def __getitem__(self, name: str) -> Score:
        """Return one measure."""
        found = {score.name: score for score in self.scores}
        if name not in found:
            raise KeyError(f"no measure {name!r}{did_you_mean(name, found)}")
        return found[name]

    def __contains__(self, name: object) -> bool:
        return any(score.name == name for score in self.scores)

    def __repr__(self) -> str:
        rows = ((s.name, f"{s.value:.4g}", f"± {s.spread:.2g}", s.note) for s in self.scores)
        return str(Table(("measure", "value", "spread", "reading"), tuple(rows)))


def evaluate(
    p: Model,
    q: Model | None,
    data: Tensor | Mapping[str, Tensor],
    *,
    particles: int = 100,
    seed: int = 0,
) -> Scores:
    """Measure a model on held-out data: bounds if it has a density and a q, samples in any case.

    Args:
        p: The model.
        q: Its inference model, or None for a model that is only sampled.
        data: `{name: Tensor[N, *event]}` of the observed variables, or a Tensor if it is one.
        particles: K of the importance weighted bound.
        seed: Of all draws; the global generator is left alone.

    Returns:
        `elbo` and `iwae` in nats (with q), `mmd2` and `c2st` between the data and as many samples.

    Raises:
        GraphError: Data that lacks a variable, or a q that does not fit.
        InadmissibleError: A q was given but p has no density.

    References:
        Burda et al. (2016, arXiv 1509.00519); Gretton et al. (2012, JMLR 13); Lopez-Paz and Oquab
        (2017, arXiv 1610.06545).
    """
    with mode([p] if q is None else [p, q], training=False):
        return _evaluate(p, q, _observed(p, q, data), particles, seed)


def _evaluate(
    p: Model, q: Model | None, observed: Mapping[str, Tensor], particles: int, seed: int
) -> Scores:
    scores = [*_bounds(p, q, observed, particles, seed)] if q is not None else []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        n = len(next(iter(observed.values())))
        given = {name: observed[name] for name in p.graph.inputs}
        program = as_joint(p).program
        sizes = read_sizes(program.plates, observed, n, declared_sizes(p.graph))
        of = {} if sizes is None else sizes.of
        with on_device_of([p]):
            drawn = sample(program, n, given, pathwise=False, sizes=of)
    names = [name for name in observed if name not in p.graph.inputs]
    real, fake = (
        torch.cat([one[name].flatten(1).float() for name in names], 1) for one in (observed, drawn)
    )
    return Scores((*scores, *_two_sample(real, fake, seed)))


def _observed(p: Model, q: Model | None, data: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = elbo(p, q).given if q is not None else (*p.graph.leaves, *p.graph.inputs)
    if isinstance(data, Tensor):
        data = {names[0]: data}
    for name in names:
        if name not in data:
            raise GraphError(f"the data lacks {name!r}{did_you_mean(name, data)}")
    return {name: data[name] for name in names}


def _bounds(
    p: Model, q: Model, data: Mapping[str, Tensor], particles: int, seed: int
) -> tuple[Score, Score]:
    one = evidence_bound(p, q, data, seed=seed)
    many = evidence_bound(p, q, data, particles=particles, seed=seed)
    return (
        Score("elbo", one.value, one.stderr, f"nats, a lower bound of log p(x), n = {one.n}"),
        Score("iwae", many.value, many.stderr, f"nats, the bound with {particles} particles"),
    )


def _two_sample(real: Tensor, fake: Tensor, seed: int) -> tuple[Score, Score]:
    distance = mmd2(real, fake, seed=seed)
    accuracy = classifier_accuracy(real, fake, seed=seed)
    p_value = f"p = {distance.p_value:.2g} that samples and data agree"
    return (
        Score("mmd2", distance.value, distance.null_std, f"unbiased, 0 if equal; {p_value}"),
        Score("c2st", accuracy.value, accuracy.stderr, "classifier accuracy, 0.5 if equal"),
    )
