"""The verb `replay`: send captured requests to a version of the running server, and compare the answers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from modelport.client import Client
from modelport.commands.capture import read_kept
from modelport.errors import ServerError, UsageError, VersionNotFoundError
from modelport.gateway.capture import replaying
from modelport.gateway.capture.replaying import Replayed
from modelport.lifecycle import served
from modelport.repository import switch
from modelport.repository.layout import DEFAULT_REPOSITORY, version_folder, version_numbers
from modelport.repository.versions import serving_version
from modelport.server import connection
from modelport.spec import parse_version


def replay(
    name: str,
    *,
    to: str | None = None,
    since_s: float | None = None,
    limit: int | None = None,
    url: str | None = None,
    timeout_s: float = 30.0,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> Replayed:
    """Send captured requests to a version, and compare its answers with the captured ones within its tolerance.

    They go to the server itself, not through the gateway: no key is needed, and nothing counts against a quota.

    Args:
        name: Model name.
        to: A loaded version, or an alias; the serving version where it is left out.
        since_s: Only what was captured in so many last seconds.
        limit: Only the latest so many.
        url: Another server, such as `http://10.0.0.5:8000`; the running server of the repository where it is left out.
        timeout_s: Seconds for one request.
        token: Bearer token for `url`.
        ca_file: PEM file with the only authorities to trust for the certificate of `url`.
        repository: Folder of the model repository.

    Raises:
        ServerError: No server runs for the repository.
        ModelNotFoundError, VersionNotFoundError: There is no such model or version, or it is not loaded.
        UsageError: There is no such alias, or nothing is kept.
        ManifestError: The version has no evidence, or the key cannot be read.
        UnreachableError: The server stopped answering.
    """
    root = Path(repository)
    version = _version(root, name, to)
    proven = served.read(version_folder(root, name, version), compare_files=False)
    since = 0.0 if since_s is None else time.time() - since_s
    exchanges, damaged = read_kept(root, name, since=since, limit=limit)
    own: dict[str, Any] = (
        {"token": token, "ca_file": None if ca_file is None else Path(ca_file)} if url else {"token": ""}
    )
    with Client(url or _running(root), timeout_s=timeout_s, **own) as client:
        return replaying.replay([*exchanges, *damaged], client, proven, model=name)


def _running(root: Path) -> str:
    """Where the repository's own server answers."""
    handle = connection.find(root)
    if handle is None:
        raise ServerError(
            f"no server runs for {root}",
            why="captured requests are sent to the running server",
            fix="start it with 'modelport serve', or name another one with --url",
        )
    return handle.http_url


def _version(root: Path, name: str, to: str | None) -> int:
    version_numbers(root, name)
    if to is None:
        serving = serving_version(root, name)
        if serving is None:
            raise VersionNotFoundError(
                f"no version of {name!r} serves", why="none is loaded", fix="promote one first", model=name
            )
        return serving
    if to.isdecimal():
        return parse_version(to)
    aliases = switch.read(root, name)[1].aliases
    if to not in aliases:
        raise UsageError(
            f"{name!r} has no alias {to!r}",
            why=f"it has {', '.join(sorted(aliases)) or 'none'}",
            fix="name a version or one of these",
        )
    return aliases[to]
