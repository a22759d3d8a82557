"""Promote a version, or go back to one: tried first, then switched, then proved; taken back when anything fails.

`config.pbtxt` is the switch. Versions that are loaded already are not loaded anew, so going back to a version that is
still loaded takes milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelport._process import wait_until
from modelport.client import Client
from modelport.errors import ModelportError, ServerError
from modelport.lifecycle import served, trial
from modelport.lifecycle.plan import Plan, Present, newest_candidate, own_config, plan, present, way_back
from modelport.lifecycle.served import Proven
from modelport.repository import config as configs
from modelport.repository import disk, events, journal, lock, switch
from modelport.repository.journal import STAGING, Note
from modelport.repository.layout import DEFAULT_REPOSITORY, state_folder, version_folder
from modelport.server import EmbeddedServer, connection
from modelport.server.handle import ServerHandle

Report = Callable[[str], None]
LOAD_TIMEOUT_S = 300.0
SETTLE_S = 10.0  # until a version that was taken out answers no more
PROMOTE, ROLLBACK = "promote", "rollback"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked.

    Attributes:
        what: In words.
        seconds: How long it took.
    """

    what: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Switched:
    """A change of the serving version.

    Attributes:
        operation: `promote` or `rollback`.
        model: Model name.
        version: The version that serves now.
        before: The version that served before; None where none did.
        loaded: The versions that are loaded now, ascending.
        server: Where it was proved: the running server's URL, or `a temporary server`.
        checks: What was checked, in order.
        switch_s: Seconds from the change of `config.pbtxt` until the new version was proved to serve.
        moved_aliases: Aliases that pointed at a version which is loaded no more; they point at `version` now.
    """

    operation: str
    model: str
    version: int
    before: int | None
    loaded: tuple[int, ...]
    server: str
    checks: tuple[Check, ...]
    switch_s: float
    moved_aliases: tuple[str, ...] = ()


def promote(
    model: str,
    version: int | None = None,
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    unload_old: bool = False,
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
        timeout_s: Seconds that one loading may take.
        report: Called with one line at each step.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such model or version, or no candidate.
        ManifestError: The version's files are not what was published.
        VerificationError: The server's answers are not the source's. The old version serves on.
        ServerError: It does not load. The old version serves on.
        RepositoryLockedError: Another process is changing this model.
    """
    operation = _Operation(
        name=PROMOTE, repository=Path(repository), unload_old=unload_old, timeout_s=timeout_s, report=report
    )
    return _change(model, version, operation)


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
    operation = _Operation(
        name=ROLLBACK, repository=Path(repository), unload_old=True, timeout_s=timeout_s, report=report
    )
    return _change(model, version, operation)


@dataclass(frozen=True, kw_only=True)
class _Operation:
    """What was asked for, and what has been checked so far."""

    name: str
    repository: Path
    unload_old: bool
    timeout_s: float
    report: Report
    checks: list[Check] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        self.report(what)
        started = time.monotonic()
        yield
        self.checks.append(Check(what=what, seconds=time.monotonic() - started))


def _change(model: str, version: int | None, op: _Operation) -> Switched:
    with journal.changing(op.repository, model) as repaired, _server(op) as (handle, where):
        if repaired:
            op.report(f"repairing what a killed {repaired.operation} of version {repaired.version} left")
        now = present(op.repository, model)
        back = op.name == ROLLBACK
        target = version if version is not None else way_back(now) if back else newest_candidate(now)
        folder = version_folder(op.repository, model, target)
        with op.step(f"comparing the files of version {target} with its manifest"):
            proven = served.read(folder)
        todo = plan(now, target, back=back, unload_old=op.unload_old, own=own_config(now, target))
        trial.clear(handle, model)
        if repaired or where != handle.http_url:
            _load_present(now, handle, op)
        try:
            if target not in handle.ready_versions(model):
                _try(now, todo, proven, handle, op)
            switch_s = _switch(now, todo, proven, handle, op)
        except ModelportError as exc:
            _happened(op, f"{op.name}_failed", f"version {target} does not serve: {exc.what}", now, target, error=True)
            raise
    done = "promoted" if op.name == PROMOTE else "rolled_back"
    text = f"serves in the place of version {now.serving}; switched in {switch_s:.3f} s" if now.serving else "serves"
    _happened(op, done, text, now, target, before=now.serving, switch_s=round(switch_s, 4))
    return Switched(
        operation=op.name,
        model=model,
        version=target,
        before=now.serving,
        loaded=todo.loaded,
        server=where,
        checks=tuple(op.checks),
        switch_s=switch_s,
        moved_aliases=todo.moved,
    )


@contextlib.contextmanager
def _server(op: _Operation) -> Iterator[tuple[ServerHandle, str]]:
    """The running server of the repository, or a temporary one."""
    handle = connection.find(op.repository)
    if handle is not None:
        yield handle, handle.http_url
        return
    op.report("no server is running: starting a temporary one")
    server = EmbeddedServer(op.repository, models=(), http_port=0, grpc_port=0, metrics_port=0)
    try:
        yield server.start().handle, "a temporary server"
    finally:
        server.stop(grace_s=0.0)  # nobody else asks it


def _load_present(now: Present, handle: ServerHandle, op: _Operation) -> None:
    """Bring the server to what the configuration says before it is changed."""
    if now.serving is None:
        return
    with contextlib.suppress(ServerError):  # a serving version that does not load is a reason to change it
        handle.load(now.model, timeout_s=op.timeout_s)


def _try(now: Present, todo: Plan, proven: Proven, handle: ServerHandle, op: _Operation) -> None:
    """Load the version beside the serving one and replay its evidence; callers do not get it yet."""
    folder = version_folder(op.repository, now.model, todo.target)
    with contextlib.ExitStack() as stack:
        with op.step(f"loading version {todo.target} on trial"):
            name = stack.enter_context(trial.trial(handle, folder, todo.config, timeout_s=op.timeout_s))
        with (
            Client(handle.http_url, timeout_s=served.TIMEOUT_S) as client,
            op.step(f"replaying the evidence of version {todo.target} through the server"),
        ):
            where = f"version {todo.target} on trial at {handle.http_url}"
            served.replay_all(client, proven, model=name, version=todo.target, where=where)
            served.replay_mixed(client, proven, model=name, version=todo.target, where=where)


def _switch(now: Present, todo: Plan, proven: Proven, handle: ServerHandle, op: _Operation) -> float:
    """Change the configuration, load, and prove it; else everything is put back. Gives the seconds."""
    note = Note(operation=op.name, model=now.model, version=todo.target, before=_before(now, todo))
    op.report(f"switching to version {todo.target}")
    with journal.noted(op.repository, note):
        started = time.monotonic()
        try:
            _write(now, todo)
            handle.load(now.model, timeout_s=op.timeout_s)
            _require_ready(now.model, todo.loaded, handle)
            with op.step(f"asking for version {todo.target} by its number and without"):
                _require_answers(now.model, todo.target, proven, handle)
            return time.monotonic() - started
        except BaseException as exc:
            _take_back(now, note, handle, op, exc)
            raise


def _before(now: Present, todo: Plan) -> dict[str, str | None]:
    folder = now.repository / now.model
    names = [*todo.labels, configs.CONFIG_FILE]
    return {n: (folder / n).read_text(encoding="utf-8") if (folder / n).is_file() else None for n in names}


def _write(now: Present, todo: Plan) -> None:
    with disk.errors(now.repository), lock.writer(now.repository):
        for name, text in todo.labels.items():
            path = now.repository / now.model / name
            disk.replace_text(path, text, through=state_folder(now.repository) / STAGING)
    switch.write(now.repository, now.model, todo.config, todo.record)


def _require_ready(model: str, wanted: tuple[int, ...], handle: ServerHandle) -> None:
    if wait_until(lambda: handle.ready_versions(model) == wanted, timeout_s=SETTLE_S):
        return
    raise ServerError(
        f"the server does not serve the versions of {model!r} that it was asked for",
        why=f"wanted are {_words(wanted)}; it serves {_words(handle.ready_versions(model))}",
        fix="look into the server's log; 'modelport status' shows what it says of each version",
    )


def _require_answers(model: str, target: int, proven: Proven, handle: ServerHandle) -> None:
    with Client(handle.http_url, timeout_s=served.TIMEOUT_S) as client:
        for version in (target, None):
            where = f"version {target}{'' if version else ', asked for without a version,'} at {handle.http_url}"
            served.replay_few(client, proven, model=model, version=version, where=where)


def _take_back(now: Present, note: Note, handle: ServerHandle, op: _Operation, exc: BaseException) -> None:
    """Everything as it was before the switch; what cannot be taken back is said with the error."""
    op.report(f"taking it back: version {now.serving} serves on" if now.serving else "taking it back")
    try:
        with disk.errors(now.repository), lock.writer(now.repository):
            journal.put_back(now.repository, note)
        if now.serving is None:
            with contextlib.suppress(ServerError):
                handle.unload(now.model)
            return
        handle.load(now.model, timeout_s=op.timeout_s)
        _require_ready(now.model, now.loaded, handle)
    except ModelportError as second:
        if isinstance(exc, ModelportError):
            exc.why = f"{exc.why}; and going back failed: {second.what} ({second.why})"


def _happened(
    op: _Operation, kind: str, text: str, now: Present, version: int, *, error: bool = False, **facts: object
) -> None:
    level = "error" if error else "info"
    events.append(op.repository, events.event(kind, text, model=now.model, version=version, level=level, **facts))


def _words(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions)) or "none"
