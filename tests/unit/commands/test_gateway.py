"""The options of the gateway are checked before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.cli import main
from modelport.commands.gateway import settings
from modelport.errors import UsageError

USUAL = {
    "address": "127.0.0.1",
    "port": 0,
    "certificate": None,
    "key": None,
    "plain": False,
    "body_bytes": 1,
    "concurrency": 1,
}
PEM = Path("some.pem")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plain": True, "certificate": PEM, "key": PEM}, "exclude each other"),
        ({"certificate": PEM}, "go together"),
        ({"key": PEM}, "go together"),
        ({"plain": True, "key": PEM}, "go together"),
        ({"plain": True, "address": "0.0.0.0"}, "plain HTTP is not served on 0.0.0.0"),
        ({"urls": ["ftp://a:1"]}, "no server's URL"),
        ({"urls": ["http://a:1", "a:1"]}, "given twice"),
        ({"certificate": PEM, "key": PEM}, "some.pem"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        settings(tmp_path, **{**USUAL, **options})


def test_without_a_certificate_there_is_a_development_certificate_and_callers_are_told_what_to_trust(tmp_path):
    (tmp_path / "models").mkdir()
    made = settings(tmp_path / "models", **USUAL)
    assert made.tls and made.ca and made.ca.is_file() and str(made.ca) in made.trust
    assert not settings(tmp_path / "models", **{**USUAL, "plain": True}).trust


@pytest.mark.parametrize(
    "words", [["--plain"], ["--tls-cert", "a.pem", "--tls-key", "b.pem"], ["--otlp", "http://a:4318"]]
)
def test_options_of_the_gateway_without_one_are_not_passed_over(capsys, words):
    """Who asks for TLS and forgets `--gateway` must not get plain HTTP in silence."""
    assert main(["serve", *words]) == UsageError.exit_code
    assert "--gateway is missing" in capsys.readouterr().err
