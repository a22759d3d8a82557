"""The verb `route`: where unversioned calls through the gateway go, and bringing in a canary on evidence."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.errors import ModelportError, RepositoryError, ServerTimeoutError, VerificationError
from modelport.gateway import units
from modelport.gateway.routes import begin, change, live, rollout, state
from modelport.gateway.routes.judge import Limits
from modelport.gateway.routes.live import Live
from modelport.gateway.routes.rollout import LEFT, TAKEN_BACK, UNDECIDED, Outcome
from modelport.repository import record
from modelport.repository.layout import DEFAULT_REPOSITORY, config_path, model_names, version_numbers
from modelport.repository.route import Route, resolved
from modelport.repository.versions import loaded_versions

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Where the unversioned calls of a model go.

    Attributes:
        model: Model name.
        route: What is set; an empty one where nothing is.
        versions: Version to percent of the calls, as it is now; without a route, all go to the serving version.
        shadow: The version that gets copies; None where none does.
    """

    model: str
    route: Route
    versions: Mapping[int, float]
    shadow: int | None = None


def routes(repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> list[Routed]:
    """All models that have a route, by name.

    Raises:
        RepositoryError: There is no such repository.
        ManifestError: A model's record is damaged.
    """
    found = [show(model, repository=repository) for model in model_names(Path(repository))]
    return [one for one in found if one.route != Route()]


def show(model: str, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> Routed:
    """The route of a model.

    Raises:
        ModelNotFoundError: There is no such model.
        ManifestError: Its record is damaged.
    """
    root = Path(repository)
    version_numbers(root, model)
    known, there = record.read(config_path(root, model)), loaded_versions(root, model)
    versions = known.route.versions(known.aliases, there)
    if not versions and there:
        versions = {max(there): 100.0}
    shadow = resolved(known.route.shadow, known.aliases) if known.route.shadow else None
    return Routed(model=model, route=known.route, versions=versions, shadow=shadow if shadow in there else None)


def route(
    model: str,
    shares: Sequence[str] = (),
    *,
    sticky: str | None = None,
    shadow: str | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> Routed:
    """Share out the unversioned calls of a model; what is not named stays as it is.

    Args:
        model: Model name.
        shares: Such as `["stable=90", "canary=10"]`, together 100. A target is a loaded version or an alias.
        sticky: `tenant` or `header:NAME`: the same one always leads to the same version; `none`.
        shadow: A loaded version or an alias that gets a copy of each call; `none`.
        repository: Folder of the model repository.

    Raises:
        ModelNotFoundError: There is no such model.
        UsageError: Something is wrong with it; all of it is named.
        ManifestError: The model's configuration cannot be read.
        RepositoryLockedError: Another process is changing this model.
    """
    change.change(Path(repository), model, shares, sticky=sticky, shadow=shadow)
    return show(model, repository=repository)


def clear(model: str, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> Routed:
    """Take a model's route away: unversioned calls go to the serving version. Raises as `route`."""
    change.put(Path(repository), model, Route())
    return show(model, repository=repository)


def history(model: str, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> list[dict[str, Any]]:
    """What happened in the rollouts of a model, with the evidence of each step, the oldest first.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    version_numbers(Path(repository), model)
    return state.history(Path(repository), model)


def auto(
    model: str,
    canary: str | None = None,
    *,
    within: Limits | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    report: Report = lambda _: None,
) -> Outcome:
    """Bring in a canary step by step on evidence, and promote it; or take it back. Blocks until that is decided.

    Who stops it leaves the route as it is; it is taken up again when it is called again.

    Args:
        model: Model name.
        canary: A version number or an alias; None: the smaller share of the route, or else the newest candidate.
        within: Steps, and what is allowed; see `limits`.
        repository: Folder of the model repository.
        report: Called with one line at each look.

    Raises:
        VerificationError: The canary was taken back; `why` holds the evidence.
        ServerTimeoutError: No step may take that long; the route stays as it is.
        RepositoryError: Somebody else changed the route meanwhile; nothing was touched then.
        ServerError: No gateway or no server runs.
        RepositoryLockedError: A canary of this model is being brought in already.
        ModelportError: As `modelport.gateway.routes.begin.begin` and `modelport.lifecycle.change.promote`.
    """
    root = Path(repository)
    version_numbers(root, model)
    live.require_gateway(root)
    with state.alone(root, model):
        one = begin.begin(root, model, canary, within or Limits(), report)
        world = Live(repository=root, rollout=one, report=report)
        state.write(root, one)
        try:
            begin.load(root, one, report)
        except ModelportError:
            state.remove(root, model)
            raise
        done = rollout.run(world, one, report)
    error = problem(model, one.canary, done)
    if error is not None:
        raise error
    return done


def limits(
    *,
    steps: str = "5,10,25,50,100",
    hold: str = "60s",
    min_requests: int = 200,
    max_error_rise: str = "1%",
    max_latency_ratio: float = 1.5,
    max_disagreement: str | None = None,
    give_up: str = "1h",
) -> Limits:
    """Limits as they are typed: times such as `60s`, shares such as `1%` or `0.01`.

    Raises:
        UsageError: Some of them cannot be; all are named.
    """
    read = units.read(
        {
            "--steps": (_steps, steps),
            "--hold": (units.duration, hold),
            "--max-error-rise": (_share, max_error_rise),
            "--max-disagreement": (_share, max_disagreement),
            "--give-up": (units.duration, give_up),
        }
    )
    names = {"--hold": "hold_s", "--give-up": "give_up_s"}
    given: dict[str, Any] = {names.get(name, name[2:].replace("-", "_")): value for name, value in read.items()}
    return Limits(min_requests=min_requests, max_latency_ratio=max_latency_ratio, **given)


def _steps(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word.strip().removesuffix("%")) for word in text.split(","))
    except ValueError as exc:
        raise ValueError(f"{text!r} are no percents with commas between them, such as 5,10,25,50,100") from exc


def _share(text: str) -> float:
    word = text.strip()
    try:
        return float(word.removesuffix("%")) / (100.0 if word.endswith("%") else 1.0)
    except ValueError as exc:
        raise ValueError(f"{text!r} is no share; write for example 1% or 0.01") from exc


def problem(model: str, version: int, done: Outcome) -> ModelportError | None:
    """The error for a rollout that did not end with a promotion."""
    shown = f"'modelport route {model} --history' shows the evidence"
    if done.result == TAKEN_BACK:
        return VerificationError(
            f"version {version} of {model!r} was taken back at {done.share:g} % of the calls",
            why=done.why,
            fix=f"{shown}; publish a better version",
            model=model,
        )
    if done.result == UNDECIDED:
        return ServerTimeoutError(
            f"nothing could be decided about version {version} of {model!r}, which keeps {done.share:g} % of the calls",
            why=done.why,
            fix=f"{shown}; go on with the same command, or with wider limits, or set the route by hand",
        )
    if done.result == LEFT:
        return RepositoryError(
            f"version {version} of {model!r} is not brought in any further",
            why=f"somebody changed what it worked on: {done.why}",
            fix=f"'modelport route {model}' shows the route that holds; nothing was changed",
        )
    return None
