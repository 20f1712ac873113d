"""Time one training step of a VAE against hand-written PyTorch, Pyro, NumPyro and Pixyz.

    python benchmarks/vae_step.py            # both sizes, all contestants, as RESULTS.md
    python benchmarks/vae_step.py --problem small --rounds 5

The output is Markdown. Nothing is printed when the losses show that the work was not the same.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from contestants import CONTESTANTS
from problem import PROBLEMS
from race import Plan, run
from report import circumstances, disagreement, race_table

__all__ = ["main"]

VAES = ("small", "large")


def main() -> None:
    """Race, check, print."""
    arguments = _arguments()
    plan = Plan(rounds=arguments.rounds)
    races = {p: run(p, arguments.contestant, plan) for p in arguments.problem}
    for problem, entries in races.items():
        if (reason := disagreement(entries)) is not None:
            raise SystemExit(f"{problem}: {reason}")
    print(circumstances(["torch", "jax", "numpy"]))
    print(f"* one thread on one core, {plan.rounds} rounds")
    for problem, entries in races.items():
        sizes = PROBLEMS[problem]
        print(f"\nVAE {sizes.title}, batch {sizes.batch_size}:\n\n{race_table(entries)}")


def _arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--problem", nargs="+", choices=VAES, default=[*VAES])
    parser.add_argument("--contestant", nargs="+", choices=CONTESTANTS, default=[*CONTESTANTS])
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    return parser.parse_args()


if __name__ == "__main__":
    main()
