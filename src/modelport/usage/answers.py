"""What the gateway answered, as Prometheus reads it: counts that only grow, and how long inferences took."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

BOUNDS_US = (
    *(250, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 25_000, 50_000),
    *(100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000),
)
BEYOND = -1  # in place of a bound, for what took longer than the last one


class Said(NamedTuple):
    """Who asked what, and what was said; only callers whose key was valid.

    Attributes:
        tenant: Whose key it was.
        model: Empty where the request was refused before a model was known.
        code: Status of HTTP; `0` where the caller went away before.
        grpc_status: Empty without gRPC.
    """

    tenant: str
    model: str
    code: str
    grpc_status: str


@dataclass
class Answers:
    """Requests that were answered alike.

    Attributes:
        seen: The hour of the last one, such as `2026-03-04T05`, in UTC.
        requests: How many there were.
        inferences: Rows of those that passed all checks.
        received_bytes: Their bodies.
        sent_bytes: The bodies of their answers.
    """

    seen: str = ""
    requests: int = 0
    inferences: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


@dataclass
class Times:
    """How long the inferences of one tenant and model took, from the request's first byte to the answer's last.

    Attributes:
        counts: Upper bound in microseconds, or `BEYOND`, to how many took so long and longer than the bound before.
        us: The same bounds, to the microseconds that they took together.
    """

    counts: dict[int, int] = field(default_factory=dict)
    us: dict[int, int] = field(default_factory=dict)

    def add(self, took_us: int) -> None:
        """One more."""
        place = bisect_left(BOUNDS_US, took_us)
        bound = BOUNDS_US[place] if place < len(BOUNDS_US) else BEYOND
        self.counts[bound] = self.counts.get(bound, 0) + 1
        self.us[bound] = self.us.get(bound, 0) + took_us


@dataclass(frozen=True, kw_only=True)
class Told:
    """What was answered so far.

    Attributes:
        answers: By who asked what and what was said.
        times: By tenant and model.
    """

    answers: Mapping[Said, Answers] = field(default_factory=dict)
    times: Mapping[tuple[str, str], Times] = field(default_factory=dict)
