"""Models off the default device; torch's meta device stands for an accelerator."""

import pytest
import torch
from torch import nn

import daguerre as dg
from daguerre.devices import device_of, on_device_of
from daguerre.gallery.twins import Decoder, Encoder, Generator
from daguerre.program import validation

META = torch.device("meta")


@pytest.fixture(autouse=True)
def _unchecked():
    """Torch's argument checks read tensors, which the meta device cannot."""
    with validation(enabled=False):
        yield


def test_roots_are_drawn_on_the_device_of_their_model():
    drawn = Decoder().to(META).sample(3)
    assert {name: value.device for name, value in drawn.items()} == {"z": META, "x": META}


@pytest.mark.parametrize("cost", ["elbo", "gan"])
def test_losses_live_on_the_device_of_the_models(cost):
    if cost == "elbo":
        objective = dg.elbo(Decoder().to(META), Encoder().to(META))
    else:
        objective = dg.gan(Generator().to(META), nn.Linear(64, 1, device=META))
    losses = objective.losses(torch.zeros(5, 64, device=META))
    assert {loss.device for loss in losses.values()} == {META}


def test_the_default_device_is_given_back():
    before = torch.get_default_device()
    with on_device_of([nn.Linear(1, 1, device=META)]):
        assert torch.zeros(1).device == META
    assert torch.get_default_device() == before
    with on_device_of([nn.Linear(1, 1)]), on_device_of([]):
        assert torch.zeros(1).device == before


def test_a_module_is_where_its_first_tensor_is():
    assert device_of([nn.ReLU(), nn.Linear(1, 1, device=META)]) == META
    assert device_of([nn.BatchNorm1d(2, affine=False, device=META)]) == META
    assert device_of([nn.ReLU()]) is None


def test_constants_meet_nets_that_were_moved_before():
    net = nn.Linear(3, 2, device=META)
    p = dg.model(z=dg.StandardNormal(3), x=dg.deterministic(lambda z, net: net(z), net=net))
    assert p.sample(4)["x"].device == META
    assert dg.replace(p, z=torch.distributions.Normal(torch.zeros(3), 1.0)).sample(2)["z"].is_meta
