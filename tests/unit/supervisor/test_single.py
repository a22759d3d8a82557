"""One supervisor for a repository."""

from __future__ import annotations

import os

import pytest

from modelport.errors import EnvironmentUnfitError, ServerError
from modelport.supervisor.single import only_one


def test_the_second_is_refused_and_told_who_the_first_is(tmp_path):
    with only_one(tmp_path / "r", tmp_path / "r.state"):
        with (
            pytest.raises(ServerError, match="served already") as caught,
            only_one(tmp_path / "r", tmp_path / "r.state"),
        ):
            raise AssertionError("two at once")
        assert f"process {os.getpid()}" in caught.value.why
        with only_one(tmp_path / "other", tmp_path / "other.state"):
            pass


def test_it_is_free_afterwards(tmp_path):
    for _ in range(2):
        with only_one(tmp_path / "r", tmp_path / "r.state"):
            pass


def test_a_state_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnfitError), only_one(tmp_path / "r", tmp_path / "file" / "state"):
        pass
