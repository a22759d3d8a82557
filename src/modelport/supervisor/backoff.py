"""How long to wait after a failure, and when to give up."""

from __future__ import annotations


class Backoff:
    """Seconds to wait after each failure in a row, doubling.

    Args:
        first_s: The first wait.
        most_s: No wait is longer.
        limit: With so many failures in a row it is over.
    """

    def __init__(self, *, first_s: float, most_s: float, limit: int) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._limit = limit
        self.failures = 0

    def failed(self) -> float | None:
        """Count a failure; the seconds to wait now, or None when it was one too many."""
        self.failures += 1
        if self.failures >= self._limit:
            return None
        wait_s: float = min(self._most_s, self._first_s * 2.0 ** min(self.failures - 1, 60))  # some never give up
        return wait_s

    def reset(self) -> None:
        """Forget the failures: something succeeded."""
        self.failures = 0


class Deaths:
    """Decides when a server that died is started again, and when it dies too often.

    Args:
        first_s: Seconds before the first new start.
        most_s: No wait is longer.
        limit: So many deaths in a row, each within `young_s` of its start, are a crash loop.
        young_s: A server that lived longer was well; its death is the first in a row again.
    """

    def __init__(self, *, first_s: float = 0.5, most_s: float = 30.0, limit: int = 5, young_s: float = 60.0) -> None:
        self._backoff = Backoff(first_s=first_s, most_s=most_s, limit=limit)
        self._young_s = young_s

    @property
    def in_a_row(self) -> int:
        """How many deaths there were, each soon after its start."""
        return self._backoff.failures

    def died(self, lived_s: float) -> float | None:
        """Count a death.

        Args:
            lived_s: Seconds since the server's start; 0 for one that did not even start.

        Returns:
            Seconds to wait before the next start; None when there shall be none.
        """
        if lived_s >= self._young_s:
            self._backoff.reset()
        return self._backoff.failed()
