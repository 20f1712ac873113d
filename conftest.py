"""Where tests and examples start: one seed, torch's own argument checks, nothing left behind."""

import signal
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from torch.distributions import Distribution

import daguerre as dg
from daguerre import cli
from daguerre.data import Split

settings.register_profile("steady", deadline=None, derandomize=True)  # the same on every machine
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Seed the draws; give back the switch that torch.compile turns off for the process."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed takes a traceback for each device
    before = Distribution._validate_args
    yield
    Distribution.set_default_validate_args(before)


@pytest.fixture
def terminal() -> Iterator[None]:
    """Take Ctrl-C as a program in the foreground does: those in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def split() -> Split:
    """What the command line takes for the digits."""
    x = torch.rand(40, 64, generator=torch.Generator().manual_seed(0))
    return Split({"x": x[:30], "y": torch.zeros(30)}, {"x": x[30:], "y": torch.zeros(10)})


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, split):
    """Call the command line in an empty folder; return the exit code and both streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(type(dg.data), "digits", staticmethod(lambda: split))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["daguerre", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call
