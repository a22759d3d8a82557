"""Every failure of a request becomes one of modelport's errors here, and nowhere else.

The transports recognise their library's exceptions and call one of these functions; words, error class and whether a
retry may help are decided here, the same for HTTP and gRPC, sync and asyncio.
"""

from __future__ import annotations

import re
import socket
import ssl

from modelport.client._calls import Call
from modelport.client._connection import Target
from modelport.errors import (
    ClientError,
    DeadlineError,
    ModelNotFoundError,
    ModelportError,
    RemoteError,
    RequestError,
    UnavailableError,
    UnreachableError,
    VersionNotFoundError,
)

# gRPC's codes as the HTTP status that Triton or a gateway gives for the same thing.
STATUS_OF_CODE = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
# What modelport's gateway says more exactly than gRPC can, in the trailer `modelport-code`, as an HTTP status.
STATUS_OF_WORD = {"too_large": 413, "unsupported": 415}
RETRIED_STATUS = frozenset({429, 502, 503})
_FIX_OF_STATUS = {
    401: "pass the key that you were given as token=, or in the environment variable MODELPORT_TOKEN",
    403: "ask the owner of the service to allow this key this model",
    404: "compare the URL and the model's name with what the owner of the service told you",
    413: "send fewer rows in one request",
    429: "send less at a time, or give retries more room with a larger timeout_s",
    502: "look whether the server behind this address is up, and try again",
    503: "the server is overloaded or starting: try again later, or give retries more room with a larger timeout_s",
    504: "the server behind the gateway took too long: look at its load, or send fewer rows in one request",
}
_UNKNOWN = re.compile(r"(?:unknown model: |there is no model )'(?P<model>[^']*)'(?: version (?P<version>\d+))?")
_UNVERIFIED = re.compile(r"CERTIFICATE_VERIFY_FAILED:? *(?P<reason>[^:]*)")  # gRPC tells it only in words
_NO_ALIAS = "the model has no version '"  # says modelport's gateway
_NO_NUMBER = re.compile(r"^Not Found$|version should be an integral value")  # says Triton, which knows no aliases
_NONE_READY = "has no available versions"
_LOST = re.compile(r"stub process '[^']*' is not healthy", re.IGNORECASE)
_TENSOR = re.compile(r"(?:input|output) '([^']+)'")
_NOISE = re.compile(r"^\[request id: [^\]]*\] ")
_MESSAGE_MAX = 500


def unreachable(target: Target, cause: BaseException | str) -> UnreachableError:
    """No connection could be made.

    Args:
        target: The server.
        cause: The exception, or the reason in words.
    """
    why, fix = _why_no_connection(target, cause)
    error = UnreachableError(f"cannot connect to {target.url}", why=why, fix=fix, url=target.url)
    error.retryable = not _is_tls_failure(cause)
    return error


def broken(target: Target, call: Call, cause: BaseException | str) -> UnreachableError:
    """The connection ended before the whole answer had come."""
    error = UnreachableError(
        f"the connection to {target.url} broke before {call.subject} had answered",
        why=f"the server, or something in between, closed it ({_words(cause)})",
        fix=f"look at the server's log; try again{_or_tls(target)}",
        url=target.url,
    )
    error.retryable = True
    return error


def late(target: Target, call: Call, timeout_s: float) -> DeadlineError:
    """The whole answer did not come by the deadline."""
    return DeadlineError(
        f"{call.subject} at {target.url} did not answer within {timeout_s:g} s",
        why="the model is slower than that, its queue is long, or the network is",
        fix="give more time with timeout_s=, send fewer rows in one request, or look at the server's load",
        timeout_s=timeout_s,
    )


def unreadable(target: Target, call: Call, cause: BaseException | str, status: int = 200) -> RemoteError:
    """The answer is not one that an inference server gives."""
    return RemoteError(
        f"the answer of {target.url} for {call.subject} cannot be read",
        why=f"it is not what a Triton server sends: {_words(cause)}",
        fix=f"check that a Triton server's {'gRPC' if target.is_grpc else 'HTTP'} port, with or without TLS as in the "
        "URL, is at this address",
        status=status,
    )


def no_place(target: Target, call: Call, timeout_s: float, places: int) -> DeadlineError:
    """The deadline passed while earlier calls of the same client took all its places."""
    return DeadlineError(
        f"{call.subject} at {target.url} was not asked within {timeout_s:g} s",
        why=f"{places} earlier calls of this client are still on their way, which is the most it allows",
        fix="give the client a larger concurrency=, more time with timeout_s=, or look whether the server hangs",
        timeout_s=timeout_s,
    )


def closed(target: Target) -> ClientError:
    """The client is used after `close()`."""
    return ClientError(
        f"this client for {target.url} is closed",
        why="close() was called, or its `with` block has ended",
        fix="make a new client, or keep the calls inside the block",
    )


def refused(
    target: Target, call: Call, status: int, message: str, retry_after_s: float | None = None
) -> ModelportError:
    """The server, or a gateway in front of it, answered with an error.

    Args:
        target: The server.
        call: What was asked.
        status: HTTP status, or what `STATUS_OF_CODE` has for a gRPC code.
        message: Its explanation.
        retry_after_s: What it said about when to come back.
    """
    message = _clean(message)
    missing = _not_found(target, call, status, message)
    if missing is not None:
        return missing
    if status == 500 and _LOST.search(message):
        return _lost(target, call, status, message)
    what = f"{target.url} refused the request for {call.subject} with status {status}"
    if status >= 500:
        what = f"{target.url} failed on {call.subject} with status {status}"
    fix = _FIX_OF_STATUS.get(status, "correct the request" if status < 500 else "look at the server's log")
    tensor = _TENSOR.search(message)
    error: ClientError
    if status in RETRIED_STATUS:
        error = UnavailableError(what, why=message, fix=fix, status=status)
    elif status >= 500:
        error = RemoteError(what, why=message, fix=fix, status=status)
    else:
        error = RequestError(what, why=message, fix=fix, status=status, tensor=tensor.group(1) if tensor else "")
    error.retryable = status in RETRIED_STATUS
    error.retry_after_s = retry_after_s
    return error


def _lost(target: Target, call: Call, status: int, message: str) -> UnavailableError:
    """A process of the model has ended.

    Not to be sent again at once: this request may be what ended it, and until the model is loaded anew Triton takes a
    second for each one, one after the other.
    """
    return UnavailableError(
        f"{target.url} cannot run {call.subject} now (status {status})",
        why=f"a process of the model has ended: {message}",
        fix="ask again in some seconds: 'modelport serve' loads it anew; if it stays so, look at the server's log",
        status=status,
    )


def _not_found(target: Target, call: Call, status: int, message: str) -> ModelportError | None:
    if status not in (400, 404):
        return None
    if isinstance(call.version, str) and call.model is not None and (missing := _no_alias(target, call, message)):
        return missing
    found = _UNKNOWN.search(message)
    if found is None:
        return None
    model = found["model"]
    fix = "check the name; the owner of the service can list what is served with 'modelport list'"
    if _NONE_READY in message:
        fix = "ask again when it is loaded; the owner of the service sees what is with 'modelport status'"
    if found["version"]:
        return VersionNotFoundError(
            f"{target.url} serves no version {found['version']} of model {model!r}",
            why="this version was never published, is not loaded yet, or was taken out of service",
            fix="leave the version out, and the one that serves answers; this one is let serve by its owner with "
            f"'modelport promote {model}/{found['version']}'",
            model=model,
            version=int(found["version"]),
        )
    return ModelNotFoundError(
        f"{target.url} serves no model {model!r}", why=f"the server says: {message}", fix=fix, model=model
    )


def _no_alias(target: Target, call: Call, message: str) -> ModelportError | None:
    """An alias that is not there, or that was asked of a server that knows none."""
    if message.startswith(_NO_ALIAS):
        why = "no version was given this alias, or it points at one that is not loaded"
        fix = "compare it with what the owner of the service told you, who sees all with 'modelport list'"
    elif _NO_NUMBER.search(message):
        why = "what answers there is Triton itself, which knows version numbers only"
        fix = "ask the gateway ('modelport serve --gateway'), which knows aliases; or name a version by its number"
    else:
        return None
    return VersionNotFoundError(
        f"{target.url} knows no alias {call.version!r} of model {call.model!r}",
        why=why,
        fix=fix,
        model=call.model,
        alias=call.version,
    )


def _why_no_connection(target: Target, cause: BaseException | str) -> tuple[str, str]:
    """Reason and remedy, in words."""
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens on port {target.port} of {target.host}", "start the server, or correct the URL"
    if isinstance(cause, socket.gaierror):
        return f"the host name {target.host!r} is not known here ({cause.strerror})", "correct the host in the URL"
    unverified = _unverified(cause)
    if unverified is not None:
        return (
            f"the server's certificate is not accepted: {unverified}",
            "give the authority that signed it as ca_file= or in the environment variable MODELPORT_CA, and use the "
            "host name that stands in it",
        )
    if _is_tls_failure(cause):
        return f"TLS could not be agreed on: {_words(cause)}", f"check that a {target.scheme}:// server is at this port"
    return _words(cause), f"start the server, or correct the URL{_or_tls(target)}"


def _unverified(cause: BaseException | str) -> str | None:
    """Why a certificate is not accepted; None where that is not the matter."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    found = _UNVERIFIED.search(cause) if isinstance(cause, str) else None
    return None if found is None else _clean(found["reason"]) or "it cannot be verified"


def _or_tls(target: Target) -> str:
    """A port with TLS closes a connection without it, and says nothing."""
    return "" if target.is_secure else f"; where the port is one with TLS, use {target.scheme}s://"


def _is_tls_failure(cause: BaseException | str) -> bool:
    """Whether another try would fail the same way. gRPC tells it only in words."""
    if isinstance(cause, str):
        return "CERTIFICATE_VERIFY_FAILED" in cause or "SSL_ERROR_SSL" in cause
    return isinstance(cause, ssl.SSLError)


def _words(cause: BaseException | str) -> str:
    return _clean(str(cause)) or type(cause).__name__


def _clean(message: str) -> str:
    """A foreign text for our message: one line, printable, not endless."""
    line = " ".join(_NOISE.sub("", message).split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= _MESSAGE_MAX else line[: _MESSAGE_MAX - 3] + "..."
