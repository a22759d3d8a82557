"""Which versions of a model answer, by everything that can tell."""

from __future__ import annotations

from pathlib import Path

from modelport.repository.versions import loaded_versions
from modelport.server import connection


def loaded(repository: Path, model: str) -> dict[str, tuple[int, ...]]:
    """What says which versions are loaded, in words, to the versions: the configuration, and a running server.

    A server that was started without this model says nothing about it.

    Raises:
        ModelNotFoundError: The repository has no such model.
        ServerTimeoutError: The running server does not say which versions it has loaded.
    """
    places = {"its configuration": loaded_versions(repository, model)}
    running = connection.find(repository)
    ready = running.ready_versions(model) if running is not None else ()
    if running is not None and ready:
        places[f"the server at {running.http_url}"] = ready
    return places
