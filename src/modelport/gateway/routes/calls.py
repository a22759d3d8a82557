"""What became of a model's calls, as its callers saw it: from the gateway's access log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from modelport.gateway import access_log
from modelport.gateway.routes.watch import NOTHING, Did

CALLERS_FAULT = (3, 5, 7, 12, 16)  # statuses of gRPC that say what is wrong with the request
OK, FAILED_FROM = 200, 500


class Calls:
    """Counts the inferences of one model by version, from now on.

    A call failed where its answer says that a server did (5xx, and what means the same over gRPC), and where none came
    before the gateway or the caller gave it up. Calls that reached no server count for nobody.

    Args:
        log: The access log.
        model: Model name.
    """

    def __init__(self, log: Path, model: str) -> None:
        self._log, self._model = log, model
        self._word = json.dumps(model).encode()
        self._did: dict[int, Did] = {}
        self._offsets: dict[str, int] = {}  # up to where each log was read
        for _ in self._new():  # what was before is passed over
            pass

    def read(self) -> Mapping[int, Did]:
        """What each version did since the beginning."""
        for lines in self._new():
            for line in lines.splitlines():
                if self._word in line:
                    self._add(line)
        return dict(self._did)

    def _new(self) -> Iterator[bytes]:
        for piece in access_log.pieces(self._log, lambda name: self._offsets.get(name, 0)):
            self._offsets[piece.name] = piece.end
            yield piece.lines

    def _add(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            if found["kind"] != "infer" or found["model"] != self._model or not found["upstream"]:
                return
            version = int(found["version"] or 0)
            failed, took_us = _failed(found), int(found["server_us"] or 0)
        except (ValueError, KeyError, TypeError):
            return
        before = self._did.get(version, NOTHING)
        self._did[version] = Did(
            answered=before.answered + (not failed),
            answered_us=before.answered_us + (0 if failed else took_us),
            failed=before.failed + failed,
        )


def _failed(found: Mapping[str, object]) -> bool:
    status, grpc = int(str(found["status"])), str(found["grpc_status"])
    if status == OK and grpc:
        return int(grpc) != 0 and int(grpc) not in CALLERS_FAULT
    return status < OK or status >= FAILED_FROM
