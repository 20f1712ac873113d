"""The command line in process, in an empty folder, with small data."""

import sys

import pytest
import torch

import daguerre as dg
from daguerre import cli
from daguerre.data import Split


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call the command line in an empty folder; return the exit code and both streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 64, generator=generator)
    split = Split({"x": x[:30], "y": torch.zeros(30)}, {"x": x[30:], "y": torch.zeros(10)})
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
