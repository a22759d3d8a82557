"""Foreign failures become modelport's errors: the right class, three parts, and whether a retry may help."""

from __future__ import annotations

import socket
import ssl

import pytest

from modelport.client import _errors
from modelport.client._calls import Infer
from modelport.client._connection import parse_target
from modelport.errors import (
    ModelNotFoundError,
    RemoteError,
    RequestError,
    UnavailableError,
    UnreachableError,
    VersionNotFoundError,
)

TARGET = parse_target("http://models:8000", token="s3cret")
CALL = Infer(model="m", version=2, inputs=())


def refused(status: int, message: str):
    return _errors.refused(TARGET, CALL, status, message)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (301, RequestError, False),
        (400, RequestError, False),
        (401, RequestError, False),
        (403, RequestError, False),
        (404, RequestError, False),
        (408, RequestError, False),
        (413, RequestError, False),
        (429, UnavailableError, True),
        (500, RemoteError, False),
        (501, RemoteError, False),
        (502, UnavailableError, True),
        (503, UnavailableError, True),
        (504, RemoteError, False),
    ],
)
def test_each_status_has_its_class(status, kind, retryable):
    error = refused(status, "because")
    assert type(error) is kind
    assert (error.status, error.retryable) == (status, retryable)
    assert error.what and error.why == "because" and error.fix
    assert "model 'm' version 2" in error.what and str(status) in error.what


def test_an_unknown_model_or_version_is_its_own_error():
    error = refused(404, "Request for unknown model: 'm' is not found")
    assert type(error) is ModelNotFoundError and error.model == "m"
    error = refused(404, "Request for unknown model: 'm' version 2 is not found")
    assert type(error) is VersionNotFoundError and (error.model, error.version) == ("m", 2)
    error = refused(400, "Request for unknown model: 'm' has no available versions")
    assert type(error) is ModelNotFoundError and "no available versions" in error.why
    assert "when it is loaded" in error.fix and "check the name" not in error.fix
    assert type(refused(500, "Request for unknown model: 'm' is not found")) is RemoteError
    error = refused(404, "there is no model 'm'")  # the gateway's words
    assert type(error) is ModelNotFoundError and error.model == "m"


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (404, "the model has no version 'stable'", "'modelport list'"),  # the gateway
        (404, "Not Found", "'modelport serve --gateway'"),  # Triton over HTTP
        (
            400,
            "failed to get model version from specified version string 'stable' (details: stol), version should be an "
            "integral value > 0",
            "'modelport serve --gateway'",
        ),  # and over gRPC
    ],
)
def test_an_alias_that_the_server_does_not_know_is_a_version_that_is_not_there(status, message, told):
    call = Infer(model="m", version="stable", inputs=())
    error = _errors.refused(TARGET, call, status, message)
    assert type(error) is VersionNotFoundError and (error.model, error.alias) == ("m", "stable")
    assert "alias 'stable' of model 'm'" in error.what and told in error.fix
    assert type(refused(404, "Not Found")) is RequestError, "nothing of that is said of a number"


@pytest.mark.parametrize(("scheme", "told"), [("http", True), ("grpc", True), ("https", False), ("grpcs", False)])
def test_a_connection_that_breaks_without_tls_may_have_met_a_port_with_tls(scheme, told):
    target = parse_target(f"{scheme}://models:8443", token="")
    for error in (_errors.broken(target, CALL, "closed"), _errors.unreachable(target, "Socket closed")):
        assert (f"use {scheme}s://" in error.fix) is told


def test_a_process_of_the_model_that_ended_is_unavailable_and_is_not_sent_again():
    """It may come back; but the request may be what ended it, and each further one costs the others a second."""
    words = "Failed to process the request(s) for model instance 'm_0_0', message: Stub process 'm_0_0' is not healthy."
    error = refused(500, words)
    assert type(error) is UnavailableError and (error.status, error.retryable) == (500, False)
    assert words in error.why and "ask again in some seconds" in error.fix
    assert type(refused(400, words)) is RequestError


def test_a_refusal_names_the_tensor_and_drops_the_noise():
    error = refused(400, "[request id: <id_unknown>] unexpected inference input 'z' for model 'm'")
    assert error.tensor == "z"
    assert error.why.startswith("unexpected")


def test_foreign_texts_cannot_fill_or_steer_the_terminal():
    error = refused(500, "a\x1b[2J\nb" + "x" * 10_000)
    assert "\x1b" not in str(error) and "\n" not in error.why and len(error.why) <= 500


@pytest.mark.parametrize(
    ("cause", "why", "retryable"),
    [
        (ConnectionRefusedError(111, "refused"), "nothing listens on port 8000 of models", True),
        (socket.gaierror(-2, "Name or service not known"), "'models' is not known here", True),
        (OSError(113, "No route to host"), "No route to host", True),
        (ssl.SSLError(1, "wrong version number"), "TLS could not be agreed on", False),
        ("... SSL_ERROR_SSL: wrong version ...", "TLS could not be agreed on", False),
        (
            "x: CERTIFICATE_VERIFY_FAILED: certificate has expired: OK",
            "is not accepted: certificate has expired",
            False,
        ),
        ("... CERTIFICATE_VERIFY_FAILED", "is not accepted: it cannot be verified", False),
    ],
)
def test_no_connection_says_why(cause, why, retryable):
    error = _errors.unreachable(TARGET, cause)
    assert type(error) is UnreachableError
    assert why in error.why and error.fix and error.url == "http://models:8000"
    assert error.retryable is retryable


def test_every_error_of_this_module_has_three_parts_and_no_secret():
    made = [
        _errors.unreachable(TARGET, OSError()),
        _errors.broken(TARGET, CALL, ConnectionResetError()),
        _errors.late(TARGET, CALL, 0.1),
        _errors.unreadable(TARGET, CALL, ValueError("x")),
        _errors.no_place(TARGET, CALL, 0.1, 3),
        _errors.closed(TARGET),
        *(refused(status, "x") for status in range(300, 600)),
    ]
    for error in made:
        assert error.what and error.why and error.fix, error
        assert "s3cret" not in str(error)
