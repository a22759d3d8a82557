"""What the golden requests of a version gave so far, and when the next one is due. No clock, no server: only rules."""

from __future__ import annotations

from dataclasses import dataclass

from modelport.errors import DeadlineError, ManifestError, ModelportError, RemoteError, VerificationError

OK = "ok"
WRONG = "wrong"  # an answer, and not the source's
FAILED = "failed"  # an error in place of an answer
LATE = "late"  # no answer within the deadline
BUSY = "busy"  # refused because too much was asked of it
UNPROVED = "unproved"  # it has no golden answers: it was not published by modelport

SELDOM = 6  # versions that are loaded and do not serve are asked so many times less often
AGAIN_S = 1.0  # after no answer
SHARE = 0.05  # of its time, at most, a model spends on golden requests
MOST_S = 60.0  # no slow model is asked less often than that
CROWD_S = 0.05  # for each version of the server: a thousand are asked 20 times a second
LATELY = 3  # intervals for which an answer counts
BUSY_S = 120.0  # for so long an answer counts while all golden requests after it are refused for overload

_TOO_MUCH = (429, 503)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The latest golden request of a version.

    Attributes:
        kind: `ok`, `wrong`, `failed`, `late`, `busy`, `unproved`.
        reason: Why it is not ok; empty when it is.
        at: When it ended, on the supervisor's clock.
        since: When the first result of this kind in a row ended.
        in_a_row: How many of this kind there were in a row.
        latency_s: How long it took.
        last_ok: When the last good answer came; None when there was none.
        until: Until when a good answer counts, unless another one comes.
    """

    kind: str
    reason: str
    at: float
    since: float
    in_a_row: int
    latency_s: float
    last_ok: float | None
    until: float

    def good(self, now: float) -> bool:
        """Whether the version answered right lately. A late or refused request does not outweigh that at once.

        What refuses for overload lives, and at ten times its capacity lets one golden request in ten through. Triton
        counts what is refused as done, so its counters would not tell a model that refuses all from a busy one.
        """
        if self.kind == UNPROVED:
            return True
        if self.last_ok is None:
            return False
        return (self.kind in (OK, LATE, BUSY) and now <= self.until) or (
            self.kind == BUSY and now <= self.last_ok + BUSY_S
        )


def kind_of(error: ModelportError) -> str:
    """What kind of result an error is."""
    if isinstance(error, VerificationError):
        return WRONG
    if isinstance(error, DeadlineError):
        return LATE
    if isinstance(error, ManifestError):
        return UNPROVED
    if isinstance(error, RemoteError) and error.status in _TOO_MUCH:
        return BUSY
    return FAILED


class Track:
    """One version: its results, and when it is asked again.

    Args:
        now: The first request is due now.
        interval_s: Seconds between two requests, for a version that serves.
        deadline_s: Seconds that a request may take.
    """

    def __init__(self, *, now: float, interval_s: float, deadline_s: float) -> None:
        self.result: Result | None = None
        self.running = False
        self.next_at = now
        self._interval_s = interval_s
        self._deadline_s = deadline_s

    def due(self, now: float) -> bool:
        """Whether it is to be asked now."""
        return not self.running and now >= self.next_at

    def record(self, kind: str, reason: str, *, latency_s: float, now: float, serving: bool, versions: int) -> Result:
        """Take in a result, and set when the next request is due.

        Args:
            kind: What kind it is.
            reason: Why it is not ok.
            latency_s: How long it took.
            now: When it ended.
            serving: Whether callers get this version.
            versions: How many versions are asked in all.
        """
        before = self.result
        same = before is not None and before.kind == kind
        wait_s = self._wait_s(latency_s, serving, versions)
        ok_until = now + LATELY * wait_s + self._deadline_s
        last_ok, until = (now, ok_until) if kind == OK else (None, now)
        if kind != OK and before is not None:
            last_ok, until = before.last_ok, before.until
        self.result = Result(
            kind=kind,
            reason=reason,
            at=now,
            since=before.since if before is not None and same else now,
            in_a_row=before.in_a_row + 1 if before is not None and same else 1,
            latency_s=latency_s,
            last_ok=last_ok,
            until=until,
        )
        self.next_at = now + (min(wait_s, AGAIN_S) if kind in (FAILED, LATE, BUSY) else wait_s)
        return self.result

    def _wait_s(self, latency_s: float, serving: bool, versions: int) -> float:
        wanted_s = self._interval_s * (1 if serving else SELDOM)
        slow_s = min(latency_s / SHARE, MOST_S)
        return max(wanted_s, slow_s, versions * CROWD_S)
