"""Try a version in the running server before it takes traffic.

Triton sends requests that name no version to the highest one that is ready, so a new version would answer callers from
the moment it is loaded. It is therefore loaded first under another name, `<model>.trial`, from the server's second
repository, which holds nothing else. Only what has answered there as its evidence says is loaded under its own name.

A version on trial always has a process of its own, also one that will run in the server's: a crash or a hang is then
the trial's alone, and the process stands back behind what answers callers. Threads of low priority in the server's own
process do not: callers waited for what they held (p99 during a promotion was several times as long).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import ModelportError, ServerError
from modelport.repository import config as configs
from modelport.repository import merge
from modelport.server import stubs
from modelport.server.control import UNAVAILABLE
from modelport.server.handle import ServerHandle
from modelport.spec import TRIAL_SUFFIX

UNLOAD_S = 10.0
GRACE_S = 3.0  # nobody but the trial asks it, so nothing is in flight
LOOK_S = 0.02  # a stub takes ten times as long until it begins to load
NICE = 19  # where all want more than there is, 1.5 % of what a process gets that answers callers


def trial_name(model: str) -> str:
    """The name under which a version of `model` is tried."""
    return f"{model}{TRIAL_SUFFIX}"


@contextlib.contextmanager
def trial(
    handle: ServerHandle, folder: Path, config: configs.ModelConfig, *, timeout_s: float = 120.0, hurry: bool = False
) -> Iterator[str]:
    """Load a version under its trial name; unloaded and removed afterwards.

    Args:
        handle: The running server.
        folder: The version folder.
        config: The configuration that the version is to be served with.
        timeout_s: Seconds that loading may take.
        hurry: Take the processor from those that answer callers, where there is not enough for all.

    Raises:
        ServerError: It does not load; the reason is Triton's.
        OSError: The disk refused.
    """
    model = folder.parent.name
    place = _root(handle) / trial_name(model)
    clear(handle, model)
    try:
        place.mkdir(parents=True)
        if handle.remote:  # its path may be another one there
            shutil.copytree(folder, place / folder.name)
        else:
            (place / folder.name).symlink_to(folder.resolve())
        for name in {tensor.label_filename for tensor in config.output if tensor.label_filename}:
            own = folder / name
            (place / name).write_bytes((own if own.is_file() else folder.parent / name).read_bytes())
        alone = _alone(config, int(folder.name), apart=config.backend in handle.inside)
        (place / configs.CONFIG_FILE).write_text(configs.text(alone), encoding="utf-8")
        with contextlib.nullcontext() if hurry else gently(handle, trial_name(model)):
            _load(handle, trial_name(model), timeout_s)
        yield trial_name(model)
    finally:
        clear(handle, model)


def _load(handle: ServerHandle, name: str, timeout_s: float) -> None:
    """Load it. A server that somebody else started may not have been given the folder.

    Raises:
        ServerError: It does not load.
    """
    try:
        handle.load(name, timeout_s=timeout_s)
    except ServerError as exc:
        if not handle.remote or any(state.model == name for state in handle.index()):
            raise
        raise ServerError(
            f"the server at {handle.http_url} does not see what is to be tried",
            why=f"{_root(handle)} is none of its model repositories",
            fix="start it with this folder as a second --model-repository; docs/compose.md shows how",
        ) from exc


def clear(handle: ServerHandle, model: str) -> None:
    """Unload what is tried of a model, also what a killed command left, and remove its folder."""
    name = trial_name(model)
    with contextlib.suppress(ModelportError):  # a server that is gone has nothing loaded; the next start is empty
        if any(state.model == name and state.state not in ("", UNAVAILABLE) for state in handle.index()):
            handle.unload(name, timeout_s=UNLOAD_S, force_after_s=GRACE_S)
    shutil.rmtree(_root(handle) / name, ignore_errors=True)


@contextlib.contextmanager
def gently(handle: ServerHandle, name: str) -> Iterator[None]:
    """Give the stub that begins during the block less of the processor than those that answer callers.

    A process that was made to stand back so cannot be moved forward again, which is no loss: it ends with the trial.
    """
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_S):
            if found := stubs.find(handle, name):
                for stub in found:
                    _stand_back(stub.pid)
                return

    thread = threading.Thread(target=watch, name="modelport-gently", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _stand_back(pid: int) -> None:
    """Lower the priority of all threads of a process; those that they start later take it over."""
    with contextlib.suppress(OSError):  # it ended, or is another user's
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), NICE)


def left(handle: ServerHandle) -> list[str]:
    """The models of which something is on trial, or was when its command was killed."""
    if handle.trial is None or not handle.trial.is_dir():
        return []
    return sorted(path.name.removesuffix(TRIAL_SUFFIX) for path in handle.trial.iterdir())


def _root(handle: ServerHandle) -> Path:
    if handle.trial is None:
        raise ServerError(
            "the running server has no trial repository",
            why="it was not started by 'modelport serve' or EmbeddedServer of this release",
            fix="stop it and start it again",
        )
    return handle.trial


def _alone(config: configs.ModelConfig, version: int, *, apart: bool) -> configs.ModelConfig:
    """The configuration for the trial: one instance of one version, in a process apart from the server's own."""
    own = merge.copy(config)
    own.name = trial_name(config.name)
    configs.set_versions(own, [version])
    for group in own.instance_group:
        group.count = 1
    if apart:
        own.runtime = "model.py"  # the backend in Python, in a process of its own
    return own
