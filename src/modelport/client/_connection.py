"""Where a client connects to, and with what: the URL, the bearer token, the TLS files.

Everything a caller can get wrong about these is found here, before anything is opened, and listed together.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from modelport.errors import UsageError

TOKEN_VARIABLE = "MODELPORT_TOKEN"  # noqa: S105 - the name of the variable, not a token
CA_VARIABLE = "MODELPORT_CA"
DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 8001, "grpcs": 443}
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server as a client sees it.

    Attributes:
        scheme: `http`, `https`, `grpc` or `grpcs`.
        host: Name or address, without brackets.
        port: TCP port.
        path: Path in front of `/v2`, without a slash at its end. Always empty for gRPC.
        token: Bearer token, or empty. Never part of a message or a representation.
        ca_file: PEM file with the only authorities to trust; None for the system's.
        client_cert: PEM file with the caller's own certificate, or None.
        client_key: PEM file with its key, or None when it is in `client_cert`.
        verify_tls: False accepts any certificate.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    token: str = field(default="", repr=False)
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    verify_tls: bool = True

    @property
    def is_grpc(self) -> bool:
        """True for `grpc` and `grpcs`."""
        return self.scheme in ("grpc", "grpcs")

    @property
    def is_secure(self) -> bool:
        """True for `https` and `grpcs`."""
        return self.scheme in ("https", "grpcs")

    @property
    def authority(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL as it stands in messages."""
        return f"{self.scheme}://{self.authority}{self.path}"

    def headers(self) -> dict[str, str]:
        """What goes with every request, as lower-case HTTP header or gRPC metadata."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


def parse_target(
    url: str,
    *,
    token: str | None = None,
    ca_file: str | Path | None = None,
    client_cert: str | Path | None = None,
    client_key: str | Path | None = None,
    verify_tls: bool = True,
) -> Target:
    """Check the options of a connection.

    Args:
        url: `http://`, `https://`, `grpc://` or `grpcs://`, a host, and a port (80, 443, 8001, 443 where left out).
        token: Bearer token; None takes the environment variable MODELPORT_TOKEN, an empty text sends none.
        ca_file: PEM file with the only authorities to trust; None takes the environment variable MODELPORT_CA on a URL
            with TLS, and the system's where there is none.
        client_cert: PEM file with the caller's certificate, for servers that ask for one.
        client_key: PEM file with the certificate's key.
        verify_tls: False accepts any certificate (https only).

    Raises:
        UsageError: All that is wrong with them.
    """
    parts, problems = _split(url)
    token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
    if token and not _TOKEN.fullmatch(token):
        problems.append("the token holds a blank, a line break or a letter outside ASCII")
    scheme = parts.scheme if parts else ""
    ca_option = "ca_file"
    if ca_file is None and verify_tls and scheme in ("https", "grpcs"):
        ca_file, ca_option = os.environ.get(CA_VARIABLE) or None, CA_VARIABLE
    files = {ca_option: ca_file, "client_cert": client_cert, "client_key": client_key}
    problems += [f"{key}: no such file: {value}" for key, value in files.items() if value and not Path(value).is_file()]
    if client_key and not client_cert:
        problems.append("client_key was given without client_cert")
    if scheme in ("http", "grpc") and (any(files.values()) or not verify_tls):
        problems.append(f"TLS options have no effect on a {scheme}:// URL: use {scheme}s://")
    if scheme == "grpcs" and not verify_tls:
        problems.append("gRPC always verifies the server's certificate: give its authority as ca_file")
    if parts is None or problems:
        raise UsageError(
            f"cannot connect to {_shown(url)!r} with these options",
            why="; ".join(problems),
            fix="use a URL such as http://127.0.0.1:8000 or grpc://127.0.0.1:8001, with TLS options on https and grpcs",
        )
    return Target(
        scheme=scheme,
        host=parts.hostname or "",
        port=parts.port or DEFAULT_PORTS[scheme],
        path=parts.path.rstrip("/"),
        token=token,
        ca_file=_path(ca_file),
        client_cert=_path(client_cert),
        client_key=_path(client_key),
        verify_tls=verify_tls,
    )


def _split(url: str) -> tuple[SplitResult | None, list[str]]:
    """The URL's parts, or None, and what is wrong with it."""
    if "://" not in url:
        return None, [f"http:// is missing before {_shown(url)!r} (or https://, grpc://, grpcs://)"]
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is not a number from 0 to 65535
    except ValueError as error:
        return None, [f"the URL cannot be read: {error}"]
    problems = []
    if parts.scheme not in DEFAULT_PORTS:
        problems.append(f"the URL must start with one of {', '.join(s + '://' for s in DEFAULT_PORTS)}")
    if not parts.hostname or not _is_host(parts.hostname):
        problems.append("the URL names no host")
    if parts.username is not None or parts.password is not None:
        problems.append("the URL holds a user or password: pass a bearer token as token= instead")
    if parts.query or parts.fragment:
        problems.append("the URL holds a query or a fragment")
    if not re.fullmatch(r"[A-Za-z0-9/._~-]*", parts.path):
        problems.append("the URL's path holds something else than letters, digits and / . _ ~ -")
    if parts.scheme in ("grpc", "grpcs") and parts.path.strip("/"):
        problems.append("a gRPC URL has no path")
    return parts, problems


def _is_host(name: str) -> bool:
    if ":" in name:
        try:
            ipaddress.IPv6Address(name.split("%")[0])
        except ValueError:
            return False
        return True
    return re.fullmatch(r"[A-Za-z0-9_.-]+", name) is not None


def _shown(url: str) -> str:
    """The URL for a message: without a user and password that may be in it."""
    shown = re.sub(r"//[^/]*@", "//...@", url)
    return shown if len(shown) <= 100 else shown[:97] + "..."


def _path(value: str | Path | None) -> Path | None:
    return Path(value) if value else None


def tls_context(target: Target) -> ssl.SSLContext | None:
    """What HTTPS needs (TLS 1.2 at least), or None for plain HTTP.

    Raises:
        UsageError: A certificate file does not hold what it should.
    """
    if not target.is_secure:
        return None
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not target.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if target.client_cert:
            context.load_cert_chain(target.client_cert, target.client_key)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            "the TLS files cannot be used",
            why=f"{error} (ca_file={target.ca_file}, client_cert={target.client_cert}, client_key={target.client_key})",
            fix="give PEM files: authorities as ca_file, a certificate as client_cert, its plain key as client_key",
        ) from error
    return context
