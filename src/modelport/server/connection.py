"""`<state>/server.json`: how any command finds the server that a running service keeps for a repository.

It holds the secret that opens the restricted APIs, so only its owner may read it, and nothing of it is logged. It is
true while the server's process, told by its number and start, lives; nobody has to remove it after a crash.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelport.errors import EnvironmentUnfitError, ServerTimeoutError
from modelport.server.handle import ServerHandle
from modelport.server.process_id import ProcessId

SERVER_FILE = "server.json"


def state_folder(repository: Path) -> Path:
    """The state folder of a repository, where nothing else was asked for: `<repository>.state` beside it."""
    return Path(f"{repository.resolve()}.state")


def write(state: Path, handle: ServerHandle) -> Path:
    """Make a server known. The file is replaced in one step.

    Args:
        state: The state folder.
        handle: The server; its `supervisor` and `health_url` say who watches over it.

    Returns:
        The file.

    Raises:
        EnvironmentUnfitError: The state folder cannot be written.
    """
    path = state / SERVER_FILE
    new = state / f".{SERVER_FILE}.{secrets.token_hex(4)}"
    try:
        state.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(handle), file, indent=1, default=str)
        new.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            new.unlink()
        raise EnvironmentUnfitError(
            f"the file {path} cannot be written",
            why=str(exc),
            fix="make the state folder writable, or name another one with state_dir=",
        ) from exc
    return path


def read(state: Path) -> ServerHandle | None:
    """The server that the file names, whether it still runs or not; None where there is no such file or it is damaged.

    Args:
        state: The state folder.
    """
    try:
        return _handle(json.loads((state / SERVER_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find(repository: Path, *, state: Path | None = None, timeout_s: float = 10.0) -> ServerHandle | None:
    """The running server of a repository; also one whose supervisor was killed, for it still serves.

    Args:
        repository: The model repository.
        state: Its state folder; by default the one beside it.
        timeout_s: Seconds that the server may take to say that it lives.

    Returns:
        The server; None when none was made known, or the one that was has ended.

    Raises:
        ServerTimeoutError: Its process lives and does not answer. It may serve again in a moment, so whoever changes
            the repository must not go on as if there were none.
        EnvironmentUnfitError: There may be one, but the file that tells is another user's.
    """
    folder = state_folder(repository) if state is None else state
    _check_readable(repository, folder / SERVER_FILE)
    handle = read(folder)
    if handle is None or handle.repository != repository.resolve() or not handle.running():
        return None
    if handle.live(timeout_s=timeout_s):
        return handle
    if not handle.running():
        return None
    who = handle.http_url if handle.remote else f"process {handle.server_pid}"
    raise ServerTimeoutError(
        f"the server of {repository} ({who}) did not answer within {timeout_s:g} s",
        why="it is starting, busy, or it hangs",
        fix="wait and try again; if it stays so, stop 'modelport serve' and start it again",
        timeout_s=timeout_s,
    )


def _check_readable(repository: Path, path: Path) -> None:
    try:
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise EnvironmentUnfitError(
            f"whether a server of {repository} runs cannot be told: {path.name} cannot be read",
            why=f"{exc}; only its owner may, for it opens the server's control API",
            fix="work as the user who runs 'modelport serve'; if none runs, remove the file",
        ) from exc


def remove(state: Path, handle: ServerHandle) -> None:
    """Take back what `write` made known; a file that names another server meanwhile stays.

    Args:
        state: The state folder.
        handle: The server that is known no longer.
    """
    known = read(state)
    if known is not None and known.server == handle.server:
        with contextlib.suppress(OSError):
            (state / SERVER_FILE).unlink()


def _handle(fields: dict[str, Any]) -> ServerHandle:
    fields["server"], fields["repository"] = ProcessId(**fields["server"]), Path(fields["repository"])
    fields["supervisor"] = ProcessId(**fields["supervisor"]) if fields["supervisor"] else None
    fields["inside"] = tuple(fields["inside"])
    for name in ("trial", "log"):
        fields[name] = Path(fields[name]) if fields[name] else None
    return ServerHandle(**fields)
