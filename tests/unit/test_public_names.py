"""What users may import from `modelport` is listed once, and the list is true."""

from __future__ import annotations

import ast
import importlib
import pkgutil

import pytest

import modelport

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


def test_completion_finds_every_listed_name():
    assert set(dir(modelport)) >= PUBLIC


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
