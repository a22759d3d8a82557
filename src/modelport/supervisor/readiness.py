"""Is the service ready? Every promoted version must have answered its golden request lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelport.supervisor.answers import Result


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """One model as the supervisor sees it.

    Attributes:
        wanted: The versions that `config.pbtxt` names, ascending.
        loaded: The versions that the server calls ready, ascending.
        changing: What is being done with it now; empty when nothing is.
        problem: Why it is not as wanted; empty when it is, or when nobody has tried yet.
        fault: What is wrong with its processes; empty when nothing is.
        known: Whether it was to be served when the server started, or has been ready since.
        before: Whether the model was ready when it was last asked about.
        inside: Whether it runs in the server's own process.
        budget_ms: What 99 of 100 calls may take; None where nothing was said.
    """

    wanted: tuple[int, ...] = ()
    loaded: tuple[int, ...] = ()
    changing: str = ""
    problem: str = ""
    fault: str = ""
    known: bool = False
    before: bool = False
    inside: bool = False
    budget_ms: float | None = None

    @property
    def serving(self) -> int | None:
        """The version that callers get."""
        return max(self.loaded, default=None)


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether the service is ready.

    Attributes:
        ready: Whether every model is.
        missing: Model to the reason why it is not ready.
        models: The models that count.
    """

    ready: bool
    missing: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()


def overall(views: Mapping[str, ModelView], results: Mapping[tuple[str, int], Result], now: float) -> Readiness:
    """Whether every model is ready.

    Args:
        views: Model to what is seen of it.
        results: The latest golden request of each version.
        now: The time on the supervisor's clock.
    """
    missing: dict[str, str] = {}
    counted: list[str] = []
    for model, view in sorted(views.items()):
        result = None if view.serving is None else results.get((model, view.serving))
        reason = not_ready(view, result, now)
        if reason is None:
            continue
        counted.append(model)
        if reason:
            missing[model] = reason
    return Readiness(ready=not missing, missing=missing, models=tuple(counted))


def not_ready(view: ModelView, result: Result | None, now: float) -> str | None:
    """Why a model is not ready: empty when it is, None when it does not count.

    Not counted are models that want no version, and new ones until they have answered: the service of the others is not
    to stop because another one comes.
    """
    if not view.wanted and not view.loaded:
        return view.problem or None
    if view.fault:
        return view.fault
    if view.serving is None:
        if view.problem or view.known:
            return f"version {max(view.wanted)} is not loaded{_because(view.problem or view.changing)}"
        return None
    if result is None and not view.known:
        return None
    if view.serving != max(view.wanted, default=None) and not view.changing:
        wanted = f"version {max(view.wanted)} is wanted" if view.wanted else "no version is wanted"
        return f"version {view.serving} serves, {wanted}{_because(view.problem)}"
    if result is None:  # it has just become the serving version; the answer comes in milliseconds
        return "" if view.before else f"version {view.serving} has not answered its golden request yet"
    if result.good(now):
        return ""
    return f"version {view.serving} gave no right answer to its golden request lately: {result.kind}, {result.reason}"


def _because(problem: str) -> str:
    return f": {problem}" if problem else ""
