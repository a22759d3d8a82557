"""The page of rules is what the rules say."""

from __future__ import annotations

import importlib.util

import pytest

from modelport.repository.doctor.registry import RULES


@pytest.fixture(scope="module")
def generator(root):
    """scripts/doctor_docs.py as a module."""
    spec = importlib.util.spec_from_file_location("doctor_docs", root / "scripts" / "doctor_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_rules_say(generator, root):
    assert (root / "docs" / "doctor.md").read_text() == generator.page(), "run `make docs` and commit docs/doctor.md"


def test_every_rule_is_on_the_page_once(root):
    text = (root / "docs" / "doctor.md").read_text()
    assert all(text.count(f"### `{rule}`\n") == 1 for rule in RULES)
