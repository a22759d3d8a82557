"""How long a call may take, and what is sent again.

Sent again, at most `retries` times and only while the deadline leaves room for it: what could not be delivered
(refused, reset, host not found), and answers by which the server or a gateway says "not now" (429, 502, 503;
UNAVAILABLE and RESOURCE_EXHAUSTED over gRPC). Inference on the stateless models that modelport serves changes
nothing on the server, so that a request whose connection broke before the whole answer came is sent again too.
Never sent again: what the server refused for its content (other 4xx), what failed inside a model or ended
its process (500), a passed deadline, an answer that cannot be read, a certificate that cannot be verified.
"""

from __future__ import annotations

import logging
import random
import time

from modelport.errors import ClientError

WAIT_FIRST_S = 0.1
WAIT_MAX_S = 2.0
_log = logging.getLogger("modelport.client")


class Deadline:
    """A moment by which a call must have ended.

    Args:
        timeout_s: Seconds from now.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds that are left; 0 when the moment has passed."""
        return max(0.0, self._end - time.monotonic())


class Retries:
    """Decides after each failure of one call whether and when it is sent again.

    The wait before retry n is random between the half and the whole of `WAIT_FIRST_S * 2**(n-1)`, at most
    `WAIT_MAX_S`, so that clients which failed together do not come back together. A server's Retry-After counts as
    the least wait. When the wait does not fit into what the deadline leaves, the failure is final at once: waiting for
    a deadline that cannot be met helps nobody.

    Args:
        retries: Most retries.
        deadline: Of the whole call.
    """

    def __init__(self, retries: int, deadline: Deadline) -> None:
        self._retries = retries
        self._deadline = deadline
        self._failures = 0

    def wait_s(self, error: ClientError) -> float | None:
        """Seconds until the next try, or None when `error` is final. Its `why` then tells of the tries."""
        if not error.retryable:
            return None
        self._failures += 1
        wait_s = self._backoff_s(error.retry_after_s)
        fits = wait_s < self._deadline.remaining_s()
        if self._failures <= self._retries and fits:
            _log.info("%s (%s); try %d follows in %.2f s", error.what, error.why, self._failures + 1, wait_s)
            return wait_s
        if self._failures > 1:
            error.why += f"; this was the last of {self._failures} tries"
        if error.retry_after_s is not None and not fits:
            error.why += f"; it asks to wait {error.retry_after_s:g} s, longer than the deadline leaves"
        return None

    def _backoff_s(self, retry_after_s: float | None) -> float:
        whole_s: float = min(WAIT_MAX_S, WAIT_FIRST_S * 2.0 ** (self._failures - 1))
        jitter_s = random.uniform(0.0, whole_s / 2)  # noqa: S311 - spreads load, hides nothing
        return jitter_s + (whole_s / 2 if retry_after_s is None else retry_after_s)
