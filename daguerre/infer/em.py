r"""Expectation maximisation: closed-form steps for tables and linear Gaussians.

The E-step is exact inference, whatever is hidden or missing; the M-step is a table of expected
counts, or a weighted regression. No step lowers the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from daguerre.cpds import LinearGaussian, Tabular
from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.chain.answer import ChainQuestion
from daguerre.infer.chain.learning import Sequences, sequences_of
from daguerre.infer.evidence import Given
from daguerre.infer.plates import by_rows
from daguerre.infer.question import Question, plans
from daguerre.infer.statistics import Statistics, first_parameter
from daguerre.joint import Factor, Joint, as_joint

__all__ = ["Ascent", "em"]

FEWEST = 1e-12  # expected rows below which a regression is left as it is


@dataclass(frozen=True, eq=False)
class Ascent:
    """How the likelihood rose.

    Attributes:
        log_evidence: Mean over rows before each step and after the last, in nats, `[steps + 1]`.
        log_prior: The logarithm of the prior, divided by the rows, of the same shape; 0 without.
        converged: Whether the last step gained less than the tolerance.
    """

    log_evidence: Tensor
    log_prior: Tensor
    converged: bool

    @property
    def objective(self) -> Tensor:
        """What no step lowers: log-evidence and log-prior, `[steps + 1]`."""
        return self.log_evidence + self.log_prior

    def __len__(self) -> int:
        return len(self.log_evidence) - 1

    def __repr__(self) -> str:
        first, last = (self.log_evidence[i].item() for i in (0, -1))
        end = "converged" if self.converged else "not converged"
        return f"Ascent({len(self)} steps, {end}; log-evidence {first:.4g} to {last:.4g})"


def em(
    p: Factor | Joint,
    data: Given,
    *,
    steps: int = 100,
    tolerance: float = 1e-6,
    prior: float = 0.0,
    floor: float = 1e-9,
) -> Ascent:
    r"""Fit the tables and linear Gaussians of a model by expectation maximisation, in place.

    $$\theta \leftarrow \arg\max_\theta \sum_n
      \mathbb{E}_{p_{\theta_{\mathrm{old}}}(h \mid x_n)} \log p_\theta(x_n, h)$$

    Any variable may be hidden, and any row may lack any value. CPDs without parameters, and
    parameters that require no gradient, stay as they are; so do probabilities and standard
    deviations of zero. A module that is the CPD of several variables learns from all of them.

    With lags it is the algorithm of Baum and Welch: hidden variables are finite, and the modules
    that learn are those whose distributions the CPDs return as they are. Members of a plate share
    their CPDs, so the statistics of all of them count.

    Args:
        p: The model; `dg.Tabular` and `dg.LinearGaussian` CPDs learn.
        data: `{name: values [rows, *event]}` as the evidence of `dg.posterior`: NaN, or a negative
            integer, marks what a row lacks. With plates, values `[rows, *plates, *event]`; with
            lags, `[sequences, *plates, T, *event]`.
        steps: At most so many.
        tolerance: Stop when a step gains less than this, in nats a row.
        prior: Pseudo-counts that are added to each count of a table, but for those of zeros: the
            maximum is then that of the posterior under a Dirichlet prior of 1 + `prior`.
        floor: The smallest variance of a linear Gaussian, or eigenvalue of its covariance.

    Returns:
        The log-evidence of each step.

    Raises:
        InadmissibleError: A CPD that learns is of another kind, or no exact engine takes the
            model; with lags, a hidden variable is not finite.
        GraphError: Unknown names, wrong shapes, a row of probability zero, an option out of range.

    References:
        Dempster, Laird and Rubin (1977), *Maximum likelihood from incomplete data via the EM
        algorithm*; Lauritzen (1995), *The EM algorithm for graphical association models with
        missing data*; Baum, Petrie, Soules and Weiss (1970), *A maximization technique occurring
        in the statistical analysis of probabilistic functions of Markov chains*.

    Example:
        >>> from daguerre.compose import model
        >>> p = model(
        ...     k=Tabular([0.5, 0.5]),
        ...     x=LinearGaussian(torch.tensor([-1.0, 1.0]), torch.ones(2), given=["k"]),
        ... )
        >>> x = torch.tensor([-5.0, -4.0, -3.0, 9.0, 11.0])
        >>> len(em(p, {"x": x})) < 10
        True
        >>> dict(p.named_modules())["k"].probs.detach()
        tensor([0.6000, 0.4000])
    """
    _check_options(steps, tolerance, prior, floor)
    rows, cpds, expectations = _expectation(as_joint(p), data)
    trace: list[tuple[float, float]] = []
    converged = False
    for step in range(steps + 1):
        found = Statistics(cpds)
        for expect in expectations:
            expect(found)
        log_evidence = torch.cat(found.log_evidence).double().sum().item()
        log_prior = prior * sum(_log_table(cpd) for cpd in found.counts)
        trace.append((log_evidence / rows, log_prior / rows))
        converged = step > 0 and sum(trace[-1]) - sum(trace[-2]) < tolerance
        if converged or step == steps:
            break
        _maximise(found, prior, floor)
    columns = torch.tensor(trace, dtype=torch.float64).T
    return Ascent(columns[0], columns[1], converged)


def _check_options(steps: int, tolerance: float, prior: float, floor: float) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise GraphError(f"steps is a whole number, 1 or more, not {steps!r}")
    for name, value in {"tolerance": tolerance, "prior": prior, "floor": floor}.items():
        if not 0 <= value < float("inf"):
            raise GraphError(f"{name} is a number, 0 or more, not {value!r}")


Learners = dict[str, Tabular | LinearGaussian]


class _Expectation(NamedTuple):
    """How expected statistics are found.

    Attributes:
        rows: How many rows of data there are, or sequences.
        cpds: The modules that learn, by variable or by where they are.
        steps: What add their parts to the statistics.
    """

    rows: int
    cpds: Learners
    steps: list[Callable[[Statistics], None]]


def _expectation(joint: Joint, data: Given) -> _Expectation:
    """Read the data, and plan the E-step."""
    if (chain := ChainQuestion.of(joint, (), data)) is not None:
        cpds = _learners(joint, _modules(joint))
        parts = [Sequences.of(one, cpds) for one in sequences_of(chain)]
        return _Expectation(chain.rows, cpds, [part.expect for part in parts])
    cpds, question = _learners(joint, _cpds(joint)), Question.of(joint, (), data)
    if not question.evidence.rows:
        raise GraphError("the data is empty: it has no rows")
    known = {first_parameter(cpd) for cpd in cpds.values()}
    questions = [one.by_members(one.groups) for one in by_rows(question)]
    for one in questions:
        assert isinstance(one.subject, Joint), "EM takes models"
        found = _conditionals(_cpds(one.subject))
        cpds |= {n: cpd for n, cpd in found.items() if first_parameter(cpd) in known}
    steps = [partial(_expect, one) for one in questions]
    return _Expectation(question.evidence.rows, cpds, steps)


def _cpds(joint: Joint) -> dict[str, nn.Module]:
    """Return the modules that are CPDs, by variable."""
    cpds = {step.name: step.cpd for step in joint.program.steps}
    return {name: cpd for name, cpd in cpds.items() if isinstance(cpd, nn.Module)}


def _modules(joint: Joint) -> dict[str, nn.Module]:
    """Return all modules, by where they are."""
    return {n: m for factor in joint.modules for n, m in factor.named_modules()}


def _conditionals(modules: dict[str, nn.Module]) -> Learners:
    """Return the modules that may learn and have parameters that do, by name."""
    return {
        name: module
        for name, module in modules.items()
        if isinstance(module, Tabular | LinearGaussian)
        and any(q.requires_grad for q in module.parameters())
    }


def _learners(joint: Joint, modules: dict[str, nn.Module]) -> Learners:
    """Return the modules that learn, by name; refuse whatever else would have to.

    Raises:
        InadmissibleError: A parameter of another CPD, or a regression of which a part is fixed.
    """
    found = _conditionals(modules)
    known = {id(q) for cpd in found.values() for q in cpd.parameters()}
    for module in joint.modules:
        for name, q in module.named_parameters():
            if q.requires_grad and id(q) not in known:
                raise InadmissibleError(
                    "EM moves variables whose CPD is a dg.Tabular or a dg.LinearGaussian, but"
                    f" {type(module).__name__} learns {name}, which is in no such CPD; use"
                    " dg.nll(p, observed=[...]) with dg.fit, or fix it with requires_grad_(False)"
                )
    for name, cpd in found.items():
        if isinstance(cpd, LinearGaussian):
            moving = {q.requires_grad for q in (cpd.bias, *cpd.weights)}
            if len(moving) > 1:
                raise InadmissibleError(
                    f"{name}: of a linear Gaussian, EM moves bias and weights together, but some"
                    " of them are fixed; use dg.nll(p, observed=[...]) with dg.fit"
                )
    if not found:
        raise InadmissibleError(
            "nothing can be learnt: no dg.Tabular or dg.LinearGaussian CPD has parameters that"
            " require gradients; networks from files have them with learned=True"
        )
    return found


def _expect(question: Question, found: Statistics) -> None:
    """Add the expected statistics of all rows, under the parameters as they are."""
    with torch.no_grad():
        for rows, exact in plans(question):
            found.add(exact)
            if bool((impossible := found.log_evidence[-1] == -torch.inf).any()):
                row = int(rows[impossible.nonzero()[0, 0]])
                values = {n: v[row].tolist() for n, v in question.evidence.values.items()}
                raise GraphError(
                    f"row {row} of the data has probability zero, and what is zero stays zero:"
                    f" {values}; start from tables without zeros there"
                )


@torch.no_grad()
def _maximise(found: Statistics, prior: float, floor: float) -> None:
    """Put the maximum of the expected log-density into the CPDs."""
    for cpd, counts in found.counts.items():
        old = cpd.probs.double()
        counts = counts.clamp(min=0) + prior * (old > 0)
        total = counts.sum(-1, keepdim=True)
        cpd.become(torch.where(total > 0, counts / total, old))
    for cpd, moments in found.moments.items():
        _regress(cpd, moments, floor)


def _log_table(cpd: Tabular) -> float:
    """Return the sum of the logarithms of a table, without those of zeros."""
    logs = cpd.probs.detach().double().log()
    return torch.where(logs > -torch.inf, logs, 0.0).sum().item()


def _regress(cpd: LinearGaussian, moments: Tensor, floor: float) -> None:
    """Solve the weighted least squares of each state of the discrete parents.

    Args:
        cpd: The linear Gaussian.
        moments: Sums of u u^T, u = (1, parents, value), `[*states, m, m]`.
        floor: The smallest variance.
    """
    bias, weights, scale = cpd.affine()
    d, count = bias.shape[-1], moments[..., :1, :1]
    enough = count > FEWEST
    moments = moments / torch.where(enough, count, 1.0)
    old = torch.cat([bias.unsqueeze(-1), *weights.values()], -1).double()
    uu, xu, xx = moments[..., :-d, :-d], moments[..., -d:, :-d], moments[..., -d:, -d:]
    new = _least_squares(uu, xu) if cpd.bias.requires_grad else old
    rest = xx - new @ xu.mT - xu @ new.mT + new @ uu @ new.mT
    fixed = ~(scale.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) > 0)  # functions of their parents
    fixed = fixed | fixed.any(-2, keepdim=True) if cpd.scale_tril is not None else fixed
    moved = torch.where(enough & ~fixed, new, old)
    for parameter, value in zip(
        (cpd.bias, *cpd.weights), moved.split([1, *(w.shape[-1] for w in weights.values())], -1),
        strict=True,
    ):  # fmt: skip
        parameter.copy_(value.reshape(parameter.shape))
    spread = cpd.log_scale if cpd.log_scale is not None else cpd.scale_tril
    assert spread is not None
    if not spread.requires_grad:
        return
    if cpd.log_scale is not None:
        value = rest.diagonal(dim1=-2, dim2=-1).clamp(min=floor).log() / 2
        kept = (enough & ~fixed).squeeze(-1)
    else:
        size, along = torch.linalg.eigh((rest + rest.mT) / 2)
        value = torch.linalg.cholesky(along @ (size.clamp(min=floor).unsqueeze(-1) * along.mT))
        kept = enough & ~fixed
    kept, value = kept.expand(value.shape), value.reshape(spread.shape)
    spread.copy_(torch.where(kept.reshape(spread.shape), value, spread.double()))


def _least_squares(uu: Tensor, xu: Tensor) -> Tensor:
    """Return the coefficients of u for x, `[*states, d, 1 + parents]`; the smallest, if several.

    Means are taken out first: the intercept then costs the slopes no digits.
    """
    u, x = uu[..., 1:, :1], xu[..., :1]
    slopes = (xu[..., 1:] - x @ u.mT) @ torch.linalg.pinv(
        uu[..., 1:, 1:] - u @ u.mT, rtol=1e-12, hermitian=True
    )
    return torch.cat([x - slopes @ u, slopes], -1)
