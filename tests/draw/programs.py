"""Programs that read what the writers write, where a machine has them."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

__all__ = ["accepted_by_dot", "accepted_by_mermaid", "compiled", "rendered"]

_PARSE = """
import { readFileSync } from 'fs';
import { JSDOM } from 'jsdom';
const page = new JSDOM('<!DOCTYPE html>');
globalThis.window = page.window; globalThis.document = page.window.document;
const mermaid = (await import('mermaid')).default;
for (const text of JSON.parse(readFileSync(0, 'utf8'))) {
  await mermaid.parse(text);
  const parsed = await mermaid.mermaidAPI.getDiagramFromText(text);
  const data = parsed.db.getData();
  console.log(JSON.stringify({
    nodes: data.nodes.map(n => [n.id, n.label, n.shape ?? n.type]),
    edges: data.edges.map(e => [e.start, e.end, e.pattern ?? e.stroke]),
  }));
}
"""


def _needed(program: str) -> str:
    found = shutil.which(program)
    if not found:
        pytest.skip(f"{program} is not installed")
    return found


@cache
def _has_class(name: str) -> bool:
    found = shutil.which("kpsewhich")
    run = [found, name] if found else ["true"]
    return bool(subprocess.run(run, capture_output=True, check=False).stdout.strip())


def compiled(latex: str, folder: Path) -> Path:
    """Compile a document with pdflatex, or skip; errors fail with the log."""
    program = _needed("pdflatex")
    for name in ("standalone.cls", "tikz.sty", "tikzlibrarybayesnet.code.tex"):
        if not _has_class(name):
            pytest.skip(f"{name} is not installed")
    source = folder / "drawing.tex"
    source.write_text(latex, encoding="ascii")
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    run = subprocess.run(
        [program, *options, source.name], cwd=folder, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:].decode("utf-8", "replace")
    return source.with_suffix(".pdf")


def rendered(pdf: Path, *, dots: int) -> tuple[tuple[int, int], bytes]:
    """Render the first page with pdftoppm, or skip: size, and a grey byte for each pixel."""
    run = [_needed("pdftoppm"), "-gray", "-r", str(dots), "-singlefile", pdf.name, pdf.stem]
    done = subprocess.run(run, cwd=pdf.parent, capture_output=True, check=True)
    assert done.stderr == b""  # where a broken file is complained about
    _, size, _, pixels = pdf.with_suffix(".pgm").read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    return (width, height), pixels


def accepted_by_dot(*texts: str) -> list[list[str]]:
    """Lay graphs out with Graphviz, or skip; return the lines of their plain forms.

    A warning fails.
    """
    run = [_needed("dot"), "-Tplain"]
    given = "\n".join(texts).encode()
    done = subprocess.run(run, input=given, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    graphs = done.stdout.decode().split("\nstop\n")[:-1]
    assert len(graphs) == len(texts)
    return [graph.splitlines() for graph in graphs]


def accepted_by_mermaid(*texts: str) -> list[dict[str, list[list[str]]]]:
    """Parse flowcharts with the parser of Mermaid, or skip; return their nodes and edges."""
    import json
    import os

    folder = os.environ.get("DAGUERRE_NODE", ".")  # where `npm install mermaid jsdom` has been run
    if not (Path(folder) / "node_modules" / "mermaid").is_dir():
        pytest.skip("the npm package mermaid is not installed; DAGUERRE_NODE may name its folder")
    run = [_needed("node"), "--input-type=module", "-e", _PARSE]
    given = json.dumps(texts).encode()
    done = subprocess.run(run, cwd=folder, input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:].decode()
    return [json.loads(line) for line in done.stdout.decode().splitlines()]
