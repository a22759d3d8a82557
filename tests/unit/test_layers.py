"""Imports inside modelport point one way; see the layers in docs/design.md.

The test reads syntax trees, so that imports inside functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

# From the lowest to the highest. A module imports from lower layers and from its own package; never from a
# neighbour in the same layer.
LAYERS = (
    ("errors", "_version"),
    ("_process", "_cores"),
    ("spec", "pages"),
    ("convert",),
    ("verify",),
    ("repository",),
    ("client", "server"),
    ("evaluate",),
    ("lifecycle", "describe", "upgrade"),
    ("bench", "gateway", "recipes"),
    ("usage", "optimise"),
    ("supervisor", "watching"),
    ("_render", "_progress"),
    ("_guard", "_live"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
# Narrower than the layer: part -> what of modelport it may import.
ONLY = {
    "client": {"spec", "errors", "_version"},
}


def imported_modules(path: Path) -> set[str]:
    """Full names of everything a file imports; `from a import b` counts as `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), path.name)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def violations(package: Path) -> list[str]:
    """One line for each import that breaks the layers, in the package at this folder."""
    found = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).with_suffix("").parts[0]
        if own == "__init__":  # the public names; their laziness is tested in test_public_names.py
            continue
        where = path.relative_to(package)
        if own not in RANK:
            found.append(f"{where}: {own!r} has no layer; give it one in this test and in docs/design.md")
            continue
        for name in sorted(imported_modules(path)):
            parts = name.split(".")
            if parts[0] != "modelport":
                continue
            target = "_version" if parts[1:] == ["__version__"] else parts[1]
            if target == own:
                continue
            if target not in RANK:
                found.append(f"{where}: imports {name}; import the module that defines it instead")
            elif own in ONLY and target not in ONLY[own]:
                found.append(f"{where}: imports {name}; {own} may only import {', '.join(sorted(ONLY[own]))}")
            elif RANK[target] >= RANK[own]:
                found.append(f"{where}: imports {name}, which is not below {own}")
    return found


def test_every_import_points_downwards(root):
    assert violations(root / "src" / "modelport") == []


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("spec.py", "from modelport.repository import layout", "not below spec"),
        ("convert/a.py", "def f():\n    import modelport.commands.export", "not below convert"),
        ("server/a.py", "from modelport.client import Client", "not below server"),
        ("client/a.py", "from modelport.convert import SOURCES", "client may only import"),
        ("verify/a.py", "from modelport import export", "import the module that defines it"),
        ("helpers.py", "import os", "has no layer"),
        ("bench/a.py", "if TYPE_CHECKING:\n    from modelport import cli", "not below bench"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, file, line, complaint):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(line + "\n")
    (found,) = violations(tmp_path)
    assert complaint in found


def test_right_imports_are_not_complained_about(tmp_path):
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "a.py").write_text(
        "from modelport import __version__\nfrom modelport.server import EmbeddedServer\nimport modelport.commands.b\n"
    )
    assert violations(tmp_path) == []


def test_triton_backends_stand_alone(root):
    """They are copied into the backend directory and run in Triton's Python stub, where modelport may be missing."""
    for path in (root / "src" / "modelport" / "server" / "triton_backends").rglob("*.py"):
        assert not {name for name in imported_modules(path) if name.split(".")[0] == "modelport"}, path


@pytest.mark.parametrize("folder", ["export", "clients", "benchmarks"])
def test_scripts_import_the_library_and_never_each_other(root, folder):
    """A recipe, client or benchmark can be copied out of the project and still run."""
    others = {"export", "clients", "benchmarks", "tests", "scripts"}
    for path in sorted((root / folder).rglob("*.py")):
        foreign = {name.split(".")[0] for name in imported_modules(path)} & (others - {folder})
        assert not foreign, f"{path.relative_to(root)} imports {foreign}"


def test_the_library_knows_no_recipe(root):
    """Nothing in modelport names a sample model's recipe: adding a model changes no library code."""
    recipes = {path.stem for path in (root / "export").glob("*.py")}
    for path in (root / "src" / "modelport").rglob("*.py"):
        imported = {part for name in imported_modules(path) for part in name.split(".")}
        assert not imported & recipes, f"{path}: {imported & recipes}"
