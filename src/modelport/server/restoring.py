"""Give a model whose stub died, was stopped or hangs working stubs again.

What was found with Triton 2.51.0, and what follows from it:

- A stub that died stays dead. Unloading its model never ends once a request has met the dead stub (that request holds
  the instance in the server for good), and all versions of the model are away meanwhile. A version whose folder became
  newer is loaded anew beside the old one, alone, in the time that loading takes; callers get the new one the moment it
  is ready, and the other versions are not touched. So the folder is touched, and the model is loaded.
- A stub that stood still for a second while a request waited for it, and then goes on, ends the whole server at the
  next request: its late answer is taken for another one's. So a stopped stub is killed before anything else.
- The instances beside the one that died stay with the old version, idle for good. So what is left of the old version is
  killed when its requests have had the time to end.
- What stays in the server until that ends, for each stub that died with a request: an entry of an ended process, some
  35 sleeping threads, and the memory of its region. Only the region's name is removed. A stub that died without a
  request leaves nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelport.errors import ServerError
from modelport.server import stubs
from modelport.server.stubs import Stub

if TYPE_CHECKING:
    from modelport.server.handle import ServerHandle


@dataclass(frozen=True, kw_only=True)
class Restored:
    """How a model came back.

    Attributes:
        model: Its name.
        versions: The versions that were loaded anew.
        ready: The versions that answer now.
        killed: Process numbers of stubs that were killed: stopped ones, and old ones that did not end by themselves.
        restored_s: Seconds until the new stubs answered.
        took_s: Seconds until nothing was left to do.
    """

    model: str
    versions: tuple[int, ...]
    ready: tuple[int, ...]
    killed: tuple[int, ...]
    restored_s: float
    took_s: float


def restore(
    handle: ServerHandle, model: str, *, versions: Collection[int] = (), timeout_s: float = 60.0, drain_s: float = 5.0
) -> Restored:
    """Load versions of a model anew beside the old ones, and end what is left of these.

    Args:
        handle: The server.
        model: Model name.
        versions: The versions that do not answer. None named: those that lack a stub or have a stopped one; where none
            does, all that are loaded, because one of them hangs.
        timeout_s: Seconds that loading may take.
        drain_s: Seconds that requests on the old stubs have to end after the new ones answer.

    Raises:
        ServerError: The model does not load, or its stubs are still the old ones.
        ServerTimeoutError: Loading took longer than `timeout_s`.
        RepositoryError: Its folder is not what may be loaded; see `ServerHandle.load`.
    """
    started = time.monotonic()
    before = stubs.find(handle, model)
    stopped = [stub for stub in before if stub.stopped]
    killed = stubs.finish(stopped)
    living = [stub for stub in before if not stub.stopped]
    chosen = tuple(sorted(versions)) or hurt(handle, model, living) or handle.ready_versions(model)
    ready = _load_anew(handle, model, chosen, {stub.pid for stub in before}, timeout_s)
    restored_s = time.monotonic() - started
    killed += stubs.finish([stub for stub in living if stub.version in chosen], grace_s=drain_s)
    stubs.sweep(handle)
    return Restored(
        model=model,
        versions=chosen,
        ready=ready,
        killed=killed,
        restored_s=restored_s,
        took_s=time.monotonic() - started,
    )


def hurt(handle: ServerHandle, model: str, living: Collection[Stub] | None = None) -> tuple[int, ...]:
    """The loaded versions of a model that have fewer working stubs than instances; none for an ensemble.

    Args:
        handle: The server.
        model: Model name.
        living: Its stubs that work; by default those that are found now and were not stopped.
    """
    instances = handle.instances(model)
    if living is None:
        living = [stub for stub in stubs.find(handle, model) if not stub.stopped]
    counts = [stub.version for stub in living]
    return tuple(version for version in handle.ready_versions(model) if counts.count(version) < instances)


def _load_anew(
    handle: ServerHandle, model: str, versions: tuple[int, ...], old: set[int], timeout_s: float
) -> tuple[int, ...]:
    """Load versions beside the old ones; all versions anew where that does not help."""
    for version in versions:
        _touch(handle, model, version)
    ready = handle.load(model, timeout_s=timeout_s)
    if _all_new(handle, model, versions, old):
        return ready
    handle.unload(model, timeout_s=timeout_s, force_after_s=0.0)
    ready = handle.load(model, timeout_s=timeout_s)
    if _all_new(handle, model, versions, old):
        return ready
    raise ServerError(
        f"model {model!r} has no new stubs though it was loaded anew",
        why="its instances did not start, or ended at once; the server's log may say more",
        fix="restart the server",
    )


def _all_new(handle: ServerHandle, model: str, versions: tuple[int, ...], old: set[int]) -> bool:
    instances = handle.instances(model)
    new = [stub.version for stub in stubs.find(handle, model) if stub.pid not in old]
    return all(new.count(version) >= instances for version in versions)


def _touch(handle: ServerHandle, model: str, version: int) -> None:
    """Make a version's folder newer than all that is in it, which makes Triton load that version anew.

    Where the folder is not ours to touch nothing happens; the version is then found not to be new.
    """
    folder = handle.repository_of(model) / model / str(version)
    with contextlib.suppress(OSError):
        newest = max(path.stat().st_mtime_ns for path in (folder, *folder.rglob("*")))
        now = time.time_ns()
        os.utime(folder, ns=(now, max(now, newest + 1)))
