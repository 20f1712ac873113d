"""What an inference model claims, held against what the model's posterior needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from daguerre.graph import Graph, HasGraph, did_you_mean, graph_of
from daguerre.structure.eliminate import eliminate
from daguerre.structure.inverse import with_random_inputs
from daguerre.structure.names import check_static
from daguerre.structure.separation import independent
from daguerre.structure.trail import active_trail

__all__ = ["Finding", "Lint", "lint"]


@dataclass(frozen=True)
class Finding:
    """One remark: the variable of q that it is about, the other one, and the sentence."""

    variable: str
    other: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Lint:
    """All remarks about an inference model; true if there are any.

    Attributes:
        ignored: Dependences of the posterior that q ignores.
        superfluous: Parents in q that make no difference.
        names: Variables that only one of the two has.
    """

    ignored: tuple[Finding, ...]
    superfluous: tuple[Finding, ...]
    names: tuple[Finding, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All remarks: names first, then what is ignored, then what is superfluous."""
        return (*self.names, *self.ignored, *self.superfluous)

    def __bool__(self) -> bool:
        return bool(self.findings)

    def __str__(self) -> str:
        if not self.findings:
            return "q takes what the posterior of p needs, and nothing else."
        return "\n".join(map(str, self.findings))


def lint(p: Graph | HasGraph, q: Graph | HasGraph) -> Lint:
    """Say which real dependence q ignores, and which of its parents are superfluous.

    Deterministic variables of q are substituted first. For each latent, in the order of q, what
    was there before it (observed variables and earlier latents) is asked of p: dependent, given
    what q lets it take? An ignored dependence is no error, but then q cannot be the posterior,
    and the bound is not tight, whatever its nets can learn.

    Args:
        p: The model.
        q: The inference model; its inputs are what is observed.

    Raises:
        InadmissibleError: A variable that depends on an earlier time slice.

    Example:
        >>> p = Graph.from_edges([("z1", "x"), ("z2", "x")])
        >>> q = Graph.from_edges([("x", "z1"), ("x", "z2")], inputs=["x"])
        >>> print(lint(p, q))
        q ignores that z1 and z2 depend on each other given x in p (z1 -> x <- z2): it draws z2 \
without z1, so its bound cannot be tight. Give q's z2 the parent z1.
    """
    model, inference = check_static(graph_of(p)), check_static(graph_of(q))
    maps = [v.name for v in inference.variables if v.map == "deterministic"]
    inference = eliminate(inference, [n for n in maps if n not in model])
    ignored: list[Finding] = []
    superfluous: list[Finding] = []
    before = [n for n in model.names if n in (*inference.inputs, *model.inputs)]
    asked = with_random_inputs(model)  # inputs of p are there for q to take, or to ignore
    for name in (n for n in inference.order if n in model and n not in inference.inputs):
        parents = [n for n in inference.parents(name) if n in model]
        ignored += _ignored(asked, name, parents, before)
        superfluous += _superfluous(asked, name, parents)
        before.append(name)
    return Lint(tuple(ignored), tuple(superfluous), tuple(_names(model, inference)))


def _ignored(model: Graph, name: str, parents: list[str], before: list[str]) -> Iterator[Finding]:
    """Yield what the variable depends on beside its parents, each remark given those before."""
    taken = list(parents)
    for other in (n for n in before if n not in parents):
        trail = active_trail(model, other, name, given=taken)
        if trail is None:
            continue
        given = f" given {', '.join(taken)}" if taken else ""
        yield Finding(
            name,
            other,
            f"q ignores that {other} and {name} depend on each other{given} in p ({trail}): it"
            f" draws {name} without {other}, so its bound cannot be tight. Give q's {name} the"
            f" parent {other}.",
        )
        taken.append(other)


def _superfluous(model: Graph, name: str, parents: list[str]) -> Iterator[Finding]:
    taken = list(parents)
    for other in parents:
        rest = [n for n in taken if n != other]
        if not independent(model, name, other, given=rest):
            continue
        given = f" given {', '.join(rest)}" if rest else ""
        yield Finding(
            name,
            other,
            f"q's {name} takes {other} for nothing: in p the two are independent{given}. Leave"
            f" {other} out.",
        )
        taken = rest


def _names(model: Graph, inference: Graph) -> Iterator[Finding]:
    """Yield latents of p that q lacks, and variables of q that p lacks."""
    for v in model.variables:
        if v.map == "stochastic" and v.name not in inference:
            observed = not model.children(v.name)
            if not observed:
                yield Finding(v.name, v.name, f"q lacks {v.name}, a latent variable of p.")
    for name in inference.names:
        if name not in model:
            hint = did_you_mean(name, model.names)
            yield Finding(name, name, f"q has {name}, which p has not{hint}.")
