"""Promote a version, or go back to one: tried first, then switched, then proved; taken back when anything fails.

`config.pbtxt` is the switch. Versions that are loaded already are not loaded anew, so going back to a version that is
still loaded takes milliseconds.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelport.errors import ModelportError, RepositoryError, UsageError
from modelport.lifecycle import gating, served, settle, turn
from modelport.lifecycle.gating import Gates
from modelport.lifecycle.plan import Present, newest_candidate, present, require_checked, settings, way_back
from modelport.lifecycle.turn import PROMOTE, ROLLBACK, Operation, Report, Server, Switched
from modelport.repository import config as configs
from modelport.repository import drops, events, journal, merge, switch
from modelport.repository.layout import DEFAULT_REPOSITORY, check_path, version_folder, version_numbers
from modelport.server import connection, model_folder

LOAD_TIMEOUT_S = settle.LOAD_TIMEOUT_S


def promote(
    model: str,
    version: int | None = None,
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    unload_old: bool = False,
    override: str | None = None,
    timeout_s: float = LOAD_TIMEOUT_S,
    report: Report = lambda _: None,
) -> Switched:
    """Let a version serve in the place of the one that does.

    It is loaded beside that one under another name, its evidence is replayed through the server, and only then does it
    take traffic. Without a running server all this is done in a temporary one.

    Args:
        model: Model name.
        version: The version; left out, the newest that never served.
        repository: Folder of the model repository.
        unload_old: Take the version before out at once. Else it stays loaded, so that going back takes milliseconds.
        override: Why it may serve whatever the model's gates say; kept with the version, and as an event.
        timeout_s: Seconds that one loading may take, and one answer on trial.
        report: Called with one line at each step.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such model or version, or no candidate.
        ManifestError: The version's files are not what was published.
        VerificationError: The server's answers are not the source's. The old version serves on.
        GateError: The version is not worth what the model's gates ask for, or that cannot be told. As before.
        DataError: There is no data to judge it with, or it does not fit. As before.
        ServerError: It does not load. The old version serves on.
        RepositoryLockedError: Another process is changing this model.
        InvalidNameError: A name or the repository's path breaks its rule.
        UsageError: `timeout_s` is not above 0, or `override` says nothing.
    """
    if override is not None and not override.strip():
        raise UsageError(
            "the gates cannot be overridden without a reason",
            why="--override is empty, and the reason is kept for those who ask later",
            fix='write for example --override "the old version leaks memory"',
        )
    operation = Operation(
        name=PROMOTE, repository=Path(repository), unload_old=unload_old, timeout_s=timeout_s, report=report
    )
    return _change(model, version, operation, override=override)


def rollback(
    model: str,
    version: int | None = None,
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    timeout_s: float = LOAD_TIMEOUT_S,
    report: Report = lambda _: None,
) -> Switched:
    """Let the version serve again that served before, or the one that is named.

    Args:
        model: Model name.
        version: The version; left out, the one that served before the serving one.
        repository: Folder of the model repository.
        timeout_s: Seconds that loading may take, where the version is not loaded any more.
        report: Called with one line at each step.

    Raises:
        VersionNotFoundError: There is no version to go back to.
        ModelportError: As `promote`.
    """
    operation = Operation(
        name=ROLLBACK, repository=Path(repository), unload_old=True, timeout_s=timeout_s, report=report
    )
    return _change(model, version, operation)


def _change(model: str, version: int | None, op: Operation, *, override: str | None = None) -> Switched:
    _check_timeout(op.timeout_s)
    check_path(op.repository)
    version_numbers(op.repository, model)  # for a model that is not there, nothing is made
    model_folder.check_model(op.repository, model)
    with journal.changing(op.repository, model, report=op.report) as repaired:
        if repaired:
            op.report(f"repairing what a killed {repaired.operation} of version {repaired.version} left")
        now = _mended(present(op.repository, model), op)
        back = op.name == ROLLBACK
        target = version if version is not None else way_back(now) if back else newest_candidate(now)
        try:
            done = _tried(now, target, op, override)
        except (ModelportError, OSError) as exc:
            why = exc.what if isinstance(exc, ModelportError) else str(exc)
            _happened(op, f"{op.name}_failed", f"version {target} does not serve: {why}", now, target, "error")
            raise
        with contextlib.suppress(RepositoryError):  # it serves; why it once was refused or taken out is past
            drops.forget(op.repository, model, target)
        kind = "promoted" if op.name == PROMOTE else "rolled_back"
        place = f" in the place of version {now.serving}" if now.serving else ""
        text = f"serves{place}; switched in {done.switch_s:.3f} s" if target != now.serving else "serves already"
        _happened(op, kind, text, now, target, before=now.serving, switch_s=round(done.switch_s, 4))
    return done


def _check_timeout(timeout_s: float) -> None:
    if not (timeout_s > 0 and math.isfinite(timeout_s)):
        raise UsageError(
            f"a version cannot load in {timeout_s:g} s",
            why="the time that a loading may take is a number of seconds above 0",
            fix="give more time, or leave it out",
        )


def _tried(now: Present, target: int, op: Operation, override: str | None) -> Switched:
    """Compare the files, then change the version in a server."""
    folder = version_folder(op.repository, now.model, target)
    require_checked(now, target)
    with op.step(f"comparing the files of version {target} with its manifest"):
        proven = served.read(folder)
    config, _ = settings(now, target)  # raises where it could not be served
    back = op.name == ROLLBACK  # what served once may serve again, and soon
    gates = Gates(now=now, target=target)
    if not back:
        gates = gating.gates(now, target, largest=config.max_batch_size, override=override or "")
    with _server(op) as server:
        done = turn.change(now, target, proven, server, op, gates)
    if server.temporary:
        _tell_late(now.model, op)
    return done


def _mended(now: Present, op: Operation) -> Present:
    """The model without versions in its policy that have no folder: with them, nothing of it could be loaded."""
    named = configs.versions_of(now.config)
    missing = sorted({*named} - {*now.numbers})
    if not missing:
        return now
    op.report(f"{now.model}/config.pbtxt names version {_words(missing)}, which is not there: taken out")
    config = merge.copy(now.config)
    configs.set_versions(config, now.loaded)
    switch.write(now.repository, now.model, config, now.record)
    return present(now.repository, now.model)


@contextlib.contextmanager
def _server(op: Operation) -> Iterator[Server]:
    """The running server of the repository, or a temporary one."""
    handle = connection.find(op.repository)
    if handle is not None:
        yield Server(handle=handle, temporary=False)
        return
    from modelport.server import EmbeddedServer  # most changes need none of their own

    op.report("no server is running: starting a temporary one")
    server = EmbeddedServer(op.repository, models=(), http_port=0, grpc_port=0, metrics_port=0)
    try:
        yield Server(handle=server.start().handle, temporary=True)
    finally:
        server.stop(grace_s=0.0)  # nobody else asks it


def _tell_late(model: str, op: Operation) -> None:
    """Let a server follow that was started while the change was made in a temporary one."""
    journal.note_to_load(op.repository, model)
    handle = connection.find(op.repository)
    if handle is not None:
        op.report(f"a server was started meanwhile: {handle.http_url}")
        settle.follow(op.repository, model, handle, timeout_s=op.timeout_s)


def _happened(
    op: Operation, kind: str, text: str, now: Present, version: int, level: str = "info", **facts: object
) -> None:
    events.append(op.repository, events.event(kind, text, model=now.model, version=version, level=level, **facts))


def _words(versions: Iterable[int]) -> str:
    return ", ".join(map(str, versions)) or "none"
