"""Two processes that share out weights play as they do without, penalties and all."""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from layers_to_split import LAYERS
from test_processes import both, equal
from test_shards import ALONE, SHORT, TOGETHER, found, keep, steep
from together import APART, Decoder, deserted, exact, meet, played, refused, vae
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.graph import saved_tensors_hooks

import daguerre as dg
from daguerre.peers import Peers
from daguerre.train.shards import Shards
from daguerre.train.split import Split, share_of, whole_of
from daguerre.train.weights import Sharding, Weights

ALL = Sharding(weights=True, least=1)
SOME = Sharding(weights=True, least=8)
ALIKE = {name: ALONE[name] for name in ("turn", "batch norm", "labels for some", "frozen")}
GAMES = {**TOGETHER, "iwae": (APART["iwae"], {})}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("split")
    played(vae, steps=5, out=found / "one, two", **SHORT)
    assert both(work, found) == [0, 3]
    return found


def work(rank: int, folder: Path) -> None:
    """Be one of two processes."""
    meet(rank, folder)
    for name, (make, options) in ALIKE.items():
        keep(played(make, shard=ALL, **options), folder, name)
    for name, (make, options) in GAMES.items():
        keep(played(make, **options), folder, f"{name}, whole")
        keep(played(make, shard=SOME, **options), folder, name)
    for name in LAYERS:
        keep(slopes(name, Peers.of_group()), folder, f"layer {name}")
    for scene in SCENES:
        keep(scene(folder), folder, scene.__name__)
    keep(deserted(folder, shard=ALL), folder, "deserted")


@pytest.mark.parametrize("name", ALIKE)
def test_split_weights_play_as_one_process(name, folder):
    make, options = ALIKE[name]
    assert equal(played(make, **options), found(folder, name))


@pytest.mark.parametrize("name", GAMES)
def test_split_weights_play_as_whole_ones(name, folder):
    assert equal(found(folder, f"{name}, whole"), found(folder, name))


# Layers


def slopes(name: str, peers: Peers) -> dict[str, Tensor]:
    """Return the loss of rows and its gradient, of whole layers and of split ones."""
    with exact():
        net, x = LAYERS[name](), torch.randn(6, 4)
        state = {key: value.clone() for key, value in net.state_dict().items()}
        learned = {key: p for key, p in net.named_parameters() if p.requires_grad}
        found = gradient(net, x, learned)
        net.load_state_dict(state)
        weights = Weights([net], peers, ALL)
        splits = {key: weights.splits[p] for key, p in learned.items()}
        with weights.apart(()):
            own = gradient(net, peers.share(x), {key: s.share for key, s in splits.items()})
        found["split loss"] = peers.mean(own.pop("loss"))
        for key, share in own.items():
            found[f"split {key}"] = whole_of(share, splits[key].shape, peers) / peers.world
    return found


def gradient(net: nn.Module, x: Tensor, by: Mapping[str, Tensor]) -> dict[str, Tensor]:
    loss = net(x).square().mean()
    found = torch.autograd.grad(loss, [*by.values()], materialize_grads=True)
    return {"loss": loss.detach(), **dict(zip(by, found, strict=True))}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_with_the_whole_and_learn_their_shares(name, folder):
    every = found(folder, f"layer {name}")
    split = {k.removeprefix("split "): v for k, v in every.items() if k.startswith("split ")}
    assert equal({k: v for k, v in every.items() if not k.startswith("split ")}, split)


# Scenes


def uninterrupted(folder: Path) -> dict[str, Tensor]:
    return played(APART["elbo"], steps=9, shard=SOME, **SHORT)


def resumed(folder: Path) -> dict[str, Tensor]:
    plan = dg.train.Checkpoints(folder / "two, two", every=5)
    played(APART["elbo"], steps=5, out=plan, shard=SOME, **SHORT)
    return played(APART["elbo"], steps=9, out=plan, resume=True, shard=SOME, **SHORT)


def left(folder: Path) -> dict[str, Tensor]:
    """Leave a part to one process."""
    return played(vae, steps=5, out=folder / "two, one", shard=ALL, **SHORT)


def joined(folder: Path) -> dict[str, Tensor]:
    """Go on with what one process began."""
    return played(vae, steps=9, out=folder / "one, two", resume=True, shard=ALL, **SHORT)


def watched(folder: Path, shard: Sharding | None = ALL) -> dict[str, Tensor]:
    """Validate together, stop early, and let process 0 alone look, sample and save."""
    with exact():
        objective, given = vae()
    p = next(m for m in objective.players[0].modules if isinstance(m, Decoder))
    before = [*p.parameters()]

    def look(now: dg.train.Moment) -> dict[str, float]:
        if not now.is_main:
            return {}
        raw = norm(p)
        with now.evaluation(), torch.no_grad():
            return {"raw": raw, "average": norm(p), "drawn": p.log_prob(p.sample(3)).sum().item()}

    best = folder / f"best {shard is None}.safetensors"
    looks = [
        dg.train.every(2, dg.train.validation({"x": given["x"][:10]}, batch_size=4)),
        dg.train.keep_best("validation model", best, p),
        dg.train.every(3, look),
        dg.train.early_stop("validation model", patience=2, maximize=True),
    ]
    turn = dg.train.Turn(dg.Adam(lr=0.02), average=0.9)
    options = {"steps": 20, "optimizer": turn, "shard": shard or False}
    found = played(lambda: (objective, given), callbacks=looks, **options)
    assert all(one is other for one, other in zip(before, p.parameters(), strict=True))
    return found | dg.load(best).tensors["model"]


def norm(module: nn.Module) -> float:
    return sum(p.square().sum().item() for p in module.parameters())


def unlike(folder: Path) -> dict[str, Tensor]:
    return refused(vae, shard=SOME if dist.get_rank() else ALL)


def broken(folder: Path) -> dict[str, Tensor]:
    return refused(steep, shard=ALL)


def lost(folder: Path) -> dict[str, Tensor]:
    """Meet an error while weights are apart, and another while they are together."""
    net = nn.Linear(2, 2)
    weights, found = Weights([net], Peers.of_group(), ALL), {}
    for name, inner in (("together", lambda: weights.together(())), ("apart", nullcontext)):
        with pytest.raises(KeyError), weights.apart(()), inner():
            raise KeyError
        found[name] = net.weight.detach().isnan()
    return found


def held(folder: Path) -> dict[str, Tensor]:
    """Count what a process has of two layers, and what a loss keeps of them."""
    net = nn.Sequential(nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 50))
    weights = Weights([net], Peers.of_group(), Sharding(weights=True, least=100))
    x = torch.randn(2, 50, requires_grad=True)
    with weights.apart(()):
        whole = sum(parameter.numel() for parameter in weights.splits)
        own = sum(split.share.numel() for split in weights.splits.values())
        kept = {f"kept in {kind}": largest(net, x, kind) for kind in KINDS}
    return {"whole": torch.tensor(whole), "own": torch.tensor(own), **kept}


KINDS = (torch.float32, torch.bfloat16)


def largest(net: nn.Module, x: Tensor, kind: torch.dtype) -> Tensor:
    """Return the size of the largest tensor that is kept for the gradient, of those not split."""
    sizes = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", kind, enabled=kind == torch.bfloat16):
            loss = net(x).sum()
        loss.backward()
    return torch.tensor(max(sizes))


SCENES = (uninterrupted, resumed, left, joined, watched, unlike, broken, lost, held)


def test_split_weights_resume_to_the_bit(folder):
    assert equal(found(folder, "uninterrupted"), found(folder, "resumed"), rtol=0)


def test_what_split_weights_began_one_process_finishes(folder):
    out = folder / "two, one"
    assert equal(
        played(vae, steps=9, out=out, resume=True, **SHORT), played(vae, steps=9, **SHORT)
    )


def test_what_one_process_began_split_weights_finish(folder):
    assert equal(played(vae, steps=9, **SHORT), found(folder, "joined"))


def test_callbacks_of_one_process_or_all_see_whole_weights_and_averages(folder):
    two = found(folder, "watched")
    assert two["steps"] < 20
    assert equal(watched(folder, None), two)


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (
            "unlike",
            r"ValueError: process 1 fits another split than process 0: 21 of 37 weights are",
        ),
        ("broken", r"GraphError: process [01]: step [1-3], player model: .* exp gave infinity"),
    ],
)
def test_all_processes_raise_the_same_error(scene, message, folder):
    (said,) = found(folder, scene)
    assert re.match(message, said)


def test_a_process_that_dies_ends_the_others_and_leaves_a_checkpoint(folder):
    (said,) = torch.load(folder / "deserted 0.pt")
    assert re.match(r"ConnectionError: process 0 has lost another one after step 6: .*5\.s", said)
    plan = dg.train.Checkpoints(folder / "deserted", every=5)
    assert equal(played(vae, steps=9, out=plan, resume=True), played(vae, steps=9))


def test_weights_that_an_error_leaves_apart_are_no_numbers(folder):
    two = found(folder, "lost")
    assert two["apart"].all()
    assert not two["together"].any()


def test_a_process_keeps_half_and_a_loss_keeps_none(folder):
    two = found(folder, "held")
    assert two["own"] == 2 * 50 * 50 / 2
    assert two["whole"] == 0
    assert all(two[f"kept in {kind}"] == 2 * 50 for kind in KINDS)  # rows, and no weight


# One process


def test_one_process_splits_nothing():
    assert equal(played(vae, shard=ALL), played(vae), rtol=0)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_shares_are_all_of_a_tensor_once(world, shape):
    whole = torch.rand(shape)
    shares = [share_of(whole, Peers(rank, world)) for rank in range(world)]
    assert torch.equal(torch.cat(shares), whole.reshape(-1))


@pytest.fixture
def split():
    """A parameter of which nobody holds the other share: to gather it would fail."""
    return Split.of(nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, -4.0]])), Peers(1, 2))


def test_what_a_parameter_is_can_be_asked_without_its_numbers(split):
    assert (split.shape, split.dtype, split.device.type) == ((2, 2), torch.float32, "cpu")
    assert (split.numel(), split.dim(), len(split)) == (4, 2, 2)
    assert split.is_floating_point()
    assert isinstance(split, nn.Parameter)
    assert split.requires_grad


def test_bounds_hold_for_the_share(split):
    with torch.no_grad():
        split.clamp_(-1, 2)
    assert split.share.tolist() == [2.0, -1.0]


def test_a_parameter_that_is_split_is_not_changed_in_place(split):
    with torch.no_grad(), pytest.raises(dg.InadmissibleError, match=r"mul_ would change .* whole"):
        split.mul_(2)
    with torch.no_grad(), pytest.raises(dg.InadmissibleError, match=r"__setitem__ would change"):
        split[0] = 0


class Nothing(torch.autograd.Function):
    """A function that is given a weight itself."""

    @staticmethod
    def forward(ctx, weight):
        ctx.like = weight.shape
        return torch.zeros(())

    @staticmethod
    def backward(ctx, *by):
        return by[0].expand(ctx.like)


def test_a_gradient_that_would_go_to_no_share_is_refused(split):
    shards = Shards([split], split.peers)
    with pytest.raises(dg.InadmissibleError, match=r"a parameter of \[2, 2\].*view_as\(weight\)"):
        shards.gradients(Nothing.apply(split))  # type: ignore[arg-type]
    (gradient,) = shards.gradients(split.share.sum())
    assert torch.equal(gradient, torch.ones(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"least": 0}, r"least must be a whole number, 1 or more, not 0"),
        ({"device": "cpu"}, r"whole weights are where their modules are, not on 'cpu'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sharding(**options)


def test_words_are_no_plan():
    with pytest.raises(TypeError, match=r"shard is True, False or a dg.train.Sharding, not 'wei"):
        played(vae, shard="weights")
