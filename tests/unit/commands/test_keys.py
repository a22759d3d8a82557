"""The verbs of `keys`: the token comes out once, at one place; what is not meant is warned about or refused."""

from __future__ import annotations

import stat

import pytest

from modelport.commands import keys
from modelport.errors import InvalidNameError, RepositoryError, UsageError
from modelport.gateway.keys.values import Limits


@pytest.fixture
def root(tmp_path):
    """A repository with a model `net`."""
    folder = tmp_path / "models"
    (folder / "net").mkdir(parents=True)
    return folder


def test_a_key_that_is_made_is_listed_without_its_token(root):
    made = keys.create("acme", ["net"], limits={"rate_per_s": 50.0}, expires_s=3600, repository=root)
    assert made.token and made.token.count(".") == 2 and made.warnings == ()
    (row,) = keys.list_keys(repository=root)
    assert row == made.key and row.state == "active" and row.models == ("net",)
    assert not any(made.token in str(value) for value in vars(row).values())
    assert keys.limits(repository=root) == {"acme": Limits(rate_per_s=50.0)}


def test_models_that_are_not_there_yet_are_warned_about(root):
    made = keys.create("acme", ["net", "later", "net"], repository=root)
    assert made.key.models == ("net", "later") and made.warnings == ("the repository has no model 'later' yet",)
    assert keys.create("acme", ["*"], repository=root).warnings == ()


def test_limits_that_change_for_a_tenant_are_warned_about(root):
    assert keys.create("acme", ["*"], limits={"daily": 5}, repository=root).warnings == ()
    assert keys.create("acme", ["*"], limits={"daily": 5}, repository=root).warnings == ()
    (warning,) = keys.create("acme", ["*"], limits={"daily": 6}, repository=root).warnings
    assert "the limits of tenant 'acme' changed" in warning and "2 other" in warning
    assert keys.limits("acme", {"daily": None}, repository=root) == {"acme": Limits()}
    with pytest.raises(UsageError, match="no tenant is named"):
        keys.limits(None, {"daily": None}, repository=root)
    with pytest.raises(UsageError, match="there is no tenant 'x'"):
        keys.limits("x", repository=root)


@pytest.mark.parametrize(
    ("tenant", "models", "options", "error"),
    [
        ("a b", ["net"], {}, InvalidNameError),
        ("../a", ["net"], {}, InvalidNameError),
        ("", ["net"], {}, InvalidNameError),
        ("acme", [], {}, UsageError),
        ("acme", ["*", "net"], {}, UsageError),
        ("acme", ["../net"], {}, InvalidNameError),
        ("acme", ["net"], {"expires_s": 0}, UsageError),
        ("acme", ["net"], {"expires_s": 1e10}, UsageError),
        ("acme", ["net"], {"limits": {"daily": 0}}, UsageError),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(root, tenant, models, options, error):
    with pytest.raises(error) as caught:
        keys.create(tenant, models, repository=root, **options)
    assert caught.value.why and caught.value.fix
    assert keys.list_keys(repository=root) == []


def test_without_a_repository_no_key_is_made_beside_it(tmp_path):
    with pytest.raises(RepositoryError, match="no model repository"):
        keys.create("acme", ["*"], repository=tmp_path / "typo")
    assert list(tmp_path.iterdir()) == []


def test_the_token_in_a_file_is_for_its_owner_alone(root, tmp_path):
    path = tmp_path / "token"
    path.touch(0o644)
    made = keys.create("acme", ["net"], token_file=path, repository=root)
    assert made.token is None and made.token_file == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_text().strip().count(".") == 2


def test_a_token_is_not_written_over_another_which_may_be_the_only_copy(root, tmp_path):
    path = tmp_path / "token"
    keys.create("acme", ["net"], token_file=path, repository=root)
    before = path.read_text()
    with pytest.raises(UsageError, match="only copy"):
        keys.create("acme", ["net"], token_file=path, repository=root)
    assert path.read_text() == before and len(keys.list_keys(repository=root)) == 1


def test_a_token_that_cannot_be_written_is_no_key(root, tmp_path):
    (tmp_path / "link").symlink_to("/dev/stdout")
    for path in (tmp_path, tmp_path / "no" / "token", tmp_path / "link"):
        with pytest.raises(UsageError, match="the token cannot be written"):
            keys.create("acme", ["net"], token_file=path, repository=root)
    assert keys.list_keys(repository=root) == []
    with pytest.raises(RepositoryError, match="the token could not be written"):
        keys.create("acme", ["net"], token_file=tmp_path / ("x" * 240), repository=root)  # too long a name, with .tmp
    assert [row.state for row in keys.list_keys(repository=root)] == ["revoked"]


def test_keys_are_revoked_by_id_or_all_of_a_tenant(root):
    one, two = (keys.create("acme", ["net"], repository=root).key.id for _ in range(2))
    other = keys.create("other", ["net"], repository=root).key.id
    assert [row.id for row in keys.revoke([one], repository=root)] == [one]
    assert [row.id for row in keys.revoke(tenant="acme", repository=root)] == [two]
    assert keys.revoke([one], tenant="acme", repository=root) == []
    assert {row.id: row.state for row in keys.list_keys(repository=root)} == {
        **{one: "revoked", two: "revoked"},
        **{other: "active"},
    }
    assert [row.id for row in keys.list_keys(tenant="other", repository=root)] == [other]
    with pytest.raises(UsageError, match="there is no tenant 'nobody'"):
        keys.list_keys(tenant="nobody", repository=root)


def test_a_rotation_says_until_when_and_what_ends(root):
    made = keys.create("acme", ["net"], repository=root)
    done = keys.rotate(repository=root)
    assert done.accepted_until == made.key.expires_at and done.ended == ()
    with pytest.raises(UsageError, match="end before they expire"):
        keys.rotate(overlap_s=0, repository=root)
    with pytest.raises(UsageError, match="cannot be"):
        keys.rotate(overlap_s=-1, repository=root)
    done = keys.rotate(overlap_s=0, force=True, repository=root)
    assert [row.id for row in done.ended] == [made.key.id] and done.accepted_until is None
    assert [row.state for row in keys.list_keys(repository=root)] == ["refused"]
