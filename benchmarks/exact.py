"""Measure exact posteriors of discrete networks beside pyAgrum and pgmpy, in one process.

    DAGUERRE_DATA=folder python benchmarks/exact.py [--threads 2] [--rows 1000]

The folder holds `networks/*.bif.gz` of the bnlearn repository. All contestants get the same
tables (in float64, through their own interface) and the same evidence, drawn from each network;
posteriors must agree to 1e-9. pyAgrum's engine is built once, told its targets and reused; it is
given a row at a time, for it takes no batches, and another one before the same comes again, for
it remembers. A few rows of pgmpy are timed. Daguerre's plan of a set of observed variables is
made at the first call, which is timed apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pyagrum as gum
import torch
from torch import Tensor

import daguerre as dg
from report import circumstances, table

FOLDER = Path(os.environ.get("DAGUERRE_DATA", "")) / "networks"
BATCHES = {"child": 7, "alarm": 11, "insurance": 6, "water": 8}
Rows = dict[str, Tensor]


@cache
def read(name: str) -> dg.Model:
    return dg.read_bif(FOLDER / f"{name}.bif.gz")


def tables(p: dg.Model) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """The parents and the table of each variable."""
    found = {}
    for step in p.steps():
        assert isinstance(step.cpd, dg.Tabular)
        found[step.name] = (step.variable.parents, step.cpd.probs.detach().numpy())
    return found


def as_pyagrum(p: dg.Model) -> gum.BayesNet:
    bn, found = gum.BayesNet(), tables(p)
    for name, (_, entries) in found.items():
        bn.add(gum.LabelizedVariable(name, name, entries.shape[-1]))
    for name, (parents, _) in found.items():
        for parent in parents:
            bn.addArc(parent, name)
    for name, (parents, entries) in found.items():
        axes = [*parents, name]
        order = [axes.index(axis) for axis in reversed(bn.cpt(name).names)]
        bn.cpt(name)[:] = np.ascontiguousarray(entries.transpose(order))
    return bn


def by_pyagrum(engine: gum.LazyPropagation, targets: list[str], row: dict[str, int]) -> list:
    engine.setEvidence(row)
    engine.makeInference()
    return [engine.posterior(name).toarray() for name in targets]


def by_pgmpy(p: dg.Model) -> Callable[[list[str], dict[str, int]], list[np.ndarray]]:
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork

    found = tables(p)
    net = DiscreteBayesianNetwork(list(p.graph.edges))
    net.add_nodes_from(p.graph.names)
    for name, (parents, entries) in found.items():
        sizes = list(entries.shape[:-1])
        flat = entries.reshape(-1, entries.shape[-1]).T
        net.add_cpds(TabularCPD(name, len(flat), flat, list(parents) or None, sizes or None))
    engine = VariableElimination(net)

    def ask(targets: list[str], row: dict[str, int]) -> list[np.ndarray]:
        answer = [engine.query([t], evidence=row, show_progress=False) for t in targets]
        return [a.values for a in answer]

    return ask


def clock(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def row_of(given: Rows, i: int) -> dict[str, int]:
    """One row of evidence, without what it lacks."""
    return {name: int(v[i]) for name, v in given.items() if v[i] >= 0}


def disagreement(ours: dict[str, Tensor], theirs: list, targets: list[str], i: int) -> float:
    pairs = zip(targets, theirs, strict=True)
    return max(float(np.abs(ours[t][i].numpy() - np.asarray(v)).max()) for t, v in pairs)


def batch(name: str, rows: int, lost: float) -> list[str]:
    """All posteriors for many rows of evidence; a share of the entries is missing at random."""
    p, generator = read(name), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    drawn = p.sample(rows)
    chosen = torch.randperm(len(drawn), generator=generator)[: BATCHES[name]].tolist()
    seen = [p.graph.names[i] for i in sorted(chosen)]
    given = {
        k: drawn[k].masked_fill(torch.rand(rows, generator=generator) < lost, -1) for k in seen
    }
    targets = [k for k in p.graph.names if k not in given]
    engine, pgmpy = gum.LazyPropagation(as_pyagrum(p)), by_pgmpy(p)

    def ours() -> dict[str, Tensor]:
        return dg.posterior(p, targets, given=given).probs

    few = min(rows, 200 if name != "water" else 20)
    first, answer = clock(ours), ours()
    times, peer = [], []
    for turn in range(5):
        times.append(clock(ours) / rows)
        part = range(turn * few // 5, (turn + 1) * few // 5)
        peer.append(
            clock(lambda p=part: [by_pyagrum(engine, targets, row_of(given, i)) for i in p])
        )
        peer[-1] /= len(part)
    gap = max(
        disagreement(answer, by_pyagrum(engine, targets, row_of(given, i)), targets, i)
        for i in range(few)
    )
    slow = clock(lambda: [pgmpy(targets, row_of(given, i)) for i in range(2)]) / 2
    assert gap < 1e-9, f"{name}: posteriors differ by {gap}"
    mine, theirs = median(times), median(peer)
    what = f"{name}, {len(seen)} observed" + (f", {lost:.0%} missing" if lost else "")
    numbers = [1e3 * mine, 1e3 * theirs, 1e3 * slow]
    cells = [f"{first:.2f}", *(f"{x:.4g}" for x in numbers), f"{theirs / mine:.0f}"]
    return [what, *cells, f"{gap:.0e}", f"{peak():.0f}"]


def single(record: dict, repeats: int = 9, patience: float = 2.0) -> list[str]:
    """The posteriors of some targets for one row of evidence."""
    p, targets = read(record["network"]), record["query"]
    given = dict(record["evidence"])
    row = {k: labels(p)[k].index(v) for k, v in given.items()}
    engine = gum.LazyPropagation(as_pyagrum(p))
    engine.setTargets(set(targets))

    def ours() -> dict[str, Tensor]:
        return dg.posterior(p, targets, given=given).probs

    first = clock(ours)
    times, peer = [], []
    other = next(name for name in p.graph.names if name not in row)
    while len(times) < repeats and sum(peer) < patience:
        times.append(clock(ours))
        by_pyagrum(engine, targets, {other: 0})  # or it would know the answer from last time
        peer.append(clock(lambda: by_pyagrum(engine, targets, row)))
    gap = disagreement(ours(), by_pyagrum(engine, targets, row), targets, 0)
    assert gap < 1e-9, f"{record['id']}: posteriors differ by {gap}"
    mine, theirs = median(times), median(peer)
    numbers = [f"{1e3 * x:.2f}" for x in (first, mine, theirs)]
    return [record["id"], str(len(p.graph.names)), *numbers, f"{mine / theirs:.2f}"]


def labels(p: dg.Model) -> dict[str, tuple[str, ...]]:
    return {
        s.name: s.cpd.states for s in p.steps() if isinstance(s.cpd, dg.Tabular) and s.cpd.states
    }


def peak() -> float:
    """The most memory that the process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(head: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table, each row when it is there."""
    print(table(head, []))
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def main() -> None:
    """Print a table of batches and one of single rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--only", choices=["batch", "single"])
    args = parser.parse_args()
    if not (FOLDER / "reference.json").is_file():
        parser.error("DAGUERRE_DATA names no folder that holds networks/")
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    print(circumstances(["daguerre", "torch", "pyagrum", "pgmpy"]), end="\n\n")
    if args.only != "single":
        head = ["all posteriors", "first call, s", "ms a row", "pyAgrum", "pgmpy", "x pyAgrum"]
        head += ["differ by", "peak MiB"]
        cases = [(name, lost) for lost in (0.0, 0.3) for name in BATCHES]
        say(head, (batch(name, args.rows, lost) for name, lost in cases))
    if args.only != "batch":
        head = ["one row", "variables", "first call, ms", "ms", "pyAgrum", "ratio"]
        records = json.loads((FOLDER / "reference.json").read_text())["records"]
        say(head, (single(record) for record in records))


if __name__ == "__main__":
    main()
