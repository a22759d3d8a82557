"""The error tree: as drawn, one exit code for each class, three parts in every message."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from modelport import errors
from modelport.errors import UNEXPECTED_EXIT_CODE, ModelportError, PortTakenError, UsageError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, ModelportError)]


def drawn() -> dict[str, tuple[str, int]]:
    """Class name -> (parent's name, exit code) as the tree at the top of the module draws it."""
    found: dict[str, tuple[str, int]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\s+(\d+)", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            found[match[2]] = (path[depth - 1] if depth else "Exception", int(match[3]))
    return found


def test_the_tree_that_is_drawn_is_the_tree_that_is_there():
    assert drawn() == {c.__name__: (c.__bases__[0].__name__, c.exit_code) for c in CLASSES}


def test_every_class_has_an_exit_code_of_its_own():
    codes = [c.exit_code for c in CLASSES]
    assert len(set(codes)) == len(codes)
    assert UNEXPECTED_EXIT_CODE not in codes
    assert all(0 < code < 126 for code in codes), "126 and above have meanings of their own in a shell"


def test_a_message_has_three_parts():
    error = UsageError("it is wrong", why="because", fix="do this")
    assert str(error) == "it is wrong\n  why: because\n  do:  do this"
    assert (error.what, error.why, error.fix) == ("it is wrong", "because", "do this")


def test_facts_become_fields_and_have_defaults():
    assert PortTakenError("taken", port=8000).port == 8000
    assert PortTakenError("taken").port == 0


def test_a_fact_that_no_field_takes_is_a_mistake():
    """A misspelt fact must not vanish."""
    with pytest.raises(TypeError, match="prot"):
        PortTakenError("taken", prot=8000)


def test_errors_import_nothing(root):
    tree = ast.parse((root / "src/modelport/errors.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [getattr(node, "module", None) for node in imports] == ["__future__"]


def raised(root) -> list[tuple[str, ast.Call]]:
    """(place, call) for every error of the tree that the library makes by its class's name."""
    names = {c.__name__ for c in CLASSES}
    found = []
    for path in sorted((root / "src/modelport").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                found.append((f"{path.relative_to(root)}:{node.lineno}", node))
    return found


def test_the_library_gives_every_error_its_three_parts(root):
    """Where an error is made, `why` and `fix` are written down."""
    calls = raised(root)
    assert len(calls) > 100
    lacking = [place for place, call in calls if not {"why", "fix"} <= {keyword.arg for keyword in call.keywords}]
    # One error lists several problems, each with its own two parts.
    assert [place.partition(":")[0] for place in lacking] == ["src/modelport/server/checks.py"], lacking
