"""URLs, tokens and TLS files are checked before anything is opened."""

from __future__ import annotations

import ssl

import pytest

from modelport.client._connection import parse_target, tls_context
from modelport.errors import UsageError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("MODELPORT_TOKEN", "MODELPORT_CA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "path", "shown"),
    [
        ("http://127.0.0.1:8000", "http", "127.0.0.1", 8000, "", "http://127.0.0.1:8000"),
        ("http://models.example", "http", "models.example", 80, "", "http://models.example:80"),
        ("https://models.example/ml/", "https", "models.example", 443, "/ml", "https://models.example:443/ml"),
        ("grpc://localhost", "grpc", "localhost", 8001, "", "grpc://localhost:8001"),
        ("grpcs://[::1]:9", "grpcs", "::1", 9, "", "grpcs://[::1]:9"),
    ],
)
def test_a_url_is_read(url, scheme, host, port, path, shown):
    target = parse_target(url)
    assert (target.scheme, target.host, target.port, target.path, target.url) == (scheme, host, port, path, shown)
    assert target.is_grpc == scheme.startswith("grpc")
    assert target.is_secure == scheme.endswith("s")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("127.0.0.1:8000", "http:// is missing"),
        ("ftp://127.0.0.1", "must start with"),
        ("http://", "names no host"),
        ("http://a b/", "names no host"),
        ("http://[::zz]:80", "cannot be read|names no host"),
        ("http://host:99999", "cannot be read"),
        ("http://host:x", "cannot be read"),
        ("http://me:secret@host:80", "user or password"),
        ("http://host/?a=b", "query"),
        ("http://host/a%2Fb", "path holds"),
        ("http://host/a\r\nx: y", "path holds|cannot be read"),
        ("grpc://host:1/path", "has no path"),
    ],
)
def test_a_wrong_url_is_refused(url, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        parse_target(url)
    assert "secret" not in str(caught.value)


def test_all_problems_are_listed_together(tmp_path):
    with pytest.raises(UsageError) as caught:
        parse_target(
            "grpcs://me@host/x", ca_file=tmp_path / "no.pem", client_key=__file__, verify_tls=False, token="a b"
        )
    for part in ("user", "no path", "no such file", "without client_cert", "always verifies", "blank"):
        assert part in caught.value.why


@pytest.mark.parametrize("options", [{"ca_file": __file__}, {"verify_tls": False}])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_tls_options_without_tls_are_refused(scheme, options):
    with pytest.raises(UsageError, match="have no effect"):
        parse_target(f"{scheme}://host:1", **options)


def test_the_token_is_a_header_and_never_shown(monkeypatch):
    target = parse_target("http://host", token="s3cret")
    assert target.headers() == {"authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(target)
    monkeypatch.setenv("MODELPORT_TOKEN", "from-env")
    assert parse_target("http://host").headers() == {"authorization": "Bearer from-env"}
    assert parse_target("http://host", token="").headers() == {}
    with pytest.raises(UsageError) as caught:
        parse_target("http://host", token="s3cret\r\nx-evil: 1")
    assert "s3cret" not in str(caught.value)


def test_tls_is_1_2_at_least_and_verifies(tmp_path):
    context = tls_context(parse_target("https://host"))
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    loose = tls_context(parse_target("https://host", verify_tls=False))
    assert loose is not None and loose.verify_mode == ssl.CERT_NONE
    assert tls_context(parse_target("http://host")) is None


def test_a_file_that_is_no_certificate_is_refused():
    with pytest.raises(UsageError, match="TLS files cannot be used"):
        tls_context(parse_target("https://host", ca_file=__file__))


def test_the_authority_can_come_from_the_environment_where_there_is_tls(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELPORT_CA", __file__)
    assert str(parse_target("https://host").ca_file) == str(parse_target("grpcs://host").ca_file) == __file__
    assert parse_target("http://host").ca_file is None and parse_target("grpc://host").ca_file is None
    assert parse_target("https://host", verify_tls=False).ca_file is None
    other = tmp_path / "ca.pem"
    other.touch()
    assert parse_target("https://host", ca_file=other).ca_file == other
    monkeypatch.setenv("MODELPORT_CA", str(tmp_path / "lost.pem"))
    with pytest.raises(UsageError) as caught:
        parse_target("https://host")
    assert "MODELPORT_CA: no such file" in caught.value.why
