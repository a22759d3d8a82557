"""What is to become of a canary at one look: it goes on, it is taken back, or more has to be seen. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from modelport.errors import UsageError
from modelport.gateway.routes import evidence
from modelport.gateway.routes.evidence import Finding, Tally, spent

GO_ON, TAKE_BACK, WAIT, GIVE_UP = "go_on", "take_back", "wait", "give_up"
STEPS = (5.0, 10.0, 25.0, 50.0, 100.0)
FALSE_ALARM = 0.05  # how often a canary that is as good as allowed may be taken back, in a whole rollout
SLIP = 0.05  # how often one that is worse than allowed may pass a step, by each criterion
ENOUGH = 50  # requests of the canary, before its errors are looked at
CRITERIA = 3
APART = 1.25  # from one look at which a step may end to the next
USUAL = 0.1  # of replayed requests may get another class


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a canary is brought in, and what is allowed to it.

    Attributes:
        steps: Its shares of the calls in percent, one after another; 100 is the promotion, and always the last.
        hold_s: Seconds that a step lasts at least.
        min_requests: Requests that the canary has answered in a step at least.
        max_error_rise: The most that its error rate may be above stable's, as a share of the requests.
        max_latency_ratio: The highest ratio of its mean time in the server to stable's.
        max_disagreement: The highest share of replayed requests that it answers otherwise than stable; None: 0.1 where
            the answers are classes; elsewhere it is shown and not judged, since another version gives other numbers.
        give_up_s: Seconds after which a step without a decision ends the rollout; the route stays as it is.
    """

    steps: tuple[float, ...] = STEPS
    hold_s: float = 60.0
    min_requests: int = 200
    max_error_rise: float = 0.01
    max_latency_ratio: float = 1.5
    max_disagreement: float | None = None
    give_up_s: float = 3600.0

    def __post_init__(self) -> None:
        """Refuse what cannot be; all of it is named."""
        share = "is a share between 0 and 1, such as 0.01"
        rules = {
            "--steps are percents that grow, above 0 and at most 100": bool(self.steps)
            and list(self.steps) == sorted({*self.steps})
            and self.steps[0] > 0
            and self.steps[-1] <= 100,
            "--hold is a number of seconds above 0": 0 < self.hold_s < math.inf,
            "--min-requests is 1 or more": self.min_requests >= 1,
            f"--max-error-rise {share}": 0 < self.max_error_rise < 1,
            "--max-latency-ratio is above 1, such as 1.5": 1 < self.max_latency_ratio < math.inf,
            f"--max-disagreement {share}": self.max_disagreement is None or 0 <= self.max_disagreement < 1,
            "--give-up is a number of seconds, and not below --hold": self.hold_s <= self.give_up_s < math.inf,
        }
        wrong = [rule for rule, holds in rules.items() if not holds]
        if wrong:
            raise UsageError(
                f"a canary cannot be brought in so: {'; '.join(wrong)}",
                why="these are limits to which its evidence is held",
                fix="correct these options, or leave them out",
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """The steps at which the canary is watched: those below 100."""
        return tuple(step for step in self.steps if step < 100)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of a step so far.

    Attributes:
        elapsed_s: Seconds since it began.
        canary: The canary's requests in it.
        stable: Stable's requests in it.
        ratios: The latency's ratio in each window.
        replayed: Replayed requests.
        differing: How many of them the canary answers otherwise.
        classes: Whether what differs are classes, not numbers.
        broken: Why the canary cannot go on, whatever the figures are, such as that the server ended; or empty.
    """

    elapsed_s: float
    canary: Tally
    stable: Tally
    ratios: Sequence[float] = ()
    replayed: int = 0
    differing: int = 0
    classes: bool = False
    broken: str = ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look decided.

    Attributes:
        decision: `go_on`, `take_back`, `wait` or `give_up`.
        why: In words.
        findings: What was found of each criterion.
    """

    decision: str
    why: str
    findings: tuple[Finding, ...] = field(default=())


def judge(limits: Limits, seen: Seen, *, look: int, step: int, ends: int) -> Look:
    """Decide.

    Args:
        limits: What is allowed.
        seen: What was seen of this step.
        look: The number of this look in the whole rollout, from 1.
        step: The number of the step in the whole rollout, from 1: the replay is looked at once in each.
        ends: The number of this look among those at which the step may end well, from 1; 0: it may not.
    """
    budget = FALSE_ALARM / CRITERIA
    low, high = spent(budget, look), spent(SLIP, max(1, ends))
    allowed, slower = limits.max_error_rise, limits.max_latency_ratio
    of_errors = evidence.errors(seen.canary, seen.stable, allowed=allowed, low_error=low, high_error=high)
    of_latency = evidence.latency(seen.ratios, allowed=slower, low_error=low, high_error=high)
    of_answers = evidence.disagreement(
        *(seen.replayed, seen.differing),
        allowed=USUAL if limits.max_disagreement is None and seen.classes else limits.max_disagreement,
        low_error=spent(budget, step),
        high_error=SLIP,
    )
    findings = (of_errors, of_latency, of_answers)
    if seen.broken:
        return Look(decision=TAKE_BACK, why=seen.broken, findings=findings)
    enough = seen.canary.requests >= ENOUGH
    worse = [words(one) for one in findings if one.verdict == evidence.WORSE and (enough or one != of_errors)]
    if worse:
        return Look(decision=TAKE_BACK, why="; ".join(worse), findings=findings)
    pending = [words(one) for one in findings if one.verdict != evidence.FINE]
    if ends and not pending:
        return Look(decision=GO_ON, why="; ".join(map(words, findings)), findings=findings)
    why = "; ".join(pending) if ends and pending else _so_far(limits, seen)
    return Look(decision=GIVE_UP if seen.elapsed_s >= limits.give_up_s else WAIT, why=why, findings=findings)


def may_end(limits: Limits, seen: Seen, before_s: float) -> bool:
    """Whether a step has lasted long enough, with enough requests, to end well at this look.

    Each such look has a smaller part of the budget than the one before, so they are taken at times that grow by
    `APART`: a step of an hour has twenty of them, not hundreds.

    Args:
        limits: How long, and how many.
        seen: What was seen of the step.
        before_s: Seconds after which it was asked before; 0 for never.
    """
    enough = seen.elapsed_s >= limits.hold_s and seen.canary.requests >= limits.min_requests
    return enough and (seen.elapsed_s >= before_s * APART or seen.elapsed_s >= limits.give_up_s)


def words(found: Finding) -> str:
    """A finding in one line."""
    if found.criterion == evidence.ERRORS:
        counts = f"{found.canary_failed} of {found.canary} failed, of stable's {found.stable_failed} of {found.stable}"
        return f"errors: {counts}, rise {_bounds(found, 100, ' %')}"
    if found.criterion == evidence.LATENCY:
        return f"latency: {found.canary} windows, ratio {_bounds(found, 1, '')}"
    counts = f"{found.canary_failed} of {found.canary} replayed requests are answered otherwise"
    return f"answers: {counts}, share {_bounds(found, 100, ' %')}"


def _bounds(found: Finding, scale: float, unit: str) -> str:
    if found.value is None:
        return "unknown"
    low, high = ("?" if bound is None else f"{bound * scale + 0.0:.3g}" for bound in (found.low, found.high))
    allowed = "not judged" if found.threshold is None else f"allowed {found.threshold * scale:.3g}{unit}"
    return f"{found.value * scale + 0.0:.3g}{unit} ({low} to {high}), {allowed}: {found.verdict}"


def _so_far(limits: Limits, seen: Seen) -> str:
    waits = f"{seen.elapsed_s:.0f} of at least {limits.hold_s:g} s"
    return f"{waits}, {seen.canary.requests} of at least {limits.min_requests} requests, {seen.canary.failed} failed"
