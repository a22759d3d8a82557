"""Bring a running server to what a model's files say, after an operation failed or was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from modelport._process import wait_until
from modelport.client import Client
from modelport.errors import ManifestError, ModelNotFoundError, RepositoryLockedError, ServerError
from modelport.lifecycle import served, trial
from modelport.lifecycle.plan import present
from modelport.repository import events, journal
from modelport.repository.layout import version_folder
from modelport.server.handle import ServerHandle

LOAD_TIMEOUT_S = 300.0
READY_S = 10.0  # until a version that was taken out answers no more


def settle(repository: Path, handle: ServerHandle) -> list[str]:
    """Finish what killed commands left behind, in all models that nobody is changing now.

    Files are put back, the server loads what they say, and versions on trial are unloaded. For whoever watches over
    the server, every few seconds: where nothing is left, it costs two listings of folders.

    Args:
        repository: The model repository.
        handle: Its running server.

    Returns:
        The models for which something was done.

    Raises:
        RepositoryError: The disk refused.
        ServerError: The server did not load what the files say.
    """
    done = []
    for model in sorted({*journal.pending(repository), *journal.to_load(repository), *trial.left(handle)}):
        with contextlib.suppress(RepositoryLockedError), journal.changing(repository, model, timeout_s=0) as note:
            trial.clear(handle, model)
            if model in journal.to_load(repository):
                follow(repository, model, handle)
            if note is not None:
                text = f"a killed {note.operation} of version {note.version} was taken back"
                events.append(repository, events.event("taken_back", text, model=model, version=note.version))
            done.append(model)
    return done


def follow(repository: Path, model: str, handle: ServerHandle, *, timeout_s: float = LOAD_TIMEOUT_S) -> None:
    """Let the server load what a model's files say, and prove it.

    Args:
        repository: The model repository.
        model: Model name; its lock is held.
        handle: The running server.
        timeout_s: Seconds that loading may take.

    Raises:
        ServerError: It does not load, or other versions answer than the files say.
        VerificationError, ClientError: The serving version does not answer as its evidence says.
        ManifestError: The model's configuration cannot be read.
    """
    try:
        now = present(repository, model)
    except ModelNotFoundError:
        journal.loaded(repository, model)
        return
    handle.end_loads(model, keep=now.loaded)  # else the load waits for it
    if now.serving is None:
        handle.unload(model)
    else:
        handle.load(model, timeout_s=timeout_s)
        require_ready(model, now.loaded, handle)
        with contextlib.suppress(ManifestError):  # without evidence there is nothing to compare with
            proven = served.read(version_folder(repository, model, now.serving), compare_files=False).under(now.config)
            require_answers(model, now.serving, proven, handle)
    journal.loaded(repository, model)


def require_ready(model: str, wanted: Iterable[int], handle: ServerHandle) -> None:
    """Wait until exactly these versions answer.

    Raises:
        ServerError: They do not.
    """
    versions = tuple(wanted)
    if wait_until(lambda: handle.ready_versions(model) == versions, timeout_s=READY_S):
        return
    raise ServerError(
        f"the server does not serve the versions of {model!r} that it was asked for",
        why=f"wanted are {_words(versions)}; it serves {_words(handle.ready_versions(model))}",
        fix="look into the server's log; 'modelport status' shows what it says of each version",
    )


def require_answers(model: str, version: int, proven: served.Proven, handle: ServerHandle) -> None:
    """Ask for a version by its number, and without one, and compare with its evidence.

    Raises:
        VerificationError: The answers are others.
        ClientError: There is no answer.
    """
    with Client(handle.http_url, timeout_s=served.TIMEOUT_S, token="") as client:
        for asked in (version, None):
            where = f"version {version}{'' if asked else ', asked for without a version,'} at {handle.http_url}"
            served.replay_one(client, proven, model=model, version=asked, where=where)


def _words(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions)) or "none"
