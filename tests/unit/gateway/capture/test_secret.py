"""The key is its owner's alone."""

from __future__ import annotations

import pytest

from modelport.errors import EnvironmentUnfitError, ManifestError
from modelport.gateway import private
from modelport.gateway.capture import secret, stored


def test_a_key_is_made_once_for_its_owner_alone(repository):
    with pytest.raises(EnvironmentUnfitError):
        secret.read(repository)
    made = secret.read_or_make(repository)
    assert secret.read_or_make(repository) == made == secret.read(repository) and len(made.secret) == 32
    assert secret.path(repository).stat().st_mode & 0o777 == 0o600
    assert made.secret.hex() not in repr(made) and made.id.hex() not in made.secret.hex()


def test_a_key_that_is_lost_is_not_replaced_while_there_are_records(repository):
    made = secret.read_or_make(repository)
    record = private.folder(repository, stored.AREA, stored.RECORDS, "net", "segment")
    record.parent.mkdir(parents=True)
    record.write_bytes(b"x")
    assert secret.read_or_make(repository) == made
    secret.path(repository).unlink()
    with pytest.raises(EnvironmentUnfitError, match="is lost"):
        secret.read_or_make(repository)
    assert not secret.path(repository).exists()
    record.unlink()
    assert secret.read_or_make(repository) != made


def test_a_key_that_others_may_read_is_refused(repository):
    secret.read_or_make(repository)
    secret.path(repository).chmod(0o640)
    with pytest.raises(EnvironmentUnfitError, match="open to others"):
        secret.read(repository)


def test_a_key_of_its_owners_choice_is_used_and_never_made(repository, tmp_path, monkeypatch):
    monkeypatch.setenv(secret.VARIABLE, str(tmp_path / "own"))
    with pytest.raises(EnvironmentUnfitError):
        secret.read_or_make(repository)
    assert not (tmp_path / "own").exists()
    (tmp_path / "own").write_text("ab" * 32)
    (tmp_path / "own").chmod(0o600)
    assert secret.read_or_make(repository).secret == b"\xab" * 32
    (tmp_path / "own").write_text("no key")
    with pytest.raises(ManifestError, match="is no key"):
        secret.read(repository)
