"""Exact answers for chains: posteriors, evidence and most probable values over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.declare import Input
from daguerre.devices import on_device_of
from daguerre.graph import Graph, GraphError, InadmissibleError
from daguerre.infer.answer import Answer, Most, check_names, check_possible
from daguerre.infer.cases import Cases
from daguerre.infer.chain.determined import determine
from daguerre.infer.chain.evidence import ends, plates_over_time, read_values
from daguerre.infer.chain.finite import FiniteChain
from daguerre.infer.chain.gaussian import GaussianChain
from daguerre.infer.chain.grid import finite_chain, supports
from daguerre.infer.chain.linear import gaussian_chain
from daguerre.infer.chain.reading import Reading, float_of, read
from daguerre.infer.evidence import Given
from daguerre.infer.plan import Part, Plan
from daguerre.infer.plates import Members, members_of
from daguerre.infer.product import Factors
from daguerre.infer.question import MEMORY, OpaqueError, evaluating, inputs_of
from daguerre.joint import Factor, Joint, as_joint
from daguerre.locate import located
from daguerre.program import validation
from daguerre.queries import declared_sizes
from daguerre.structure.names import Names, read_names
from daguerre.structure.recurrence import TIME

__all__ = ["ChainQuestion", "recognise"]

Chain = FiniteChain | GaussianChain

STEPS = 1000  # of a chain that is planned without data


@dataclass(frozen=True, eq=False)
class ChainQuestion:
    """What is asked of a model with lags.

    Attributes:
        joint: The model, or a product of some.
        targets: The variables asked for; none for the evidence alone.
        values: Values `[B, T, *event]` of observed variables and inputs.
        lengths: The number of steps of each sequence, `[B]`; what lies beyond is not looked at.
            None if all are full.
        max_memory: Bytes above which it is refused.
        is_single: Whether one target was named by a string.
        asked: The targets as they were named, where they are in plates.
        members: How it is a chain without plates; None if it was one.
        cases: The states of what is unknown and holds for all time, each of which is a chain for
            each sequence; None where there is nothing.
    """

    joint: Joint
    targets: tuple[str, ...]
    values: Mapping[str, Tensor]
    lengths: Tensor | None = None
    max_memory: float = MEMORY
    is_single: bool = False
    asked: tuple[str, ...] = ()
    members: Members | None = None
    cases: Cases | None = None

    @classmethod
    def of(
        cls,
        p: Factor | Joint | Factors,
        targets: Names,
        given: Given | Names | None,
        soft: Mapping[str, Tensor] | None = None,
        max_memory: float | None = None,
    ) -> ChainQuestion | None:
        """Read a question to a model with lags; None if it has none.

        Args:
            p: What is asked.
            targets: A hidden variable, or several.
            given: Evidence, see `read_values`; or names alone, whose values are then drawn.
            soft: Refused.
            max_memory: Bytes above which it is refused, 4 GiB if None.

        Raises:
            GraphError: Unknown names or states, values of the wrong shape.
            InadmissibleError: Soft evidence.
        """
        joint = None if isinstance(p, Factors) else as_joint(p)
        if joint is None or not any(variable.lags for variable in joint.graph.variables):
            return None
        _check_chain(joint.graph)
        if soft:
            raise InadmissibleError(
                f"soft evidence on {', '.join(soft)}: chains take none; observe a child of it"
                " whose CPD gives these likelihoods"
            )
        names = read_names(joint.graph, targets, "targets")
        if both := [name for name in names if name in (given or {})]:
            raise GraphError(f"{', '.join(both)} is a target and given; ask for what is unknown")
        given = given or {}
        if isinstance(given, Mapping):
            values = read_values(joint, given)
        else:
            values = _drawn(joint, read_names(joint.graph, given, "given"))
        limit, is_single = MEMORY if max_memory is None else max_memory, isinstance(targets, str)
        chain = cls(joint, names, values, max_memory=limit, is_single=is_single)
        has_data = isinstance(given, Mapping)
        if (members := members_of(joint, names, values, has_data=has_data)) is None:
            return chain
        cases, entered = members.cases(), members.enter(values)
        if cases is not None:
            entered = cases.enter(entered, members.fold.sizes[TIME])
        return replace(
            chain,
            joint=members.joint,
            targets=members.names(names),
            values=entered,
            asked=names,
            members=members,
            cases=cases,
        )

    @property
    def rows(self) -> int:
        """The number of data sets: sequences, or, with plates, rows of them."""
        values = self.values if self.members is None else self.members.values
        return len(next(iter(values.values())))

    def posterior(self) -> Answer:
        """Return the exact posterior of the targets at each step.

        Raises:
            InadmissibleError: The chain is neither finite nor linear Gaussian.
            GraphError: No target, or evidence of probability zero.
        """
        if not self.targets:
            raise GraphError("targets is empty: name at least one variable")
        chain, targets = self._chain(), self.over_time
        for name in targets:
            if name not in chain.targets:
                raise InadmissibleError(
                    f"{name} is no hidden variable of the chain, nor a function of those of its"
                    f" slice; ask for {', '.join(chain.targets)}"
                )
        found = chain.solve(targets)
        check_possible(self._over_cases(found.log_evidence), unit="sequence")
        answer = Answer(
            targets,
            found.marginals,
            found.log_evidence,
            method=str(chain.plan),
            exact=True,
            draw=found.draw,
            density=lambda values: self._density(values, found.log_evidence),
            is_single=self.is_single,
        )
        return self.whole(answer)

    @property
    def over_time(self) -> tuple[str, ...]:
        """The targets that have time slices."""
        return self.targets if self.cases is None else self.cases.over_time(self.targets)

    def whole(self, answer: Answer) -> Answer:
        """Return an answer on rows as one on members of plates, where there are any."""
        if self.cases is not None:
            answer = self.cases.answer(answer, self.targets)
        return answer if self.members is None else self.members.answer(answer, self.asked)

    def total(self, log_evidence: Tensor) -> Tensor:
        """Return the log-evidence of rows as that of data sets, where there are plates."""
        log_evidence = self._over_cases(log_evidence)
        return log_evidence if self.members is None else self.members.total(log_evidence)

    def whole_plan(self, plan: Plan) -> Plan:
        """Return the plan for rows as that for members of plates, where there are any."""
        plan = plan if self.cases is None else self.cases.plan(plan)
        return plan if self.members is None else self.members.plan(plan, self.asked)

    def _over_cases(self, log_evidence: Tensor) -> Tensor:
        return log_evidence if self.cases is None else self.cases.total(log_evidence)

    def log_evidence(self, lengths: Tensor | None = None) -> Tensor:
        """Return the log-probability or -density of the observed in nats, `[B]`, with gradients.

        Steps beyond the last observed one sum to one, so that they are left out.

        Args:
            lengths: The number of steps of each row, `[B]`, where what is given goes on beyond.

        Raises:
            InadmissibleError: The chain is neither finite nor linear Gaussian.
        """
        if lengths is not None and self.members is not None:
            cases = 1 if self.cases is None else self.cases.count
            lengths = lengths.repeat_interleave(self.members.fold.count * cases)
        return self.total(self._log_evidence(lengths))

    def _log_evidence(self, lengths: Tensor | None = None) -> Tensor:
        """Return that of each sequence."""
        given = [v for name, v in self.values.items() if name not in self.joint.graph.inputs]
        lengths = ends(given) if lengths is None else lengths
        return replace(self, lengths=lengths)._chain().log_evidence()

    def most_probable(self) -> Most:
        """Return the most probable values of all hidden variables together.

        For a finite chain that is the Viterbi path, for a Gaussian one the smoothed means.

        Raises:
            InadmissibleError: The chain is neither finite nor linear Gaussian; targets leave some
                of the hidden variables out.
        """
        chain = self._chain()
        values = dict(chain.most_probable())
        hidden = {*values, *(self.cases.states if self.cases is not None else ())}
        if left := hidden - {*self.targets} if self.targets else None:
            raise InadmissibleError(
                f"{', '.join(sorted(left))} would be summed out before others are maximised, which"
                " chains do not do; ask for all hidden variables, without targets"
            )
        graph = self.joint.graph
        prescribed = {n: v for n, v in values.items() if graph[n].map == "stochastic"}
        log_prob = replace(self, targets=(), values={**self.values, **prescribed})._log_evidence()
        check_possible(self._over_cases(log_prob), unit="sequence")
        most = Most(values, log_prob)
        most = most if self.cases is None else self.cases.most(most)
        return most if self.members is None else self.members.most(most)

    def explain(self) -> Plan:
        """Say how it would be answered.

        Raises:
            InadmissibleError: The chain is neither finite nor linear Gaussian, or it would take
                too much memory.
        """
        known, reading = tuple(self.values), self._read()
        pruned = tuple(
            n for n in self.joint.graph.names if n not in {*reading.steps, *self.values}
        )
        chain = self._chain()
        (work, memory), rows = chain.cost, reading.size[0]
        part = Part(str(chain.plan), reading.hidden, chain.words)
        plan = Plan(
            self.targets,
            known,
            pruned,
            (part,),
            is_exact=True,
            work=work / rows,
            memory=memory / rows,
        )
        return self.whole_plan(plan)

    def _read(self) -> Reading:
        return determine(read(self.joint, self.targets, self.values, self.lengths))

    def _chain(self) -> Chain:
        with located(), validation(enabled=False), on_device_of(self.joint.modules):
            reading = self._read()
            try:
                chain = recognise(reading, self.lengths)
            except InadmissibleError as error:
                raise OpaqueError(str(error)) from error
        if (needed := chain.cost[1]) > self.max_memory:
            raise InadmissibleError(
                f"an exact answer would take about {needed:.3g} bytes, more than max_memory"
                f" ({self.max_memory:.3g}); ask for fewer or shorter sequences, or allow it"
            )
        return chain

    def _density(self, values: Mapping[str, Tensor], log_total: Tensor) -> Tensor:
        check_names(values, self.over_time)
        both = replace(self, targets=(), values={**self.values, **values})
        with evaluating(self.joint):
            return both._log_evidence() - log_total


def _check_chain(graph: Graph) -> None:
    """Refuse what is no chain from the first slice on.

    Raises:
        InadmissibleError: A lag that looks ahead.
    """
    for v in graph.variables:
        if ahead := [lag for lag in v.lags if lag.steps < 0]:
            raise InadmissibleError(
                f"{v.name} depends on {ahead[0].variable} at t + {-ahead[0].steps}: questions are"
                " answered for chains that go forwards; write the steps out with p.unroll(steps)"
            )


def recognise(reading: Reading, lengths: Tensor | None = None) -> Chain:
    """Find the chain that a joint with lags is, given what is observed.

    Args:
        reading: The joint with its observations.
        lengths: The number of steps of each sequence, `[B]`.

    Returns:
        A hidden Markov model where all hidden variables are finite (several make a product), a
        linear state space where all are Gaussian and affine in one another.

    Raises:
        InadmissibleError: It is neither; the message says what would make it exact.
        GraphError: Values of the wrong shape.
    """
    finite, other = supports(reading)
    if not other and (finite or not reading.hidden):
        return finite_chain(reading, finite, lengths)
    if finite:
        lost = [name for name in other if name in reading.pinned]
        why = f"; {', '.join(lost)} is hidden where it is missing (NaN)" if lost else ""
        raise InadmissibleError(
            f"the hidden {', '.join(finite)} are finite and {', '.join(other)} are not{why}: a"
            " chain that switches has no exact posterior; observe one kind, or ask for draws by"
            " SMC"
        )
    return gaussian_chain(reading, lengths)


def _drawn(joint: Joint, names: Sequence[str]) -> dict[str, Tensor]:
    """Draw one slice of some variables, and repeat it over time; inputs are zero."""
    like = float_of(joint, {})

    def unknown(declared: Input) -> Tensor:
        dtype = like.dtype if declared.dtype.is_floating_point else declared.dtype
        return torch.zeros(1, STEPS, *(declared.shape or ()), dtype=dtype)

    data = {name: unknown(declared) for name, declared in inputs_of(joint).items()}
    steps = {s.name: s for f in joint.factors for s in f.steps() if s.cpd is not None}
    reading = Reading(steps, data, {}, (1, STEPS), like)
    plates, of = plates_over_time(joint), declared_sizes(joint.graph)
    known: dict[str, Tensor] = {}
    quiet = torch.random.fork_rng(devices=[])
    with located(), quiet, torch.no_grad(), validation(enabled=False):
        for name in (n for n in joint.graph.order if n in steps):
            found = reading.example(name, known)
            known[name] = found.sample() if isinstance(found, Distribution) else found  # type: ignore[assignment]

    def whole(name: str, one: Tensor) -> Tensor:
        """Repeat a value `[1, *event]` for members and steps."""
        own = plates.get(name, (TIME,))
        sizes = [STEPS if plate == TIME else of.get(plate, 2) for plate in own]
        event = one.shape[1:]
        return one.reshape(1, *[1] * len(own), *event).expand(1, *sizes, *event)

    drawn = {n: whole(n, known[n]) for n in names if n in known}
    return drawn | {n: whole(n, value[:, 0]) for n, value in data.items()}
