"""A certificate that is given is looked at before it is served; each complaint says what is wrong with which file."""

from __future__ import annotations

import datetime
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization

from modelport.errors import UsageError
from modelport.gateway import certificates, development_certificate

NOW = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def pair(tmp_path):
    """A certificate and its key that are good at NOW."""
    made = development_certificate.ensure(tmp_path / "models", now=NOW)
    return made.certificate, made.key


def test_a_good_pair_is_taken(pair):
    found = certificates.check(*pair, now=NOW)
    assert "localhost" in found.names and found.warnings == () and found.ca is None
    assert certificates.expires_at(pair[0]) == found.expires_at > NOW + 300 * DAY


@pytest.mark.parametrize(
    ("now", "complaint"),
    [(NOW + 398 * DAY, "has expired"), (NOW - 1 * DAY, "does not hold yet")],
)
def test_a_certificate_must_hold_now(pair, now, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        certificates.check(*pair, now=now)
    assert str(pair[0]) in str(caught.value) and caught.value.why and caught.value.fix


def test_a_certificate_that_ends_soon_is_warned_about(pair):
    (warning,) = certificates.check(*pair, now=NOW + 390 * DAY).warnings
    assert "expires on" in warning


def test_the_key_must_be_the_certificates(pair, tmp_path):
    other = development_certificate.ensure(tmp_path / "others", now=NOW)
    with pytest.raises(UsageError, match="is not the key of"):
        certificates.check(pair[0], other.key, now=NOW)


def test_a_key_that_others_may_read_is_refused(pair):
    pair[1].chmod(0o640)
    certificates.check(*pair, now=NOW)  # a group for it is usual
    pair[1].chmod(0o644)
    with pytest.raises(UsageError, match="others may read the key") as caught:
        certificates.check(*pair, now=NOW)
    assert "chmod 600" in caught.value.fix


@pytest.mark.parametrize(
    "content", [None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_or_key_is_refused(pair, tmp_path, content):
    odd = tmp_path / "odd.pem"
    if content is not None:
        odd.write_bytes(content)
    with pytest.raises(UsageError, match=r"the certificate .* cannot be read"):
        certificates.check(odd, pair[1], now=NOW)
    with pytest.raises(UsageError, match=r"the key .* cannot be read"):
        certificates.check(pair[0], odd, now=NOW)


def test_a_key_with_a_passphrase_is_refused(pair):
    secret = serialization.load_pem_private_key(pair[1].read_bytes(), password=None)
    locked = serialization.BestAvailableEncryption(b"secret")
    pair[1].write_bytes(secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(UsageError, match="cannot be read") as caught:
        certificates.check(*pair, now=NOW)
    assert "passphrase" in caught.value.why


def test_a_kind_of_key_that_the_gateway_does_not_take_is_refused(require, tmp_path):
    require("openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    key.chmod(0o600)
    with pytest.raises(UsageError, match="cannot be served") as caught:
        certificates.check(cert, key)
    assert "Ed25519" in caught.value.why


def test_the_first_certificate_of_a_chain_is_the_servers(pair, tmp_path):
    ca = pair[0].parent / "ca.pem"
    pair[0].write_bytes(pair[0].read_bytes() + ca.read_bytes())
    certificates.check(*pair, now=NOW)
    pair[0].write_bytes(ca.read_bytes() + pair[0].read_bytes())
    with pytest.raises(UsageError, match="is not the key of") as caught:
        certificates.check(*pair, now=NOW)
    assert "first" in caught.value.why
