"""What became of a model's calls, as its callers saw it: from the gateway's access log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from modelport.gateway import access_log
from modelport.gateway.access_log import Line
from modelport.gateway.routes.watch import NOTHING, Did

CALLERS_FAULT = (3, 5, 7, 12, 16)  # statuses of gRPC that say what is wrong with the request
OK, FAILED_FROM = 200, 500
PATIENCE = 4  # times what the quicker version takes, before a call that its caller gave up is held against a version


class Calls:
    """Counts the inferences of one model by version, from now on.

    Only calls whose version a route chose: who names one could hide what it does, or hold it up, by asking it alone.
    A call failed where its answer says that a server did (5xx, and what means the same over gRPC), and where none came
    before the gateway gave it up. One that its caller gave up failed where the server had it for long, and else counts
    for nobody, as do calls that reached no server.

    Args:
        log: The access log.
        model: Model name.
    """

    def __init__(self, log: Path, model: str) -> None:
        self._log, self._model = log, model
        self._did: dict[int, Did] = {}
        self._offsets: dict[str, int] = {}  # up to where each log was read
        for _ in self._new():  # what was before is passed over
            pass

    def read(self) -> Mapping[int, Did]:
        """What each version did since the beginning."""
        for lines in self._new():
            for line in access_log.requests(lines):
                if line is None or (line.kind, line.model) != ("infer", self._model):
                    continue
                if line.upstream and line.drawn:
                    self._add(line)
        return dict(self._did)

    def _new(self) -> Iterator[bytes]:
        for piece in access_log.pieces(self._log, lambda name: self._offsets.get(name, 0)):
            self._offsets[piece.name] = piece.end
            yield piece.lines

    def _add(self, line: Line) -> None:
        try:
            version, took_us, failed = int(line.version or 0), int(line.server_us or 0), _failed(line)
            if line.status == 0 and "DC" in line.flags.split(",") and not self._waited_long(line):
                return
        except ValueError:  # letters in place of a number, in a log that somebody else wrote into
            return
        before = self._did.get(version, NOTHING)
        self._did[version] = Did(
            answered=before.answered + (not failed),
            answered_us=before.answered_us + (0 if failed else took_us),
            failed=before.failed + failed,
        )

    def _waited_long(self, line: Line) -> bool:
        """Whether its caller gave up a call with which the server had taken longer than calls take."""
        means_us = [did.answered_us / did.answered for did in self._did.values() if did.answered]
        had_ms = int(line.ms or 0) - int(line.sent_ms or line.ms or 0) - 1  # both are cut to whole ones
        return bool(means_us) and 1000 * had_ms > PATIENCE * min(means_us)


def _failed(line: Line) -> bool:
    if line.status == OK and line.grpc_status:
        return int(line.grpc_status) not in (0, *CALLERS_FAULT)
    return line.status < OK or line.status >= FAILED_FROM
