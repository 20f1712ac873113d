"""The gallery of pictures is what its code draws now: the same bytes."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
COSTLY = {"resnet18", "resnet_stage", "transformer", "wide_units"}  # `make pictures` draws them


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["pictures"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GALLERY = script()
FUNCTIONS = {f.__name__: f for functions in GALLERY.CHAPTERS.values() for f in functions}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in COSTLY])
def test_a_picture_is_up_to_date(name):
    entry = GALLERY.drawn(FUNCTIONS[name])
    assert entry.drawing.svg == (DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    page = (DOCS / "pictures" / "README.md").read_text(encoding="utf-8")
    assert GALLERY.section(FUNCTIONS[name], entry.formula) in page


def test_the_page_shows_every_picture_and_no_other():
    page = (DOCS / "pictures" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"!\[\w+\]\((\w+)\.svg\)", page) == list(FUNCTIONS)
    assert {p.stem for p in (DOCS / "pictures").glob("*.svg")} == set(FUNCTIONS)
    assert sum(p.stat().st_size for p in (DOCS / "pictures").iterdir()) < 2_000_000
