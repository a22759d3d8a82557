"""Find the recipes in a folder: each script that defines `RECIPE`."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelport.errors import UsageError
from modelport.recipes.recipe import Recipe


def find_recipes(folder: Path, only: Sequence[str] = ()) -> dict[Path, Recipe]:
    """The recipes in a folder, by script.

    Raises:
        UsageError: There is no recipe, or not every one that was asked for; or one cannot be imported.
    """
    scripts = {path.stem: path for path in sorted(folder.glob("*.py"))}
    missing = [name for name in only if name not in scripts]
    if missing or not scripts:
        raise UsageError(
            f"there is no recipe {', '.join(missing) or f'in {folder}'}",
            why=f"{folder} holds {', '.join(scripts) or 'no Python files'}",
            fix="run this in the project's folder, or name the folder with the recipes",
        )
    with importable(folder):
        found = {path: _load(path) for name, path in scripts.items() if not only or name in only}
    return {path: recipe for path, recipe in found.items() if recipe is not None}


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Recipes import what lies beside them, as they do when they run as scripts."""
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _load(path: Path) -> Recipe | None:
    """The `RECIPE` that a script defines; None when it defines none."""
    spec = importlib.util.spec_from_file_location(f"modelport_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported", why="it is no Python file", fix="remove it from the folder")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and torch.jit look their classes' module up
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as exc:
        raise UsageError(
            f"{path} cannot be imported",
            why=f"{type(exc).__name__}: {exc}",
            fix=f"install what it needs, or correct it: python {path} shows where it is wrong",
        ) from exc
    recipe = getattr(module, "RECIPE", None)
    return recipe if isinstance(recipe, Recipe) else None
