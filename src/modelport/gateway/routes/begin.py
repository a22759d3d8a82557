"""Which version is the canary and which is stable; and the canary is loaded, with no calls led to it yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from modelport.errors import ServerTimeoutError, UsageError, VersionNotFoundError
from modelport.gateway.routes import change, state
from modelport.gateway.routes.judge import Limits
from modelport.gateway.routes.state import Rollout
from modelport.lifecycle import change as lifecycle
from modelport.lifecycle.plan import Present, newest_candidate, plan, present
from modelport.repository import events, followed
from modelport.repository.layout import version_folder
from modelport.repository.route import Route, Share, resolved

FOLLOWS_S = 15.0  # until a gateway has taken in another route
Report = Callable[[str], None]


def begin(repository: Path, model: str, canary: str | None, limits: Limits, report: Report) -> Rollout:
    """The rollout to go on with: the one whose process ended, or a new one.

    Args:
        repository: The model repository.
        model: Model name.
        canary: A version number or an alias; None: the smaller share of the route, or else the newest candidate.
        limits: What is allowed.
        report: Called with one line at each step.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such model or version, or no candidate.
        UsageError: It cannot be told what is to be compared with what.
        ManifestError: Something of the model cannot be read.
    """
    now = present(repository, model)
    left = state.read(repository, model)
    if left is not None and _goes_on(now, left, canary):
        report(f"taking up again what began at {left.started}: step {left.step + 1} of {len(limits.shares)}")
        return left.after(limits=limits, step=min(left.step, len(limits.shares)))
    new_target, old_target = _targets(now, canary)
    new, old = (resolved(target, now.record.aliases) for target in (new_target, old_target))
    if new is None or old is None or new == old:
        raise _nothing(now, new_target if new is None else old_target, new)
    version_folder(repository, model, new)
    return Rollout(
        model=model,
        canary=new,
        stable=old,
        canary_target=new_target,
        stable_target=old_target,
        limits=limits,
        started=events.now(),
    )


def load(repository: Path, rollout: Rollout, report: Report) -> None:
    """Load the canary beside stable, where it is not loaded. Calls keep to stable through the gateway meanwhile.

    Args:
        repository: The model repository.
        rollout: The canary.
        report: Called with one line at each step.

    Raises:
        UsageError: They cannot be loaded beside each other.
        ServerTimeoutError: The gateway does not take in the route that would keep calls from the canary.
        ModelportError: As `modelport.lifecycle.change.promote`; the route is then as it was.
    """
    now = present(repository, rollout.model)
    if rollout.canary in now.loaded:
        return
    todo = plan(now, rollout.canary, back=False, unload_old=False, ready=now.loaded)
    if rollout.stable not in todo.loaded:
        raise UsageError(
            f"version {rollout.canary} of {rollout.model!r} cannot be loaded beside version {rollout.stable}",
            why="it was made with other labels, parameters or steps"
            if rollout.stable in todo.unfit
            else "only a lower number stays loaded beside the version that is promoted",
            fix=f"let it serve at once: 'modelport promote {rollout.model} {rollout.canary}'",
        )
    before = now.record.route
    cover = before if before.shares else Route(shares=(Share(target=rollout.stable_target, percent=100.0),))
    try:
        if cover != before:
            change.put(repository, rollout.model, cover)
            _require_followed(repository, rollout.model)
        lifecycle.promote(rollout.model, rollout.canary, repository=repository, report=report)
    except BaseException:
        change.put(repository, rollout.model, before)
        raise


def _require_followed(repository: Path, model: str) -> None:
    if not followed.wait(repository, model, timeout_s=FOLLOWS_S):
        raise ServerTimeoutError(
            f"the gateway has not taken in the route of {model!r} in {FOLLOWS_S:g} s",
            why="it refuses what it finds in the repository, or has too much to do",
            fix="'modelport status' and the event gateway_refused say why; the route is as it was",
        )


def _goes_on(now: Present, left: Rollout, canary: str | None) -> bool:
    """Whether an unfinished rollout still fits the route, and is what is asked for."""
    known = now.record
    if canary is not None and resolved(canary, known.aliases) != left.canary:
        return False
    there = known.route.versions(known.aliases, now.loaded)
    return left.canary in now.loaded and left.stable in there and {*there} <= {left.canary, left.stable}


def _targets(now: Present, canary: str | None) -> tuple[str, str]:
    """How the canary and stable are named."""
    known = now.record
    shares = known.route.shares
    there = known.route.versions(known.aliases, now.loaded)
    if len(there) > 2:
        raise UsageError(
            f"the route of {now.model!r} names more than two versions",
            why=f"it is {known.route.words()}, and one canary is compared with one stable version",
            fix=f"set a route with two of them, or 'modelport route {now.model} --clear'",
        )
    if canary is None and len(there) == 2:
        smaller = min(there, key=lambda version: (there[version], -version))
        return _named(shares, known.aliases, smaller), _named(shares, known.aliases, max({*there} - {smaller}))
    target = canary if canary is not None else str(newest_candidate(now))
    others = [share for share in shares if resolved(share.target, known.aliases) in {*there} - {_meant(now, target)}]
    if others:
        return target, max(others, key=lambda share: share.percent).target
    return target, "" if now.serving is None else str(now.serving)


def _meant(now: Present, target: str) -> int | None:
    return resolved(target, now.record.aliases)


def _named(shares: tuple[Share, ...], aliases: Mapping[str, int], version: int) -> str:
    return next(share.target for share in shares if resolved(share.target, aliases) == version)


def _nothing(now: Present, target: str, version: int | None) -> UsageError | VersionNotFoundError:
    if version is None:
        return VersionNotFoundError(
            f"model {now.model!r} has no version {target!r}",
            why="it is no number, and no alias of this model",
            fix=f"'modelport list {now.model}' shows both",
            model=now.model,
        )
    return UsageError(
        f"there is nothing to compare version {version} of {now.model!r} with",
        why="all calls go to it" if version == now.serving else "no other version serves",
        fix=f"name two versions first: 'modelport route {now.model} OLD=95 {version}=5'",
    )
