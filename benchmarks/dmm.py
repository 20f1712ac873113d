"""Time one training step of a deep Markov model against hand-written PyTorch, Pyro and NumPyro.

    python benchmarks/dmm.py                 # all contestants, as RESULTS.md
    python benchmarks/dmm.py --contestant Daguerre NumPyro --rounds 5

Model, posterior and sizes are those of Pyro's example: a gated transition, a posterior that
follows the state before and a net that reads each piece backwards, pieces of different lengths.
Pyro takes part twice: as its example is written, and with all left out that takes time there.
The output is Markdown. Nothing is printed when the losses show that the work was not the same.
"""

from __future__ import annotations

from argparse import ArgumentParser

from contestants import CHAINS
from problem import PROBLEMS
from race import Plan, run
from report import circumstances, disagreement, race_table

__all__ = ["main"]


def main() -> None:
    """Race, check, print."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--contestant", nargs="+", choices=CHAINS, default=[*CHAINS])
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--lessons", type=int, default=40)
    arguments = parser.parse_args()
    plan = Plan(rounds=arguments.rounds, lessons=arguments.lessons)
    entries = run("dmm", arguments.contestant, plan)
    if (reason := disagreement(entries)) is not None:
        raise SystemExit(reason)
    chain = PROBLEMS["dmm"]
    print(circumstances(["torch", "jax", "numpy"]))
    print(f"* one thread on one core, {plan.rounds} rounds, {plan.lessons} lessons")
    print(f"\nDeep Markov model {chain.title}, batch {chain.batch_size}:\n\n{race_table(entries)}")


if __name__ == "__main__":
    main()
