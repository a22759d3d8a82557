"""How a change of the serving version is printed."""

from __future__ import annotations

from typing import Any

from modelport import _render


def show_switch(done: Any, *, json: bool) -> None:
    """Print what was checked, and how long the switch took."""
    if json:
        _render.as_json(done)
        return
    already = done.before == done.version
    before = " already" if already else f" in the place of version {done.before}" if done.before else ""
    _render.lines(f"{done.model} version {done.version} serves{before}; proved in {done.server}")
    _render.table("", ("checked", "seconds"), [(check.what, round(check.seconds, 3)) for check in done.checks])
    _render.lines(
        *(f"gate: {words}" for words in done.judged),
        f"the switch took {done.switch_s:.3f} s; loaded: {', '.join(f'version {v}' for v in done.loaded)}",
        *(f"alias {name} points at version {done.version} now" for name in done.moved_aliases),
        *_route(done),
    )


def _route(done: Any) -> list[str]:
    """What becomes of calls through a gateway, where a route says so."""
    if done.route:
        became = "it named a version that is loaded no more, and is now" if done.route_changed else "it is"
        return [f"a route is set: unversioned calls through the gateway follow it; {became} {done.route}"]
    return ["the route is gone: it led to a version that is loaded no more"] if done.route_changed else []
