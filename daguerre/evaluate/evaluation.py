"""One call for all models: measures by name of a function or object, or those that apply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from types import FunctionType

import torch

from daguerre.devices import on_device_of
from daguerre.evaluate.bounds import ELBO, IWAE
from daguerre.evaluate.latents import ActiveUnits, RateDistortion
from daguerre.evaluate.samples import C2ST, MMD2
from daguerre.evaluate.scores import Score, Scores
from daguerre.evaluate.subject import Measure, Subject, seeded
from daguerre.graph import InadmissibleError
from daguerre.model import Model
from daguerre.modes import mode
from daguerre.objectives.observations import Data

__all__ = ["applicable", "evaluate"]


def evaluate(  # noqa: PLR0913 - one subject, each choice by keyword
    p: Model,
    q: Model | None = None,
    data: Data | None = None,
    *,
    measures: Iterable[Measure] | None = None,
    particles: int = 100,
    observed: Iterable[str] | None = None,
    seed: int = 0,
) -> Scores:
    """Measure a model on held-out data.

    Without `measures`, it takes those that are cheap: with a q the bounds `elbo` and `iwae`, the
    `rate` and `distortion` that make up the first, and `active units`; in any case `mmd2` and
    `c2st`, between the data and as many samples. `dg.measures` has more.

    Args:
        p: The model.
        q: Its inference model, or None for a model that is only sampled.
        data: `{name: Tensor[N, *event]}` of the observed variables, or a Tensor if it is one. Few
            measures do without.
        measures: What to measure: values such as `dg.measures.IWAE(5000)`, or any functions of a
            `Subject` that return a `Score` or several. The second score of a name is numbered,
            `"iwae 2"`.
        particles: K of the importance-weighted bound that is taken by default.
        observed: The variables that the data holds, as for `dg.elbo`: those of p, and data that q
            alone looks at. By default q's inputs and p's leaves that q does not draw.
        seed: Of all draws; the global generator is left alone.

    Raises:
        GraphError: Data that lacks a variable, or a q that does not fit.
        InadmissibleError: A measure that is asked for does not apply, or a q was given but p has
            no density.
        ValueError: Data that a measure needs is missing, too little, or not finite.

    References:
        Burda et al. (2016, arXiv 1509.00519); Gretton et al. (2012, JMLR 13); Lopez-Paz and Oquab
        (2017, arXiv 1610.06545).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> x = torch.linspace(-2, 2, 100)
        >>> [score.name for score in dg.evaluate(p, q, x)]
        ['elbo', 'iwae', 'rate', 'distortion', 'active units', 'mmd2', 'c2st']
        >>> scores = dg.evaluate(p, q, x, measures=[dg.measures.IWAE(10)])
        >>> round(scores["iwae"].value, 3)  # exact, as q is the posterior
        -1.606
    """
    names = None if observed is None else tuple(observed)
    subject = Subject(p, q, data, seed, names)
    with mode(subject.models, training=False):
        if measures is not None:
            return Scores(_distinct(s for one in measures for s in _measured(one, subject)))
        return _usual(subject, particles)


def _usual(subject: Subject, particles: int) -> Scores:
    """Take what is cheap; bounds whatever comes, and what else applies."""
    if subject.q is None:
        return applicable(subject, [MMD2(), C2ST()])
    bounds = [score for one in (ELBO(), IWAE(particles)) for score in _measured(one, subject)]
    found = applicable(subject, [RateDistortion(), ActiveUnits(), MMD2(), C2ST()])
    return Scores((*bounds, *found.scores), found.refused)


def applicable(subject: Subject, measures: Iterable[Measure]) -> Scores:
    """Take those measures that apply, and note why the others do not.

    Args:
        subject: What is measured, its models in evaluation mode.
        measures: What to measure.
    """
    scores, refused = [], []
    for one in measures:
        try:
            scores += _measured(one, subject)
        except InadmissibleError as error:
            refused.append((_name(one), str(error)))
    return Scores(tuple(scores), tuple(refused))


def _measured(measure: Measure, subject: Subject) -> tuple[Score, ...]:
    """Take one measure, with draws of its own from the seed."""
    models = subject.models
    with torch.no_grad(), seeded(subject.seed, models), on_device_of(models):
        found = measure(subject)
    scores = (found,) if isinstance(found, Score) else tuple(found)
    if wrong := [score for score in scores if not isinstance(score, Score)]:
        raise TypeError(f"{_name(measure)} returned {wrong[0]!r}; a measure returns a Score")
    return scores


def _distinct(scores: Iterable[Score]) -> tuple[Score, ...]:
    """Number scores of one name, so that each is found by its own: "iwae", "iwae 2"."""
    seen: Counter[str] = Counter()
    found = []
    for score in scores:
        seen[score.name] += 1
        count = seen[score.name]
        found.append(score if count == 1 else replace(score, name=f"{score.name} {count}"))
    return tuple(found)


def _name(measure: Measure) -> str:
    return measure.__name__ if isinstance(measure, FunctionType) else type(measure).__name__
