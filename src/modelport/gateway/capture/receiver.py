"""`Receiver`: takes what the gate sends of captured requests, and keeps it. One thread in the supervisor's process.

    gate (Envoy)  --POST over <state>/gateway/capture.sock-->  queue  -->  decode, redact, encrypt, write

Taking comes first: a call is answered as soon as it is read, and what then waits is bounded, in number and in bytes.
What comes beyond is dropped and counted, as is what cannot be decoded: it could not be redacted. Nothing of a request's
content goes anywhere but through `redaction.redact` into the encrypted files; counts and failures tell none of it.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport.errors import EnvironmentUnfitError, ModelportError
from modelport.gateway import private
from modelport.gateway.capture import keeper as keepers
from modelport.gateway.capture import secret, stored
from modelport.gateway.capture.decoding import Pair, decode
from modelport.gateway.capture.framing import BadRequestError, Framing
from modelport.gateway.capture.keeper import Keeper, TooLargeError
from modelport.gateway.capture.redaction import redact
from modelport.gateway.capture.stored import AREA, Rule
from modelport.repository import events

SOCKET = "capture.sock"
COUNTS = "counts"
CONNECTIONS = 16
BODY_MOST = 64 << 20
WAITING_MOST = 256
WAITING_BYTES = 64 << 20
EXPIRE_S = 60.0
END_S = 5.0
_READ = 256 << 10
_PASSES = 8  # looks at the sockets without a pause, until one that waits is kept all the same
_ANSWER = b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n"
TAKEN, REFUSED, BAD = (_ANSWER % status for status in (b"200 OK", b"503 Service Unavailable", b"400 Bad Request"))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of what came.

    Attributes:
        received: Requests that the gate sent.
        kept: Those that were written.
        dropped: Reason to number, such as `queue full`.
    """

    received: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


class Receiver:
    """Receives and keeps, from `start` to `stop`.

    Args:
        repository: The model repository.
        waiting_most: How many requests may wait until they are kept.
        body_most: The largest request with its answer, in bytes.
    """

    def __init__(self, repository: Path, *, waiting_most: int = WAITING_MOST, body_most: int = BODY_MOST) -> None:
        self._repository = repository
        self._waiting_most, self._body_most = waiting_most, body_most
        self._path = private.folder(repository, SOCKET)
        self._waiting: deque[Pair] = deque()
        self._waiting_bytes = 0
        self._received = self._kept = 0
        self._dropped: Counter[str] = Counter()
        self._keeper: Keeper | None = None
        self._key_seen: object = None
        self._trouble = ""  # with rules or key, that was told last
        self._rules: dict[str, Rule] = {}
        self._rules_seen: object = None
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self._expired_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="modelport-capture", daemon=True)

    @property
    def counts(self) -> Counts:
        """What became of what came since the start."""
        return Counts(received=self._received, kept=self._kept, dropped=dict(self._dropped))

    def alive(self) -> bool:
        """Whether it receives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Listen, and receive in a thread.

        Raises:
            EnvironmentUnfitError: The socket cannot be made.
            RepositoryError: The disk refuses.
        """
        with private.locked(self._repository, AREA):  # makes the folders, for their owner alone
            self._path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with private.socket_name(self._path) as name:
                    listener.bind(name)
                self._path.chmod(0o600)
                listener.listen(CONNECTIONS)
                listener.setblocking(False)
            except OSError as exc:
                listener.close()
                raise EnvironmentUnfitError(
                    "nothing can be captured: the socket for it cannot be made",
                    why=f"{exc}, for {self._path}",
                    fix="see that the folder is on a file system that can hold sockets, and can be written",
                ) from exc
        self._selector.register(listener, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Keep what has come, finish the files, and end; what is not kept within five seconds is dropped."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(END_S)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._look()
            until = time.monotonic() + END_S / 2
            while self._waiting and time.monotonic() < until:
                self._keep_next()
        finally:
            if self._waiting:
                self._dropped["stopped"] += len(self._waiting)
            if self._keeper is not None:
                self._keeper.close()
            for key in list(self._selector.get_map().values()):
                _close(self._selector, key.fileobj)
            self._selector.close()
            self._path.unlink(missing_ok=True)
            self._tell()

    def _look(self) -> None:
        """Take what has come; keep one of those that wait."""
        for _ in range(_PASSES):
            events = self._selector.select(0 if self._waiting else 0.2)
            for key, _mask in events:
                if key.data is None:
                    self._accept(key.fileobj)
                else:
                    self._take(key.fileobj, key.data)
            if not events:
                break
        if self._waiting:
            self._keep_next()
        if time.monotonic() - self._expired_at >= EXPIRE_S:
            self._expired_at = time.monotonic()
            with contextlib.suppress(OSError):
                keepers.expire(self._repository, time.time())
            if self._keeper is not None:
                self._keeper.close_old(time.time())
            self._tell()

    def _accept(self, listener: Any) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            if len(self._selector.get_map()) > CONNECTIONS:
                connection.close()
                return
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, Framing(self._body_most))

    def _take(self, connection: Any, framing: Framing) -> None:
        try:
            data = connection.recv(_READ)
            for headers, body in framing.feed(data):
                connection.send(TAKEN if self._taken(headers, body) else REFUSED)
        except BlockingIOError:
            return
        except BadRequestError:
            self._dropped["no request of the gate"] += 1
            with contextlib.suppress(OSError):
                connection.send(BAD)
            data = b""
        except OSError:
            data = b""
        if not data:
            _close(self._selector, connection)

    def _taken(self, headers: Mapping[str, str], body: bytes | None) -> bool:
        self._received += 1
        if body is None:
            self._dropped["too large"] += 1
        elif len(self._waiting) >= self._waiting_most or self._waiting_bytes + len(body) > WAITING_BYTES:
            self._dropped["queue full"] += 1
        else:
            self._waiting.append(Pair(headers=headers, body=body, at=time.time()))
            self._waiting_bytes += len(body)
            return True
        return False

    def _keep_next(self) -> None:
        pair = self._waiting.popleft()
        self._waiting_bytes -= len(pair.body)
        try:
            reason = self._keep(pair)
        except Exception as exc:  # a defect loses one record; what it says may hold a caller's data
            reason = f"failed ({type(exc).__name__})"
        if reason:
            self._dropped[reason] += 1
        else:
            self._kept += 1

    def _keep(self, pair: Pair) -> str:
        """Why a pair is not kept; empty where it is."""
        try:
            rule = self._current_rules().get(pair.headers.get("x-model", ""))
            if rule is None:
                return "no rule"
            self._current_keeper().keep(redact(decode(pair), rule), rule)
            self._trouble = ""
        except ValueError:
            return "cannot be decoded"
        except TooLargeError:
            return "too large"
        except OSError:
            return "the disk refused"
        except ModelportError as exc:  # the rules or the key cannot be read
            if str(exc) != self._trouble:
                self._trouble = str(exc)
                events.append(self._repository, events.event("capture_refused", str(exc), level="error"))
            return f"no rules or no key ({type(exc).__name__})"
        return ""

    def _current_keeper(self) -> Keeper:
        """It writes with the key that is there now: what is encrypted with one that is gone, nobody can read."""
        seen = _seen(secret.path(self._repository))
        if self._keeper is not None and seen != self._key_seen:
            self._keeper.close()
            self._keeper = None
        if self._keeper is None:
            self._keeper = Keeper(self._repository, secret.read_or_make(self._repository))
            self._key_seen = _seen(secret.path(self._repository))
        return self._keeper

    def _current_rules(self) -> dict[str, Rule]:
        """The rules that hold now; read again when their file was replaced."""
        seen = _seen(stored.path(self._repository))
        if seen != self._rules_seen:
            self._rules = stored.rules(self._repository)
            self._rules_seen = seen
        return self._rules

    def _tell(self) -> None:
        """Leave the counts for `modelport capture`."""
        now = self.counts
        if not now.received and not now.dropped:
            return
        content = {"received": now.received, "kept": now.kept, "dropped": dict(now.dropped)}
        with contextlib.suppress(OSError, ModelportError):
            private.write(private.folder(self._repository, AREA, COUNTS), json.dumps(content).encode())


def told(repository: Path) -> Counts:
    """The counts that the last receiver left, at most a minute old while it runs; zeros where there are none."""
    try:
        return Counts(**json.loads(private.folder(repository, AREA, COUNTS).read_text()))
    except (OSError, ValueError, TypeError):
        return Counts()


def _seen(path: Path) -> object:
    """What changes when a file is replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _close(selector: selectors.BaseSelector, connection: Any) -> None:
    with contextlib.suppress(KeyError, ValueError):
        selector.unregister(connection)
    connection.close()
