"""Shared memory is removed by prefix, and nothing else is touched."""

from __future__ import annotations

import pytest

from modelport.server import shared_memory


@pytest.fixture
def entries():
    prefix, other = shared_memory.new_prefix(), shared_memory.new_prefix()
    made = [shared_memory.FOLDER / f"{name}x" for name in (prefix, prefix + "y", other)]
    for path in made:
        path.touch()
    yield prefix, made
    for path in made:
        path.unlink(missing_ok=True)


def test_only_entries_with_the_prefix_are_removed(entries):
    prefix, made = entries
    assert shared_memory.entries(prefix) == sorted(made[:2])
    assert sorted(shared_memory.remove(prefix)) == sorted(path.name for path in made[:2])
    assert [path.exists() for path in made] == [False, False, True]
    assert shared_memory.remove(prefix) == []
