"""What users may import from `modelport` is listed once, and the list is true."""

from __future__ import annotations

import ast
import importlib
import pkgutil

import pytest

import modelport
from modelport.errors import ModelportError

# A new public name is a promise: add it here, to the README or docs/, and to CHANGELOG.md.
PUBLIC = {
    "AsyncClient",
    "Client",
    "ModelSpec",
    "ModelportError",
    "TensorSpec",
    "__version__",
    "export",
    "promote",
    "rollback",
    "serve",
}


def test_the_list_is_the_promise():
    assert set(modelport.__all__) == PUBLIC
    assert len(modelport.__all__) == len(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_listed_name_is_there_and_described(name):
    value = getattr(modelport, name)
    assert name == "__version__" or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'exports'"):
        modelport.exports  # noqa: B018


def test_type_checkers_see_the_lazy_names_where_they_really_are(root):
    """The names under TYPE_CHECKING are imported from the modules that `__getattr__` takes them from."""
    tree = ast.parse((root / "src" / "modelport" / "__init__.py").read_text())
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == modelport._LAZY


def test_subpackages_list_names_that_exist():
    for info in pkgutil.iter_modules(modelport.__path__):
        if info.ispkg:
            package = importlib.import_module(f"modelport.{info.name}")
            for name in getattr(package, "__all__", []):
                assert hasattr(package, name), f"modelport.{info.name}.{name}"


def test_every_error_has_an_exit_code_of_its_own():
    """The code tells a script what happened; it fits into a process's exit status."""

    def leaves(cls):
        return {cls} | {leaf for sub in cls.__subclasses__() for leaf in leaves(sub)}

    public = {cls for cls in leaves(ModelportError) if cls.__module__ == "modelport.errors"}
    codes = sorted(cls.exit_code for cls in public)
    assert len(set(codes)) == len(codes) and codes[0] > 0 and codes[-1] < 70


def test_the_drawn_tree_shows_every_error_and_its_code():
    text = importlib.import_module("modelport.errors").__doc__
    drawn = {words[-2]: int(words[-1]) for words in _tree_lines(text)}
    real = {
        name: cls.exit_code
        for name, cls in vars(importlib.import_module("modelport.errors")).items()
        if isinstance(cls, type) and issubclass(cls, ModelportError)
    }
    assert drawn == real


def _tree_lines(text):
    for line in text.splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()
        if len(words) >= 2 and words[0].endswith("Error") and words[1].isdigit():
            yield words[:2]
