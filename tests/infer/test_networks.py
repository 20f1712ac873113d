"""Random networks, asked through `posterior`, against enumeration of the joint."""

import itertools
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import daguerre as dg
from daguerre.infer import log_evidence, most_probable, posterior
from daguerre.model import Model

F64 = torch.float64
PRIMES = (2, 3, 5, 2, 3, 2)
seeds = st.integers(0, 10**6)


def random_network(seed: int) -> Model:
    """Up to six finite variables: tables, some with zeros, and functions of their parents."""
    generator = torch.Generator().manual_seed(seed)
    chance = lambda: torch.rand((), generator=generator).item()  # noqa: E731
    n = 2 + int(5 * chance())
    cpds: dict[str, Any] = {}
    for v in range(n):
        parents = [f"v{u}" for u in range(v) if chance() < 0.5][-3:]
        if parents and chance() < 0.3:
            weights = torch.randint(0, 5, (len(parents),), generator=generator)
            cpds[f"v{v}"] = dg.deterministic(function_of(parents, weights, PRIMES[v]))
            continue
        shape = [*(PRIMES[int(p[1:])] for p in parents), PRIMES[v]]
        table = torch.rand(shape, generator=generator, dtype=F64)
        table = table * (torch.rand(shape, generator=generator) > 0.3) + 1e-3 * (chance() < 0.5)
        table[..., 0] += 1e-6
        cpds[f"v{v}"] = dg.Tabular(table / table.sum(-1, keepdim=True), *parents)
    return dg.model(**cpds)


def function_of(parents: list[str], weights: Tensor, states: int):
    """A function whose parameters have the parents' names."""
    total = " + ".join(f"{w} * {p}" for w, p in zip(weights.tolist(), parents, strict=True))
    return eval(f"lambda {', '.join(parents)}: ({total}) % {states}")


def joint(p: Model) -> tuple[dict[str, Tensor], Tensor]:
    """All states of all variables, and their probabilities."""
    sizes = [PRIMES[int(name[1:])] for name in p.graph.names]
    grid = torch.tensor(list(itertools.product(*map(range, sizes))))
    values = {name: grid[:, i] for i, name in enumerate(p.graph.names)}
    probs = torch.ones(len(grid), dtype=F64)
    for step in p.steps():
        assert step.cpd is not None
        above = [values[q] for q in step.variable.parents]
        if isinstance(step.cpd, dg.Tabular):
            probs *= step.cpd.probs.detach()[(*above, values[step.name])]
        else:
            probs *= step.cpd(*above) == values[step.name]
    return values, probs


@settings(max_examples=60, deadline=None)
@given(seeds, st.data())
def test_every_posterior_of_a_random_network_is_that_of_enumeration(seed, data):
    p = random_network(seed)
    values, probs = joint(p)
    torch.manual_seed(seed)
    drawn = p.sample(4)
    names = list(p.graph.names)
    seen = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
    lost = {name: torch.rand(4) < 0.3 for name in seen}
    evidence = {name: drawn[name].masked_fill(lost[name], -1) for name in seen}
    targets = [name for name in names if name not in seen]
    found = posterior(p, targets, given=evidence)
    best = most_probable(p, given=evidence)
    for row in range(4 if seen else 1):
        fits = torch.ones(len(probs), dtype=torch.bool)
        for name in seen:
            if not lost[name][row]:
                fits &= values[name] == drawn[name][row]
        here = probs * fits
        torch.testing.assert_close(found.log_evidence[row], here.sum().log(), rtol=0, atol=1e-10)
        for name in targets:
            states = found[name].states
            expected = torch.stack([here[values[name] == s].sum() for s in states]) / here.sum()
            torch.testing.assert_close(
                found[name].probs[row].to(F64), expected, rtol=0, atol=1e-10
            )
        if not any(lost[name][row] for name in seen):
            top = here.max().log()
            torch.testing.assert_close(best.log_prob[row].to(F64), top, rtol=0, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_joint_densities_are_those_of_enumeration(seed):
    p = random_network(seed)
    values, probs = joint(p)
    names = p.graph.names
    evidence = {names[-1]: values[names[-1]][probs > 0][:1]}
    targets = names[:-1]
    found = posterior(p, targets, given=evidence)
    fits = values[names[-1]] == evidence[names[-1]]
    at = int((probs * fits).argmax())
    state = {name: values[name][at : at + 1] for name in targets}
    expected = (probs[at] / probs[fits].sum()).log()
    torch.testing.assert_close(found.log_prob(state)[0].to(F64), expected, rtol=0, atol=1e-10)
    whole = log_evidence(p, {**state, **evidence})
    torch.testing.assert_close(whole[0].to(F64), probs[at].log(), rtol=0, atol=1e-10)
