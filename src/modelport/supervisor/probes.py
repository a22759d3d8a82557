"""Ask every loaded version for a golden answer, again and again, each with a deadline, and none waiting for another."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from modelport.client import Client
from modelport.errors import ModelportError
from modelport.supervisor import golden
from modelport.supervisor.answers import OK, Result, Track, kind_of

THREADS = 8  # so many versions may keep a golden request waiting, until those of others wait as well
Version = tuple[str, int]


class Prober:
    """Asks versions in threads of its own.

    Args:
        repository: The model repository, with the golden answers.
        interval_s: Seconds between two requests to a version that serves; others are asked less often.
        deadline_s: Seconds that an answer may take.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        repository: Path,
        *,
        interval_s: float,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._lock = threading.Lock()
        self._tracks: dict[Version, Track] = {}
        self._serving: frozenset[Version] = frozenset()
        self._questions: dict[Version, golden.Question] = {}
        self._client: Client | None = None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="modelport-probe")
        self._crash: BaseException | None = None
        self.counts: Counter[tuple[str, int, str]] = Counter()  # requests by model, version and kind of result

    def connect(self, url: str) -> None:
        """Ask the server at this URL from now on; what another one answered is forgotten."""
        self.disconnect()
        with self._lock:
            self._client = Client(url, timeout_s=self._deadline_s, retries=0, token="")

    def disconnect(self) -> None:
        """Ask nobody: the server is down."""
        with self._lock:
            client, self._client = self._client, None
            self._tracks = {}
            self._questions = {}
        if client is not None:
            client.close()

    def watch(self, versions: Mapping[Version, bool]) -> None:
        """Which versions to ask, each with whether callers get it; new ones are asked at once."""
        now = self._clock()
        with self._lock:
            for version in versions:
                if version not in self._tracks:
                    self._tracks[version] = Track(now=now, interval_s=self._interval_s, deadline_s=self._deadline_s)
                elif versions[version] and version not in self._serving:
                    self._tracks[version].next_at = now
            self._serving = frozenset(v for v, serving in versions.items() if serving)
            for gone in self._tracks.keys() - versions.keys():
                del self._tracks[gone]
                self._questions.pop(gone, None)

    def forget(self, model: str) -> None:
        """What the versions of a model answered counts no more; they are asked at once."""
        with self._lock:
            self._tracks = {version: track for version, track in self._tracks.items() if version[0] != model}

    def turn(self) -> None:
        """Start the requests that are due, and return at once."""
        if self._crash is not None:
            crash, self._crash = self._crash, None
            raise crash
        now = self._clock()
        with self._lock:
            due = [version for version, track in self._tracks.items() if self._client and track.due(now)]
            for version in due:
                self._tracks[version].running = True
        for version in due:
            self._pool.submit(self._asked, version).add_done_callback(self._done)

    def prove(self, version: Version, *, timeout_s: float) -> tuple[str, str] | None:
        """Ask one version now, and wait for the answer; it counts for nothing but the caller.

        Args:
            version: Model and version.
            timeout_s: Seconds that the answer may take; no fewer than a golden request has.

        Returns:
            The kind of result and why it is not ok; None when there is no server to ask.
        """
        with self._lock:
            client = self._client
        if client is None:
            return None
        kind, reason, _, _ = self._ask(client, version, None, max(timeout_s, self._deadline_s))
        return kind, reason

    def results(self) -> dict[Version, Result]:
        """The latest result of each version that was asked."""
        with self._lock:
            return {version: track.result for version, track in self._tracks.items() if track.result is not None}

    def stop(self) -> None:
        """Ask no more; requests that are on the way end with their deadlines."""
        self.disconnect()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _asked(self, version: Version) -> None:
        """Ask a version, and take in the result, unless the server or the version went away meanwhile."""
        with self._lock:
            client, asked, track = self._client, self._questions.get(version), self._tracks.get(version)
        if client is None or track is None:
            return
        try:
            kind, reason, latency_s, asked = self._ask(client, version, asked, self._deadline_s)
            with self._lock:
                if track is not self._tracks.get(version):
                    return
                if asked is not None:
                    self._questions[version] = asked
                track.record(
                    kind,
                    reason,
                    latency_s=latency_s,
                    now=self._clock(),
                    serving=version in self._serving,
                    versions=len(self._tracks),
                )
                self.counts[version[0], version[1], kind] += 1
        finally:
            track.running = False

    def _ask(
        self, client: Client, version: Version, asked: golden.Question | None, timeout_s: float
    ) -> tuple[str, str, float, golden.Question | None]:
        """Kind of result, why it is not ok, seconds, and what to ask the next time."""
        kind, reason, started = OK, "", self._clock()
        try:
            if asked is None:
                asked = golden.question(self._repository / version[0] / str(version[1]))
            started = self._clock()
            asked = golden.ask(client, asked, model=version[0], version=version[1], timeout_s=timeout_s)
        except ModelportError as error:
            kind, reason = kind_of(error), f"{error.what}: {error.why}" if error.why else error.what
        return kind, " ".join(reason.split()), self._clock() - started, asked

    def _done(self, future: Future[None]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._crash = future.exception()
