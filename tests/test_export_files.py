"""Files of exports: what another program reads, and what is refused."""

import zipfile

import numpy as np
import onnx
import pytest
import torch
from export_cases import FAMILIES, below, first
from onnx.reference import ReferenceEvaluator

import daguerre as dg
from daguerre.gallery.twins import Decoder


def test_a_pt2_file_is_read_by_torch_alone_and_holds_no_pickle(tmp_path):
    exported = dg.export(Decoder(9, 4, 8), ["x.mean", "x.draw"])
    path = exported.save(tmp_path / "decoder.pt2")
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not content.startswith((b"\x80\x02", b"\x80\x04", b"PK")), name
    notes = {"daguerre.json": ""}
    loaded = torch.export.load(path, extra_files=notes).module()
    assert '"x_noise": ["[n, 9]", "float32"]' in notes["daguerre.json"]
    values = first(exported, 5)
    found, expected = loaded(**values), exported(**values)
    assert [*found] == [*expected]
    assert all(torch.equal(found[k], expected[k]) for k in found)


def test_an_onnx_file_gives_the_same_numbers_for_other_batches(tmp_path):
    exported = dg.export(Decoder(9, 4, 8), ["x.mean", "x.draw"])
    model = onnx.load(exported.save(tmp_path / "decoder.onnx"))
    onnx.checker.check_model(model)
    assert [i.name for i in model.graph.input] == ["z", "x_noise"]
    assert '"model": "Decoder"' in {p.key: p.value for p in model.metadata_props}["daguerre"]
    for n in (1, 3, 5):
        values = first(exported, n)
        found = ReferenceEvaluator(model).run(None, {k: v.numpy() for k, v in values.items()})
        for name, value in zip(["x.mean", "x.draw"], found, strict=True):
            assert np.allclose(value, exported(**values)[name], atol=1e-5)
    values = first(exported, 4)
    again = dg.nets.from_onnx(tmp_path / "decoder.onnx")(*values.values())
    assert torch.allclose(again["x.draw"], exported(**values)["x.draw"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sample", "log_prob"])
@pytest.mark.parametrize("family", ["Bernoulli", "Categorical", "OneHotCategorical", "Laplace"])
def test_families_have_an_onnx_form(family, what, tmp_path):
    exported = dg.export(below(FAMILIES[family]), what)
    exported.save(tmp_path / "x.onnx")  # which is checked against the model


@pytest.mark.slow
def test_what_has_no_onnx_form_is_refused(tmp_path):
    p = below(dg.deterministic(lambda z: torch.linalg.eigvalsh(z[:, None] * z[..., None])))
    exported = dg.export(p, "x")
    with pytest.raises(NotImplementedError, match=r"no ONNX form: .*eigh.*; save it as .pt2"):
        exported.save(tmp_path / "x.onnx")
    assert [*tmp_path.iterdir()] == []


def test_other_suffixes_and_folders_are_refused(tmp_path):
    exported = dg.export(below(dg.deterministic(lambda z: 2 * z)), "x")
    with pytest.raises(ValueError, match=r"exports are .pt2 or .onnx, not .pth"):
        exported.save(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="no folder"):
        exported.save(tmp_path / "nowhere" / "x.pt2")
