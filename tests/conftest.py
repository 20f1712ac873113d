"""What every test starts from: one seed, torch's own argument checks, nothing left behind."""

import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from torch.distributions import Distribution

settings.register_profile("steady", deadline=None, derandomize=True)  # the same on every machine
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Seed the draws; give back the switch that torch.compile turns off for the process."""
    torch.manual_seed(0)
    before = Distribution._validate_args
    yield
    Distribution.set_default_validate_args(before)


@pytest.fixture
def terminal() -> Iterator[None]:
    """Take Ctrl-C as a program in the foreground does: those in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
