"""The no-U-turn sampler of nutpie, on the log-density of free numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daguerre.devices import on_device_of
from daguerre.graph import InadmissibleError
from daguerre.infer.answer import Answer
from daguerre.infer.approximate.answers import marginals_of, redraw
from daguerre.infer.approximate.methods import NUTS
from daguerre.infer.approximate.unconstrained import Unconstrained, unconstrained
from daguerre.infer.approximate.weighting import joint_of, plan_weighting
from daguerre.infer.question import Question
from daguerre.locate import located
from daguerre.program import validation

__all__ = ["answer_by_nuts"]

R_HAT = 1.01
SIZE = 100  # effective draws that each chain should give


class Row(NamedTuple):
    """The chains for one row of evidence.

    Attributes:
        values: Latent variables and targets, `[chains, draws, *event]`.
        data: They and the sampler's statistics, an `arviz.InferenceData`.
        r_hat: Per variable, `[*event]`.
        ess: The same, effective draws in the bulk.
        ess_tail: The same, in the tails.
        divergences: How many steps went astray.
    """

    values: dict[str, Tensor]
    data: Any
    r_hat: dict[str, Tensor]
    ess: dict[str, Tensor]
    ess_tail: dict[str, Tensor]
    divergences: int

    @property
    def is_reliable(self) -> bool:
        """Whether the chains agree, and are long enough."""
        chains = len(next(iter(self.values.values())))
        mixed = all(bool((r < R_HAT).all()) for r in self.r_hat.values())
        sizes = (*self.ess.values(), *self.ess_tail.values())
        return mixed and not self.divergences and all((s > SIZE * chains).all() for s in sizes)


def answer_by_nuts(question: Question, method: NUTS) -> Answer:
    """Answer by Hamiltonian Monte Carlo, each row of evidence by chains of its own.

    The diagnostics are `r_hat`, `ess` and `ess_tail`, by variable `[rows, *event]`, `divergences`
    and `reliable`, `[rows]`, and `arviz`: an `arviz.InferenceData` for each row.

    Raises:
        InadmissibleError: A discrete latent variable, or a known implicit one.
        ModuleNotFoundError: nutpie or ArviZ is not installed.

    References:
        Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), *Rank-normalization, folding, and
        localization*, arXiv 1903.08008: R-hat below 1.01, 100 effective draws a chain.
    """
    nutpie, arviz = _packages()
    numbers = torch.arange(question.evidence.rows).split(1)
    with located(), validation(enabled=False):
        rows = [_row(question.rows(row), method, nutpie, arviz) for row in numbers]
    values = {
        name: torch.stack([row.values[name].flatten(0, 1) for row in rows], 1)
        for name in question.targets
    }  # [draws, rows, *event]
    logs = torch.zeros(method.chains * method.draws, len(rows), dtype=torch.float64)
    logs = logs.log_softmax(0)
    return Answer(
        question.targets,
        marginals_of(question, values, logs),
        None,
        f"NUTS, {method.chains} chains of {method.draws:,} draws",
        exact=False,
        draw=redraw(values, logs),
        diagnostics={
            "r_hat": _stacked([row.r_hat for row in rows]),
            "ess": _stacked([row.ess for row in rows]),
            "ess_tail": _stacked([row.ess_tail for row in rows]),
            "divergences": torch.tensor([row.divergences for row in rows]),
            "reliable": torch.tensor([row.is_reliable for row in rows]),
            "arviz": tuple(row.data for row in rows),
        },
    )


def _packages() -> tuple[ModuleType, ModuleType]:
    """Import nutpie and ArviZ, which announces its next version in a warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import arviz  # pyright: ignore[reportMissingImports] - an extra
            import nutpie  # pyright: ignore[reportMissingImports] - an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"NUTS needs the package {error.name}: pip install 'daguerre[mcmc]'"
        ) from None
    return nutpie, arviz


def _row(question: Question, method: NUTS, nutpie: ModuleType, arviz: ModuleType) -> Row:
    """Run the chains for one row of evidence, and compare them."""
    modules = joint_of(question).modules
    with torch.no_grad(), on_device_of(modules):
        plan = plan_weighting(question)
        target = unconstrained(plan, question.evidence)
    if not target.size:
        raise InadmissibleError("NUTS has nothing to draw: every variable is known")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = _chains(target, modules, method, nutpie)
        free = torch.as_tensor(trace.posterior["free"].values.copy(), dtype=target.dtype)
        with torch.no_grad(), on_device_of(modules):
            found = target.run(free.flatten(0, 1)).values
        kept = {
            name: found[name].unflatten(0, (method.chains, method.draws))
            for name in dict.fromkeys((*plan.latents, *question.targets))
        }
        data = arviz.from_dict(posterior={n: value.cpu().numpy() for n, value in kept.items()})
        data.add_groups(sample_stats=trace.sample_stats)
        return Row(
            kept,
            data,
            _read(arviz.rhat(data)),
            _read(arviz.ess(data, method="bulk")),
            _read(arviz.ess(data, method="tail")),
            int(trace.sample_stats["diverging"].sum()),
        )


def _chains(
    target: Unconstrained,
    modules: tuple[torch.nn.Module, ...],
    method: NUTS,
    nutpie: ModuleType,
) -> Any:
    """Return the draws of the free numbers, an `arviz.InferenceData`."""
    log_density = _log_density(target, modules, compiled=method.compiled)
    model = nutpie.compiled_pyfunc.from_pyfunc(
        target.size,
        lambda: log_density,
        lambda *_: lambda free: {"free": free},
        [np.dtype(np.float64)],
        [(target.size,)],
        ["free"],
    )
    return nutpie.sample(
        model,
        draws=method.draws,
        tune=method.tune,
        chains=method.chains,
        cores=1,  # the interpreter runs one at a time
        seed=int(torch.randint(2**31, ())) if method.seed is None else method.seed,
        progress_bar=False,
        save_warmup=False,
    )


def _log_density(
    target: Unconstrained, modules: tuple[torch.nn.Module, ...], *, compiled: bool
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return what gives log-density and gradient at free numbers, `[size]` each."""

    def density(free: Tensor) -> Tensor:
        return torch.as_tensor(target.run(free).log_weight).sum()

    run = torch.compile(density) if compiled else density

    def log_density(free: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad(), on_device_of(modules):
            at = torch.tensor(free[None], dtype=target.dtype).requires_grad_()
            total = run(at)
            (slope,) = torch.autograd.grad(total, at)
        return float(total), slope[0].double().cpu().numpy()

    return log_density


def _read(dataset: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(name): torch.as_tensor(dataset[name].values) for name in dataset}


def _stacked(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
