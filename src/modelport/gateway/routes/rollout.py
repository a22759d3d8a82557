"""Bring a canary in step by step, or take it back: the order of things, apart from what they are done with.

Each step gives it a larger share and looks at what happens, until the evidence decides (`judge`). What is done and seen
goes through a `World`: the running service (`live`), or a simulation of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from modelport.gateway.routes import judge
from modelport.gateway.routes.judge import GIVE_UP, TAKE_BACK, WAIT, Look, Seen
from modelport.gateway.routes.state import Rollout
from modelport.gateway.routes.watch import Counts, Watch

PROMOTED, TAKEN_BACK, UNDECIDED, LEFT = "promoted", "taken_back", "undecided", "left"
LOOKS = 10  # in the time that a step lasts at least


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of asking both versions the same.

    Attributes:
        requests: How many requests both were asked.
        differing: How many the canary answers otherwise.
        classes: Whether what differs are classes, not numbers.
    """

    requests: int = 0
    differing: int = 0
    classes: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a rollout ended.

    Attributes:
        result: `promoted`; `taken_back`; `undecided`: the route stays as it is, and this can be taken up again; `left`:
            somebody else changed what it worked on.
        share: The canary's share in percent when it was decided.
        why: In words.
    """

    result: str
    share: float
    why: str


class World(Protocol):
    """What a rollout works on."""

    def share(self, percent: float) -> None:
        """Give the canary this share of the calls; done when the gateway follows."""

    def counts(self) -> Counts:
        """The counters now."""

    def replay(self) -> Replay:
        """Ask both versions the same, and compare."""

    def seconds(self) -> float:
        """A clock."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""

    def promote(self) -> None:
        """Let the canary serve, and take the route away."""

    def take_back(self) -> None:
        """Give all calls to stable."""

    def keep(self, rollout: Rollout | None) -> None:
        """Remember how far this is; None: nothing is to be taken up again."""

    def tell(self, entry: dict[str, Any]) -> None:
        """Add to the history."""


def run(world: World, rollout: Rollout, report: Callable[[str], None]) -> Outcome:
    """Bring a canary in, from the step at which the rollout stands.

    Args:
        world: What is worked on.
        rollout: The canary, and how far it is.
        report: Called with one line at each look.
    """
    shares = rollout.limits.shares
    _tell(world, rollout, "begun" if not rollout.steps_begun else "taken_up", share=0.0)
    while rollout.step < len(shares):
        share = shares[rollout.step]
        rollout = rollout.after(steps_begun=rollout.steps_begun + 1)
        world.keep(rollout)
        world.share(share)
        rollout, look, changed = _step(world, rollout, share, report)
        if changed:
            return _ended(world, rollout, LEFT, share, changed)
        _tell(world, rollout, "step", share=share, look=look)
        if look.decision == TAKE_BACK:
            report(f"taking version {rollout.canary} back: {look.why}")
            world.keep(None)  # who is stopped meanwhile does not bring it in again
            world.take_back()
            return _ended(world, rollout, TAKEN_BACK, share, look.why)
        if look.decision == GIVE_UP:
            _tell(world, rollout, UNDECIDED, share=share, why=look.why)
            return Outcome(result=UNDECIDED, share=share, why=look.why)
        rollout = rollout.after(step=rollout.step + 1)
    world.keep(rollout)
    report(f"promoting version {rollout.canary}")
    world.promote()
    return _ended(world, rollout, PROMOTED, 100.0, "it is as good as is asked of it, at each step")


def _step(world: World, rollout: Rollout, share: float, report: Callable[[str], None]) -> tuple[Rollout, Look, str]:
    """Watch the canary with one share; the look that decided, or what somebody else changed."""
    limits, replayed = rollout.limits, world.replay()
    watch, began_s, ends, asked_s = Watch(world.counts()), world.seconds(), 0, 0.0
    while True:
        world.wait(limits.hold_s / LOOKS)
        now = world.counts()
        watch.add(now)
        seen = Seen(
            elapsed_s=world.seconds() - began_s,
            canary=watch.canary,
            stable=watch.stable,
            ratios=watch.ratios,
            replayed=replayed.requests,
            differing=replayed.differing,
            classes=replayed.classes,
            broken=now.broken,
        )
        rollout = rollout.after(looks=rollout.looks + 1)
        if may_end := judge.may_end(limits, seen, asked_s):
            ends, asked_s = ends + 1, seen.elapsed_s
        look = judge.judge(limits, seen, look=rollout.looks, step=rollout.steps_begun, ends=ends if may_end else 0)
        if now.changed or look.decision != WAIT:
            return rollout, look, now.changed
        world.keep(rollout)
        report(f"{share:g} % to version {rollout.canary}: {look.why}")


def _ended(world: World, rollout: Rollout, result: str, share: float, why: str) -> Outcome:
    _tell(world, rollout, result, share=share, why=why)
    world.keep(None)
    return Outcome(result=result, share=share, why=why)


def _tell(world: World, rollout: Rollout, event: str, *, share: float, look: Look | None = None, why: str = "") -> None:
    facts = asdict(rollout) if event in ("begun", "taken_up") else {}
    found = (
        {"decision": look.decision, "why": look.why, "findings": [asdict(one) for one in look.findings]} if look else {}
    )
    of = {"event": event, "started": rollout.started, "canary": rollout.canary, "stable": rollout.stable}
    world.tell({**facts, **of, "share": share, "looks": rollout.looks, **({"why": why} if why else {}), **found})
