"""Whether the processes that run models live: Triton does not notice when one dies, and the kernel knows at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.server import shared_memory, stubs
from modelport.server.handle import ServerHandle
from modelport.server.process_id import ProcessId

LOOK_ANEW_S = 5.0  # new stubs are looked for so often; those that are known are looked at each time
STOPPED_S = 1.0  # a stub that is stopped for so long will not go on by itself
_TICKS = os.sysconf("SC_CLK_TCK")
_STATE, _USER, _SYSTEM, _STARTED = 0, 11, 12, 19  # fields 3, 14, 15 and 22 of /proc/PID/stat, after the name

DEAD, STOPPED, ALIVE = "dead", "stopped", "alive"


@dataclass
class Stub:
    """One stub.

    Attributes:
        pid: Its process.
        started: When it started, in the kernel's ticks.
        model: The model that it runs.
        version: The version.
        region: Name of its shared memory in `/dev/shm`.
        state: `alive`, `stopped`, `dead`.
        since: Since when, on the supervisor's clock.
        looks: How many looks in a row found it so.
        cpu_s: Seconds of CPU that it has used.
    """

    pid: int
    started: str
    model: str
    version: int
    region: str
    state: str = ALIVE
    since: float = 0.0
    looks: int = 0
    cpu_s: float = 0.0

    def lost(self, now: float) -> bool:
        """Whether it will not answer again by itself. One that ends as it should is dead for a moment as well."""
        return (self.state == DEAD and self.looks >= 2) or (self.state == STOPPED and now - self.since >= STOPPED_S)


class Stubs:
    """The stubs of one server.

    Args:
        clock: Seconds that only grow.
        settled_s: Age in seconds from which shared memory that no stub uses is a dead one's.

    Attributes:
        dead: How many stubs that died the server keeps until it ends.
    """

    def __init__(self, clock: Callable[[], float], *, settled_s: float = stubs.SETTLED_S) -> None:
        self.dead = 0
        self._settled_s = settled_s
        self._clock = clock
        self._server: ProcessId | None = None
        self._looked_anew = float("-inf")
        self._known: dict[int, Stub] = {}
        self._written_off: set[int] = set()
        self._complained = False

    def look(self, handle: ServerHandle, *, anew: bool = False) -> None:
        """See how the stubs are.

        Args:
            handle: The server.
            anew: Look for new stubs too; this is done now and then in any case.
        """
        now = self._clock()
        if handle.server != self._server:
            self._server, self._known, self._written_off, self._complained = handle.server, {}, set(), False
            anew = True
        if anew or now - self._looked_anew >= LOOK_ANEW_S:
            self._looked_anew = now
            self._meet(handle)
        for stub in list(self._known.values()):
            self._see(stub, now)

    def of(self, model: str) -> list[Stub]:
        """The stubs of a model, those that were replaced left out."""
        known = list(self._known.values())  # others ask while this thread looks
        return [stub for stub in known if stub.model == model and stub.pid not in self._written_off]

    def alive(self, model: str, version: int) -> int:
        """How many processes run a version and live."""
        return sum(stub.version == version and stub.state == ALIVE for stub in self.of(model))

    def lost(self) -> dict[str, list[Stub]]:
        """Model to its stubs that will not answer again, where there are any."""
        found: dict[str, list[Stub]] = {}
        for stub in list(self._known.values()):
            if stub.pid not in self._written_off and stub.lost(self._clock()):
                found.setdefault(stub.model, []).append(stub)
        return found

    def taken_out(self, loaded: Mapping[str, Collection[int]], seen_at: float) -> None:
        """Write off those that were lost before their version was seen to be loaded no more.

        The kernel keeps a dead one's number; when its version is loaded again, it says nothing about that.

        Args:
            loaded: Model to the versions that are loaded.
            seen_at: When that was seen, on the supervisor's clock.
        """
        for model, lost in self.lost().items():
            self.write_off(s.pid for s in lost if s.since < seen_at and s.version not in loaded.get(model, ()))

    def write_off(self, pids: Iterable[int]) -> None:
        """These stubs were replaced: that they are lost matters no more."""
        self._written_off |= set(pids) & self._known.keys()

    def complaint(self) -> str:
        """What to say when the dead ones have become many; empty when they are few, or when it was said."""
        text = "" if self._complained else stubs.hint(self.dead)
        self._complained = self._complained or bool(text)
        return text

    def _meet(self, handle: ServerHandle) -> None:
        self.dead = stubs.dead(handle)
        living = stubs.find(handle)
        if len(shared_memory.entries(handle.shm_prefix)) > len(living):  # one died, and its version was taken out
            stubs.sweep(handle, settled_s=self._settled_s)
        for found in living:
            fields = _fields(found.pid)
            known = self._known.get(found.pid)
            if fields and (known is None or known.started != fields[_STARTED]):
                self._written_off.discard(found.pid)
                self._known[found.pid] = Stub(
                    pid=found.pid,
                    started=fields[_STARTED],
                    model=found.model,
                    version=found.version,
                    region=found.region,
                    since=self._clock(),
                )

    def _see(self, stub: Stub, now: float) -> None:
        fields = _fields(stub.pid)
        if not fields or fields[_STARTED] != stub.started:
            del self._known[stub.pid]
            self._written_off.discard(stub.pid)
            return
        state = DEAD if fields[_STATE] in "ZX" else STOPPED if fields[_STATE] == "T" else ALIVE
        stub.cpu_s = (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS
        if state == stub.state:
            stub.looks += 1
        else:
            stub.state, stub.since, stub.looks = state, now, 1


def _fields(pid: int) -> list[str]:
    """The fields of `/proc/PID/stat` after the program's name; none for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
