"""The shape of the code: who may import whom, how long things are, what is public.

The imports are read from the syntax trees, so one inside a function counts as well.
"""

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import daguerre

ROOT = Path(daguerre.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def every(rule: Callable[[Path], None]) -> Callable[[], None]:
    """Make one test of a rule for all files, which names those that break it."""

    def test() -> None:
        broken = []
        for path in FILES:
            try:
                rule(path)
            except AssertionError as error:
                broken.append(f"{path.relative_to(ROOT)}: {error}")
        assert not broken, "\n".join(broken)

    test.__doc__ = rule.__doc__
    return test


LAYERS = (  # low to high; a module may import from lower layers, and from its own package
    {"graph"},
    {
        "derivatives",
        "devices",
        "discrete",
        "files",
        "table",
        "families",
        "idx",
        "kernels",
        "loading",
        "modes",
        "peers",
        "plot",
        "ragged",
    },
    {"cpds", "lags", "precision", "rows", "structure"},
    {"abduction", "draw", "repeats"},
    {"program"},
    {"parts", "recorded"},
    {"loops"},
    {"running"},
    {"declare", "locate", "scoring", "unrolled"},
    {"shapes", "queries"},
    {"joint"},
    {"model"},
    {"compose", "counterfactual", "elimination", "export", "nn", "data"},
    {"infer"},
    {"formats"},
    {"nets"},
    {"empirical"},
    {"objectives"},
    {"evaluate", "views"},
    {"train"},
    {""},  # daguerre/__init__.py, for what is written like a user's program
    {"game"},
    {"gallery"},
    {"settings"},
    {"query", "report", "runs"},
    {"runs_export", "runs_repeat", "runs_scores", "runs_table"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in FILES}


def unit(name: str) -> str:
    """The part of the package that a dotted name belongs to; "" for the package itself."""
    return [*name.split("."), ""][1]


@cache
def imports(node: ast.AST) -> list[str]:
    """All dotted names that are imported below a node, submodules spelled out."""
    names = []
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            names += [alias.name for alias in found.names]
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0, "imports are absolute"
            wholes = [(found.module, f"{found.module}.{alias.name}") for alias in found.names]
            names += [whole if whole in MODULES else str(parent) for parent, whole in wholes]
    return names


def ours(node: ast.AST) -> list[str]:
    return [name for name in imports(node) if name.split(".")[0] == "daguerre"]


# Who imports whom


def test_every_module_has_a_layer():
    units = {unit(module(path)) for path in FILES}
    assert units <= set(LEVEL), f"give {units - set(LEVEL)} a place in LAYERS"


@every
def test_arrows_go_down_only(path):
    own = unit(module(path))
    for name in ours(tree(path)):
        if unit(name) != own or not own:
            below = LEVEL[unit(name)] < LEVEL[own]
            assert below, f"{module(path)} imports {name}, which is not below it"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("graph", "program", False),
        ("program", "graph", True),
        ("draw", "program", False),
        ("objectives", "draw", True),
        ("objectives", "train", False),
        ("cli", "gallery", True),
        ("gallery", "report", False),
        ("table", "families", False),
    ],
)
def test_the_order_is_the_one_of_the_design(importer, imported, allowed):
    assert (LEVEL[imported] < LEVEL[importer]) is allowed


@pytest.mark.parametrize("importer", ["graph", "structure", "draw"])
def test_graphs_and_drawings_never_import_torch(importer):
    reached, frontier = set(), [p for p in FILES if unit(module(p)) == importer]
    while frontier:
        path = frontier.pop()
        reached.add(path)
        names = set(imports(tree(path)))
        assert not {n for n in names if n.split(".")[0] == "torch"}, module(path)
        frontier += [p for p in FILES if module(p) in names and p not in reached]
    assert reached


def test_gallery_models_never_import_one_another():
    for path in FILES:
        if unit(module(path)) == "gallery" and path.stem != "__init__":
            assert not [n for n in ours(tree(path)) if n.startswith("daguerre.gallery")], path


@every
def test_no_import_of_ours_hides_inside_a_function(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            assert not ours(node), f"{module(path)}: an import inside {ast.unparse(node)[:60]}"


def test_modules_import_one_another_without_a_cycle():
    names = {module(p): {n for n in ours(tree(p)) if n != module(p)} for p in FILES}
    while leaves := [n for n, imported in names.items() if not imported & set(names)]:
        for leaf in leaves:
            del names[leaf]
    assert not names, f"a cycle runs through {sorted(names)}"


# How long things are


@every
def test_files_stop_at_five_hundred_lines(path):
    assert len(path.read_text().splitlines()) < 500


@every
def test_functions_stop_at_fifty_lines_of_code(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = node.body[0]
            documented = ast.get_docstring(node) is not None
            first = (start.end_lineno or start.lineno) + 1 if documented else node.lineno
            lines = (node.end_lineno or first) - first + 1
            assert lines <= 50, f"{node.name} has {lines} lines"


# What is public


def exported(path: Path) -> list[str] | None:
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


@every
def test_every_module_says_what_is_public(path):
    names = exported(path)
    assert names is not None, "no __all__"
    assert len(names) == len(set(names))


@every
def test_what_is_public_is_there_and_documented(path):
    defined = {n.name: n for n in tree(path).body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound = {ast.unparse(target) for node in tree(path).body for target in _targets(node)}
    imported = {
        alias.asname or alias.name.split(".")[0]
        for node in tree(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for name in exported(path) or ():
        assert name in defined or name in bound or name in imported, f"{name} is not defined"
        assert name not in defined or ast.get_docstring(defined[name]), f"{name}: no docstring"


def _targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


@every
def test_every_module_opens_with_a_docstring(path):
    assert ast.get_docstring(tree(path))


def test_at_most_sixty_names_are_public():
    assert len(daguerre.__all__) == len(set(daguerre.__all__)) <= 60
    assert all(hasattr(daguerre, name) for name in daguerre.__all__)


def test_no_class_passes_fifteen_public_methods():
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef)]
                public = {name for name in methods if not name.startswith("_")}
                assert len(public) <= 15, f"{node.name}: {sorted(public)}"
