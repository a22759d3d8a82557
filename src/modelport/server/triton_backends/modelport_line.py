"""How long the line of waiting requests may get before a model, and who is refused when it is longer.

Triton's own limits (`default_queue_policy`) turn off its prefetching, and then its batcher sleeps up to half a second
although requests wait and the model is free. So the two Python-based backends bound the line themselves: while a model
is busy without a pause, they ask Triton's metrics a few times a second how many requests wait. When more do than are
answered in `modelport_max_wait_ms`, the oldest are refused unrun until half of that is left. Callers see 503 or
UNAVAILABLE within about the run's time and a fraction of a second.

It runs in Triton's Python stub as a plain module beside a backend's `model.py`.
"""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from modelport_config import Config

LONGEST_WAIT_MS = 750
PARAMETER = "modelport_max_wait_ms"  # 0 leaves the line unbounded
LEAST_RUNS = 4  # so many runs' worth of requests may always wait

_LOOK_S = 0.1  # between two looks at the line
_LOOK_PART = 20  # a look may take one part in so many of the time
_PAUSE_S = 0.005  # a model that waited so long for its next request, and longer than it ran, is not busy
_BLIND_S = 10.0  # after a look that failed
_CHUNK = 64  # so many are refused before the next look: other instances refuse as well
_GAUGE = "nv_inference_pending_request_count"


class Line:
    """Says of each `execute` call whether its requests are refused.

    Args:
        config: The model's configuration.
        waiting: Tells how many requests wait for the model; raises OSError or ValueError when it cannot.
        clock: Seconds.
    """

    def __init__(
        self, config: Config, waiting: Callable[[], int] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        text = config.parameters.get(PARAMETER)
        self._wait_s = (LONGEST_WAIT_MS if text is None else config.number(PARAMETER)) / 1000
        self._least = LEAST_RUNS * max(1, config.max_batch_size) * max(1, config.instances)
        self._instances = max(1, config.instances)
        self._cutting = False
        self._waiting = waiting or Gauge(config.name, config.folder.name)
        self._clock = clock
        self._bounded = self._wait_s > 0 and not config.queue_policy
        self._rate = 0.0  # requests per second of one instance
        self._ran_s = 0.0
        self._busy_since = self._ended = self._next_look = clock()
        self._excess = 0  # requests still to refuse

    def refuses(self, count: int) -> bool:
        """Whether the `count` requests of a call that begins now are refused."""
        if not self._bounded:
            return False
        now = self._clock()
        if now - self._ended > max(_PAUSE_S, self._ran_s):
            self._busy_since, self._excess, self._cutting = now, 0, False
        if self._excess <= 0 and now - self._busy_since >= _LOOK_S and now >= self._next_look:
            self._look(now)
        if self._excess <= 0:
            return False
        self._excess -= count
        self._ended = self._clock()
        return True

    def answered(self, count: int, began: float) -> None:
        """A call with `count` requests that began at `began` (the clock's seconds) was answered."""
        self._ended = self._clock()
        self._ran_s = self._ended - began
        rate = count / max(self._ran_s, 1e-6)
        self._rate = 0.8 * self._rate + 0.2 * rate if self._rate else rate

    def _look(self, now: float) -> None:
        try:
            waiting = self._waiting()
        except (OSError, ValueError):
            self._next_look = now + _BLIND_S
            return
        most = max(self._least, self._wait_s * self._rate * self._instances)
        excess = int(waiting - most / 2) if waiting > most or self._cutting else 0
        self._excess = min(excess, max(_CHUNK, excess // 4))
        self._cutting = excess > self._excess
        done = self._clock()
        self._next_look = done if self._cutting else done + max(_LOOK_S, _LOOK_PART * (done - now))


class Gauge:
    """Reads from Triton's metrics how many requests wait for one version of a model.

    Args:
        model: Model name.
        version: Version number, as text.
    """

    def __init__(self, model: str, version: str) -> None:
        # The labels of the configuration's `metric_tags` come before.
        labels = re.escape(f'model="{model}",version="{version}"}} ')
        self._line = re.compile(rf"^{_GAUGE}{{(?:.*,)?{labels}(.+)$", re.MULTILINE)

    def __call__(self) -> int:
        """The number of waiting requests.

        Raises:
            OSError: The metrics cannot be had.
            ValueError: They do not tell it.
        """
        connection = http.client.HTTPConnection(*_metrics(), timeout=1.0)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except http.client.HTTPException as exc:
            raise OSError(str(exc)) from exc
        finally:
            connection.close()
        found = self._line.search(text)
        if found is None:
            raise ValueError("the metrics do not tell how many requests wait")
        return int(float(found[1]))


def _metrics() -> tuple[str, int]:
    """Address and port of the metrics, from the command line of the server that started this stub."""
    words = Path(f"/proc/{os.getppid()}/cmdline").read_text(encoding="utf-8").split("\0")
    options = dict(word.split("=", 1) for word in words if "=" in word)
    try:
        return options["--metrics-address"], int(options["--metrics-port"])
    except KeyError as exc:
        raise OSError(f"the server was started without {exc}") from exc
