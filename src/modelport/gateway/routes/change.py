"""Set a model's route, or take it away: under the model's lock, noted as an event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from modelport.gateway.routes import check
from modelport.lifecycle.loaded import loaded
from modelport.repository import events, journal, switch
from modelport.repository.layout import version_numbers
from modelport.repository.record import Record
from modelport.repository.route import Route

EVENT = "routed"


def change(
    repository: Path, model: str, shares: Sequence[str] = (), *, sticky: str | None = None, shadow: str | None = None
) -> Route:
    """Set the route that words ask for; what they do not name stays. All of it happens or nothing.

    Args:
        repository: The model repository.
        model: Model name.
        shares: Such as `stable=90 canary=10`; together 100.
        sticky: `tenant`, `header:NAME` or `none`.
        shadow: A version number, an alias or `none`.

    Raises:
        ModelNotFoundError: There is no such model.
        UsageError: Something is wrong with it; all of it is named.
        ManifestError: The model's configuration cannot be read.
        ServerTimeoutError: The running server does not say which versions it has loaded.
        RepositoryLockedError: Another process is changing this model.
    """

    def asked(known: Record) -> Route:
        there = loaded(repository, model)
        return check.route(
            model, shares, before=known.route, sticky=sticky, shadow=shadow, aliases=known.aliases, loaded=there
        )

    return _write(repository, model, asked)


def put(repository: Path, model: str, route: Route) -> Route:
    """Set a route that is known to be right; an empty one takes away what there is. Raises as `change`."""
    return _write(repository, model, lambda _: route)


def _write(repository: Path, model: str, asked: Callable[[Record], Route]) -> Route:
    version_numbers(repository, model)  # for a model that is not there, nothing is made
    with journal.changing(repository, model):
        config, known = switch.read(repository, model)
        route = asked(known)
        if route != known.route:
            switch.write(repository, model, config, replace(known, route=route))
            text = f"the route is {route.words()}" if route != Route() else "the route is gone"
            events.append(repository, events.event(EVENT, text, model=model, route=route.words()))
    return route
