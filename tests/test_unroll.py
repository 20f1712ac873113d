"""Models of chains written out: the same numbers as the chains."""

import pytest
import torch
from torch.distributions import Categorical, ExpTransform, MixtureSameFamily, Normal
from torch.nn.functional import one_hot

import daguerre as dg
from daguerre.infer import posterior


def walk():
    return dg.model(
        z=lambda before=dg.lag("z", init=Normal(torch.zeros(2), 1.0)): Normal(0.9 * before, 0.5),
        x=lambda z: Normal(z.sum(1), 1.0),
    )


def from_a_value():
    return dg.model(z=lambda before=dg.lag("z", init=torch.ones(2)): Normal(0.9 * before, 0.5))


def recurrent():
    torch.manual_seed(0)
    return dg.model(
        h=dg.deterministic(
            lambda cell, before=dg.lag("h", init=torch.zeros(3)), y=dg.lag("y", init=0): cell(
                one_hot(y.long(), 2).float(), before
            ),
            cell=torch.nn.GRUCell(2, 3),
        ),
        y=dg.rv(lambda h, out: Categorical(logits=out(h)), out=torch.nn.Linear(3, 2)),
    )


def second_order():
    one, two = dg.lag("z", 1, init=Normal(0.0, 1.0)), dg.lag("z", 2, init=Normal(5.0, 1.0))
    return dg.model(z=lambda a=one, b=two: Normal(a + 0.1 * b, 1.0))


def second_order_from_values():
    one, two = dg.lag("z", 1, init=0.5), dg.lag("z", 2, init=2.0)
    return dg.model(z=lambda a=one, b=two: Normal(a + 0.1 * b, 1.0))


def backward():
    torch.manual_seed(0)
    return dg.model(
        b=dg.deterministic(
            lambda e, cell, after=dg.lag("b", -1, init=torch.zeros(3)): cell(e, after),
            cell=torch.nn.GRUCell(2, 3),
        ),
        e=lambda s, after=dg.lag("e", -1, init=Normal(torch.ones(2), 1.0)): Normal(
            after + s[:, None], 1.0
        ),
        s=Normal(0.0, 1.0),
        z=dg.rv(
            lambda b, net, before=dg.lag("z", init=torch.zeros(2)): Normal(
                net(torch.cat([b, before], 1)), 1.0
            ),
            net=torch.nn.Linear(5, 2),
        ),
    )


def still():
    return dg.model(
        s=Normal(0.0, 1.0),
        z=lambda s, before=dg.lag("z", init=Normal(0.0, 1.0)): Normal(before + s, 1.0),
    )


def stretched():
    return dg.model(
        z=lambda before=dg.lag("z", init=Normal(0.0, 1.0)): Normal(before, 1.0),
        x=dg.bijection("z", ExpTransform()),
    )


def mixture():
    def two(before=dg.lag("z", init=1.0)):
        weights = Categorical(torch.ones(len(before), 2))
        return MixtureSameFamily(weights, Normal(torch.stack([before, -before], 1), 1.0))

    return dg.model(z=two)


class Learned(dg.Model):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Parameter(torch.tensor(2.0))

    @dg.rv
    def z(self, before=dg.lag("z", init=lambda self: self.first)):
        return Normal(before, 1.0)


CHAINS = [walk, from_a_value, recurrent, second_order, second_order_from_values, backward, still]
CHAINS += [stretched, Learned]


@pytest.mark.parametrize("build", CHAINS)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_chain_and_slices_score_alike(build, steps):
    p = build()
    flat = p.unroll(steps)
    drawn = p.sample(3, t=steps)
    torch.testing.assert_close(flat.log_prob(flat.apart(drawn)), p.log_prob(drawn))
    torch.manual_seed(1)
    own = flat.sample(3)
    assert set(own) == set(flat.graph.names)
    joined = flat.together(own)
    assert {n: v.shape for n, v in joined.items()} == {n: v.shape for n, v in drawn.items()}
    torch.testing.assert_close(p.log_prob(joined), flat.log_prob(own))


@pytest.mark.parametrize("build", [from_a_value, recurrent, second_order, Learned])
def test_the_same_seed_draws_the_same(build):
    p = build()
    flat = p.unroll(5)
    torch.manual_seed(3)
    want = p.sample(4, t=5)
    torch.manual_seed(3)
    found = flat.together(flat.sample(4))
    for name, value in want.items():
        torch.testing.assert_close(found[name], value)


def test_parameters_are_those_of_the_chain():
    p = Learned()
    flat = p.unroll(3)
    assert {*flat.parameters()} == {*p.parameters()}
    flat.log_prob({f"z[{t}]": torch.zeros(2) for t in range(3)}).sum().backward()
    assert p.first.grad == pytest.approx(-4.0)  # twice d/dm of -(0 - m)^2 / 2 at m = 2


def test_graphs_that_differ_in_the_order_of_parents_alone_are_told_apart():
    start = dg.lag("z", init=Normal(0.0, 1.0))
    one = dg.model(
        s=Normal(0.0, 1.0), z=lambda b=start: Normal(b, 1.0), x=lambda s, z: Normal(s - z, 1.0)
    )
    two = dg.model(
        s=Normal(0.0, 1.0), z=lambda b=start: Normal(b, 1.0), x=lambda z, s: Normal(s - z, 1.0)
    )
    assert one.graph == two.graph
    drawn = one.sample(3, t=2)
    for p in (one, two):
        flat = p.unroll(2)
        torch.testing.assert_close(flat.log_prob(flat.apart(drawn)), p.log_prob(drawn))


def test_its_picture_runs_from_left_to_right():
    (panel,) = dg.draw(walk().unroll(3)).sheet.panels
    level = [(a.source, a.target) for a in panel.figure.arrows if a.level]
    assert level == [("z[0]", "z[1]"), ("z[1]", "z[2]")]


def test_inputs_come_per_slice():
    p = dg.model(u=dg.Input(2), z=lambda u, b=dg.lag("z", init=0.0): Normal(b + u.sum(1), 1.0))
    u = torch.randn(3, 4, 2)
    flat = p.unroll(4)
    assert list(flat.inputs()) == ["u[0]", "u[1]", "u[2]", "u[3]"]
    drawn = p.sample(given={"u": u})
    torch.testing.assert_close(flat.log_prob(flat.apart(drawn)), p.log_prob(drawn))


def test_a_chain_in_a_plate_is_answered_by_its_slices():
    """Each member as a chain of its own gives the same."""
    start, band = Normal(0.0, 1.0), dg.Plate("band", 2)
    cpds = {
        "z": lambda last=dg.lag("z", init=start): Normal(0.9 * last, 1.0),
        "x": lambda z: Normal(z, 0.5),
    }
    p = dg.model(**{name: band(dg.rv(cpd)) for name, cpd in cpds.items()})
    x = torch.randn(3, 2, 4)
    flat = p.unroll(4)
    found = posterior(flat, "z[1]", given=flat.apart({"x": x})).mean
    want = posterior(dg.model(**cpds), "z", given={"x": x.flatten(0, 1)}).mean[:, 1]
    torch.testing.assert_close(found, want.unflatten(0, (3, 2)))
    torch.testing.assert_close(posterior(p, "z", given={"x": x}).mean[:, :, 1], found)


def test_a_hidden_markov_model_is_answered_exactly_by_its_slices():
    moves, shows = torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.tensor([[0.8, 0.2], [0.1, 0.9]])
    first = torch.tensor([0.6, 0.4])
    p = dg.model(
        z=lambda b=dg.lag("z", init=Categorical(first)): Categorical(moves[b.long()]),
        x=lambda z: Categorical(shows[z.long()]),
    )
    x = [1, 0, 1, 1]
    given = {f"x[{t}]": torch.tensor([v]) for t, v in enumerate(x)}
    answer = posterior(p.unroll(4), "z[2]", given=given)
    forward = first * shows[:, x[0]]
    paths = [forward]
    for v in x[1:]:
        forward = (forward @ moves) * shows[:, v]
        paths.append(forward)
    backward = moves @ shows[:, x[3]]
    want = paths[2] * backward
    torch.testing.assert_close(answer.log_evidence.float(), forward.sum().log().reshape(1))
    torch.testing.assert_close(answer["z[2]"].probs[0].float(), want / want.sum())


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda: walk().unroll(0), "1 time slice or more, not 0"),
        (lambda: dg.model(z=Normal(0.0, 1.0)).unroll(2), "there is no chain"),
        (lambda: walk().unroll(3).apart({"z": torch.zeros(1, 2, 2)}), r"has 3 time slices in"),
        (
            lambda: walk().unroll(3).together({"z[1]": torch.zeros(1)}),
            r"lacks .*: z\[0\], z\[2\]",
        ),
        (
            lambda: mixture().unroll(2).sample(2),
            "give init a Distribution, the law of z then",
        ),
    ],
)
def test_bad_input_is_one_clear_error(ask, text):
    with pytest.raises(dg.GraphError, match=text):
        ask()
