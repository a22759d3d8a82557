"""What becomes of keys: tokens that the public key proves, revocation, rotation with overlap, limits of tenants."""

from __future__ import annotations

import json
import stat

import jwt
import pytest
from jwt import PyJWKSet

from modelport.errors import EnvironmentUnfitError, UsageError
from modelport.gateway.keys import issue, keyring, register
from modelport.gateway.keys.values import Limits
from modelport.repository import events

NOW = 1_800_000_000
DAY = 86400


@pytest.fixture
def root(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def create(root):
    """`create("acme", expires_s=..., now=..., rate_per_s=...)`"""

    def act(tenant="acme", models=("digits_cnn",), *, expires_s=30 * DAY, now=NOW, **limits):
        return issue.create(root, tenant, models, expires_s=expires_s, limits=limits, now=now)

    return act


def claims_of(token, ring):
    """What a token says, where one of the accepted public keys proves it. The gateway compares the time itself."""
    kid = jwt.get_unverified_header(token)["kid"]
    (public,) = [key for key in PyJWKSet.from_dict(ring.jwks).keys if key.key_id == kid]
    checked = {"verify_exp": False, "verify_iat": False}
    return jwt.decode(token, public, algorithms=["ES256"], audience="modelport", issuer="modelport", options=checked)


def test_the_token_says_who_may_what_until_when_and_the_public_key_proves_it(create, root):
    made = create("acme", ("digits_cnn", "resnet18"), expires_s=60)
    claims = claims_of(made.token, keyring.read(root, now=NOW))
    assert claims == {
        **{"iss": "modelport", "aud": "modelport", "sub": "acme", "jti": made.key.id},
        **{"models": ["digits_cnn", "resnet18"], "iat": NOW, "exp": NOW + 60},
    }
    assert len(made.key.id) == 12 and int(made.key.id, 16) >= 0
    header = jwt.get_unverified_header(made.token)
    assert header["alg"] == "ES256" and header["kid"] == made.key.signed_by


def test_an_altered_token_is_not_proved(create, root):
    token = create().token
    head, claims, signature = token.split(".")
    forged = jwt.utils.base64url_encode(
        json.dumps({**json.loads(jwt.utils.base64url_decode(claims)), "models": ["*"]}).encode()
    ).decode()
    with pytest.raises(jwt.InvalidSignatureError):
        claims_of(f"{head}.{forged}.{signature}", keyring.read(root, now=NOW))


def test_nothing_on_the_disk_and_no_event_holds_a_token_and_the_public_keys_no_secret(create, root):
    made = create("acme", rate_per_s=5.0)
    issue.revoke(root, [made.key.id], None, now=NOW)
    parts = made.token.split(".")
    files = [path for path in root.parent.rglob("*") if path.is_file()]
    assert any(path.name == "events.jsonl" for path in files)
    for path in files:
        content = path.read_text()
        assert not any(part in content for part in parts[1:]), path
    assert made.token not in repr(made)
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"} for key in keyring.read(root).jwks["keys"])
    for event in events.latest(root, 10):
        assert set(event.facts) <= {"key", "tenant"}


def test_only_their_owner_can_read_the_files(create, root):
    create()
    folder = register.path(root).parent
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path


def test_a_revoked_key_is_refused_until_after_its_end(create, root):
    one, two = create(), create()
    assert keyring.read(root, now=NOW).revoked == frozenset()
    assert [key.id for key in issue.revoke(root, [one.key.id], None, now=NOW)] == [one.key.id]
    assert keyring.read(root, now=NOW).revoked == {one.key.id}
    assert issue.revoke(root, [one.key.id], None, now=NOW) == []  # once more does no harm
    assert keyring.read(root, now=one.key.expires_at + 60).revoked == {one.key.id}, "the gateway's clock may be behind"
    assert keyring.read(root, now=one.key.expires_at + keyring.SKEW_S).revoked == frozenset()
    known = register.read(root)
    assert [known.state_of(known.keys[key.key.id], NOW) for key in (one, two)] == ["revoked", "active"]


def test_all_keys_of_a_tenant_can_be_revoked_at_once_and_nobody_elses(create, root):
    mine, yours = [create("acme").key.id, create("acme").key.id], create("other").key.id
    issue.revoke(root, [], "acme", now=NOW)
    assert keyring.read(root, now=NOW).revoked == set(mine)
    with pytest.raises(UsageError, match=r"there is no key .* of tenant 'acme'"):
        issue.revoke(root, [yours], "acme", now=NOW)
    with pytest.raises(UsageError, match="there is no key 0123456789ab"):
        issue.revoke(root, [yours, "0123456789ab"], None, now=NOW)
    with pytest.raises(UsageError, match="no key is named"):
        issue.revoke(root, [], None, now=NOW)
    assert yours not in keyring.read(root, now=NOW).revoked


def test_after_a_rotation_old_tokens_hold_until_the_last_of_them_ends(create, root):
    old = create(expires_s=10 * DAY)
    done = issue.rotate(root, overlap_s=None, force=False, now=NOW)
    new = create(expires_s=60 * DAY)
    assert done.accepted_until == old.key.expires_at and done.ended == ()
    ring = keyring.read(root, now=NOW)
    assert [claims_of(each.token, ring)["jti"] for each in (old, new)] == [old.key.id, new.key.id]
    assert old.key.signed_by != new.key.signed_by == done.signing.kid
    assert ring.changes_at == old.key.expires_at
    later = keyring.read(root, now=old.key.expires_at)
    assert [key["kid"] for key in later.jwks["keys"]] == [done.signing.kid] and later.changes_at is None
    assert [path.stem for path in register.path(root).parent.glob("*.pem")] == [done.signing.kid]


def test_a_private_key_that_a_killed_rotation_left_is_removed_with_the_next_key(create, root):
    made = create()
    left = register.path(root).parent / "0123456789abcdef.pem"
    left.write_text("of no use any more")
    assert create().key.signed_by == made.key.signed_by and not left.exists()


def test_a_signing_key_that_has_signed_nothing_alive_is_dropped_at_once(create, root):
    issue.revoke(root, [create().key.id], None, now=NOW)
    assert issue.rotate(root, overlap_s=None, force=False, now=NOW).accepted_until is None
    assert len(keyring.read(root, now=NOW).jwks["keys"]) == 1


def test_an_overlap_that_would_end_keys_early_needs_force(create, root):
    made = create(expires_s=2 * DAY)
    before = register.path(root).read_bytes()
    with pytest.raises(UsageError, match="1 keys end before they expire") as caught:
        issue.rotate(root, overlap_s=DAY, force=False, now=NOW)
    assert made.key.id in caught.value.why and register.path(root).read_bytes() == before
    issue.rotate(root, overlap_s=3 * DAY, force=False, now=NOW)
    done = issue.rotate(root, overlap_s=0, force=True, now=NOW)
    assert [key.id for key in done.ended] == [made.key.id] and done.accepted_until is None
    assert [key["kid"] for key in keyring.read(root, now=NOW).jwks["keys"]] == [done.signing.kid]
    known = register.read(root)
    assert known.state_of(known.keys[made.key.id], NOW) == "refused"


def test_two_rotations_leave_three_keys_that_are_accepted(create, root):
    made = []
    for _ in range(3):
        made.append(create())
        issue.rotate(root, overlap_s=None, force=False, now=NOW)
    ring = keyring.read(root, now=NOW)
    assert len(ring.jwks["keys"]) == 4
    assert all(claims_of(each.token, ring)["jti"] == each.key.id for each in made)


def test_the_first_rotation_makes_the_first_signing_key(root):
    done = issue.rotate(root, overlap_s=None, force=False, now=NOW)
    assert [key["kid"] for key in keyring.read(root, now=NOW).jwks["keys"]] == [done.signing.kid]


def test_limits_belong_to_the_tenant_and_stay_where_a_key_names_none(create, root):
    create("acme", rate_per_s=50.0, daily=1000)
    assert create("acme").limits == Limits(rate_per_s=50.0, daily=1000)
    changed = create("acme", daily=None, burst=3)
    assert changed.before == Limits(rate_per_s=50.0, daily=1000) and changed.limits == Limits(rate_per_s=50.0, burst=3)
    create("other")
    assert keyring.read(root, now=NOW).tenants == {"acme": Limits(rate_per_s=50.0, burst=3), "other": Limits()}
    assert issue.set_limits(root, "other", {"concurrency": 2}, now=NOW) == Limits(concurrency=2)
    with pytest.raises(UsageError, match="there is no tenant 'third'"):
        issue.set_limits(root, "third", {"concurrency": 2}, now=NOW)


@pytest.mark.parametrize(
    "limits", [{"rate_per_s": 0.0}, {"daily": -1}, {"burst": 1.5}, {"body_bytes": True}, {"concurrency": "3"}]
)
def test_limits_that_cannot_be_are_refused_and_no_key_is_made(create, root, limits):
    with pytest.raises(UsageError, match="these limits cannot be"):
        create("acme", **limits)
    assert register.read(root).keys == {}


def test_a_token_that_would_not_fit_into_a_header_is_refused(create):
    with pytest.raises(UsageError, match="a key for 200 models"):
        create("acme", tuple(f"model_{n:057}" for n in range(200)))


def test_a_private_key_that_others_may_read_signs_nothing(create, root):
    made = create()
    path = register.path(root).parent / f"{made.key.signed_by}.pem"
    path.chmod(0o640)
    with pytest.raises(EnvironmentUnfitError, match="cannot be used") as caught:
        create()
    assert "others may read it" in caught.value.why and len(register.read(root).keys) == 1


@pytest.mark.parametrize("damage", ["lost", "cut", "another"])
def test_without_its_private_key_nothing_is_signed_until_there_is_a_new_one(create, root, damage):
    made = create()
    path = register.path(root).parent / f"{made.key.signed_by}.pem"
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        issue.create(root.parent / "other", "b", ("*",), expires_s=9, limits={}, now=NOW)
        (other,) = register.path(root.parent / "other").parent.glob("*.pem")
        path.write_bytes(other.read_bytes())
    with pytest.raises(EnvironmentUnfitError, match="cannot be used") as caught:
        create()
    assert "rotate" in caught.value.fix
    issue.rotate(root, overlap_s=None, force=False, now=NOW)
    ring = keyring.read(root, now=NOW)
    assert [claims_of(each.token, ring)["sub"] for each in (made, create())] == ["acme", "acme"]
