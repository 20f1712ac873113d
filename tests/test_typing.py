"""What type checkers see: the parents of a CPD, and slips at the call."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BASEDPYRIGHT = Path(sys.executable).with_name("basedpyright")

USER = """\
import torch
from torch import Tensor
from torch.distributions import Bernoulli, ExpTransform, Normal

import daguerre as dg


class Decoder(dg.Model):
    def __init__(self) -> None:
        super().__init__()
        self.net = dg.nn.mlp(2, 3)

    @dg.rv
    def z(self):
        return Normal(torch.zeros(2), 1.0)

    @dg.rv
    def x(self, z: Tensor):
        return Bernoulli(logits=self.net(z))


class Generator(Decoder):
    @dg.deterministic
    def x(self, z: Tensor):
        return torch.sigmoid(self.net(z))


class Flow(Decoder):
    @dg.bijection("z")
    def x(self):
        return ExpTransform()


class Fixed(Decoder):
    x = dg.bijection("z", ExpTransform())


class Encoder(dg.Model):
    x = dg.Input(3)

    @dg.rv
    def z(self, x):
        return Normal(x[:, :2], 1.0)


m = Decoder()
z = torch.zeros(1, 2)
m.x(z).log_prob(z)
Generator().x(z=z)
values: dict[str, Tensor] = m.sample(3)
density: Tensor = m.log_prob(values)
joint: dg.joint.Joint = dg.data("x") * Encoder()
marginal: dg.joint.Joint = m["x"]
kind: str = m.kind("x")
built: dg.Model = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
rewritten: dg.Model = dg.do(dg.replace(m, x=dg.deterministic(lambda z: z)), z=1.0)
"""

SLIPS = {
    "m.x(w=1)": 'No parameter named "w"',
    "m.x()": 'Argument missing for parameter "z"',
    "m.z(z)": "Expected 0 positional arguments",
    "m.q": '"Literal[\'q\']" is not assignable to type "Never"',
    "dg.rv(lambda z: torch.ones(2))": "is not assignable",
    "dg.deterministic(lambda z: Normal(0.0, 1.0))": "is not assignable",
    "dg.bijection(3)": "is not assignable",
    "dg.bijection('z', torch.exp)": "is not assignable",
    "m.sample('3')": "is not assignable",
    "dg.data(1)": "is not assignable",
}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> dict[int, list[str]]:
    """Check one file with all of it, and return the errors by line."""
    if not BASEDPYRIGHT.exists():
        pytest.skip("basedpyright is not installed beside this Python")
    folder = tmp_path_factory.mktemp("typing")
    (folder / "user.py").write_text(USER + "\n".join(SLIPS) + "\n")
    config = {"typeCheckingMode": "standard", "reportUnusedExpression": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [BASEDPYRIGHT, "--outputjson", "--pythonpath", sys.executable, "-p", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    found: dict[int, list[str]] = {}
    for complaint in json.loads(done.stdout)["generalDiagnostics"]:
        found.setdefault(complaint["range"]["start"]["line"], []).append(complaint["message"])
    return found


def test_a_correct_program_has_no_type_error(complaints):
    lines = USER.splitlines()
    assert {lines[i]: found for i, found in complaints.items() if i < len(lines)} == {}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_a_type_error(complaints, slip):
    line = len(USER.splitlines()) + list(SLIPS).index(slip)
    assert SLIPS[slip] in "\n".join(complaints.get(line, ["no complaint"]))
