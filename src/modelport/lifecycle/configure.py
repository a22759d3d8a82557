"""Change how a model is served, not which version of it: written, loaded, proved; taken back when anything fails.

A running server loads the model anew beside what answers, and callers notice nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from modelport.errors import ManifestError, ModelportError, VersionNotFoundError
from modelport.lifecycle import served, settle
from modelport.lifecycle.plan import Present, present
from modelport.repository import config as configs
from modelport.repository import disk, events, journal, lock, switch
from modelport.repository.journal import STAGING, Note
from modelport.repository.layout import check_path, state_folder, version_folder, version_numbers
from modelport.server import connection, model_folder
from modelport.server.handle import ServerHandle

CONFIGURE = "configure"
LOAD_TIMEOUT_S = settle.LOAD_TIMEOUT_S
Change = Callable[[configs.ModelConfig], configs.ModelConfig]
Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Configured:
    """What was written.

    Attributes:
        path: The file.
        server: The running server's URL that has loaded it; empty where none did.
    """

    path: Path
    server: str = ""


def configure(
    model: str,
    change: Change,
    *,
    reason: str,
    repository: Path,
    timeout_s: float = LOAD_TIMEOUT_S,
    report: Report = lambda _: None,
) -> Configured:
    """Change a model's `config.pbtxt`; a running server takes it up and is asked for golden answers.

    Args:
        model: Model name.
        change: Gives the new configuration for the present one; it leaves versions and tensors alone.
        reason: One line, kept with the configuration.
        repository: The model repository.
        timeout_s: Seconds that the loading may take.
        report: Called with one line at each step.

    Raises:
        ModelNotFoundError: There is no such model.
        VersionNotFoundError: None of its versions serves.
        ManifestError: Its configuration cannot be read.
        ServerError, VerificationError, ClientError: The server does not load it, or does not answer as it should; what
            was there before is back.
        RepositoryLockedError: Another process is changing this model.
    """
    check_path(repository)
    version_numbers(repository, model)  # for a model that is not there, nothing is made
    model_folder.check_model(repository, model)
    with journal.changing(repository, model, report=report):
        now = present(repository, model)
        if now.serving is None:
            raise VersionNotFoundError(
                f"no version of {model!r} serves",
                why="there is nothing to configure",
                fix="promote a version first",
                model=model,
            )
        config = change(now.config)
        handle = connection.find(repository)
        if handle is None:
            report(f"writing {model}/{configs.CONFIG_FILE}; no server is running")
            switch.write(repository, model, config, replace(now.record, tuned=reason))
            _tell_late(now)
        else:
            _switch(now, config, reason, handle, timeout_s, report)
        events.append(repository, events.event("configured", reason, model=model, version=now.serving))
    path = repository / model / configs.CONFIG_FILE
    return Configured(path=path, server=handle.http_url if handle is not None else "")


def write_beside(model: str, name: str, change: Change, *, reason: str, repository: Path) -> Configured:
    """Write `configs/<name>.pbtxt` in a model's folder, which Triton takes when it is started with
    `--model-config-name <name>`. The `config.pbtxt` stays as it is.

    Triton loads a model anew, once, when something beside its versions has changed: a running server does so now, and
    not when a rollback should take milliseconds.

    Raises:
        ModelNotFoundError, ManifestError, RepositoryError, ServerError: As `configure`.
    """
    version_numbers(repository, model)
    path = repository / model / "configs" / f"{name}.pbtxt"
    with journal.changing(repository, model), lock.writer(repository):
        config = change(present(repository, model).config)
        disk.make_folder(path.parent)
        text = f"# modelport tune: {' '.join(reason.split())}\n{configs.text(config)}"
        disk.replace_text(path, text, through=state_folder(repository) / STAGING)
    handle = connection.find(repository)
    if handle is not None and handle.ready_versions(model):
        with journal.changing(repository, model):
            handle.load(model, timeout_s=LOAD_TIMEOUT_S)
    return Configured(path=path)


def _switch(
    now: Present, config: configs.ModelConfig, reason: str, handle: ServerHandle, timeout_s: float, report: Report
) -> None:
    """Write, load, prove; else the file is put back, and the server follows it."""
    before = journal.texts(now.repository, now.model, [configs.CONFIG_FILE])
    note = Note(operation=CONFIGURE, model=now.model, version=now.serving or 0, before=before, loads=True)
    try:
        with journal.noted(now.repository, note):
            report(f"writing {now.model}/{configs.CONFIG_FILE}; {handle.http_url} loads it")
            switch.write(now.repository, now.model, config, replace(now.record, tuned=reason))
            handle.load(now.model, timeout_s=timeout_s)
            settle.require_ready(now.model, now.loaded, handle)
            _prove(replace(now, config=config), handle)
    except BaseException as exc:
        report("taking it back")
        try:
            settle.follow(now.repository, now.model, handle)
        except ModelportError as second:
            if isinstance(exc, ModelportError):
                exc.why = f"{exc.why}; and going back to what was there failed: {second.what} ({second.why})"
        raise
    journal.loaded(now.repository, now.model)


def _prove(now: Present, handle: ServerHandle) -> None:
    if now.serving is None:
        return
    with contextlib.suppress(ManifestError):  # without evidence there is nothing to compare with
        folder = version_folder(now.repository, now.model, now.serving)
        proven = served.read(folder, compare_files=False).under(now.config)
        settle.require_answers(now.model, now.serving, proven, handle)


def _tell_late(now: Present) -> None:
    """Let a server follow that was started meanwhile."""
    handle = connection.find(now.repository)
    if handle is not None:
        journal.note_to_load(now.repository, now.model)
        settle.follow(now.repository, now.model, handle)
