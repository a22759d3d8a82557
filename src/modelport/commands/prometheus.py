"""The verb `prometheus`: Prometheus's configuration for the service that runs for a repository."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from modelport.commands.status import running
from modelport.errors import ServerError
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.server import loopback
from modelport.watching import scrape
from modelport.watching.scrape import GATEWAY, SUPERVISOR, TRITON

USUAL = {TRITON: "127.0.0.1:8002", SUPERVISOR: "127.0.0.1:8003", GATEWAY: "127.0.0.1:8004"}
ANSWER_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written.

    Attributes:
        files: The files, the configuration first.
        places: Job to where Prometheus asks.
        alertmanager: Where alerts are sent to; empty for nowhere.
        note: Why the places may be others than those of the service; empty where they are its own.
    """

    files: tuple[str, ...]
    places: Mapping[str, str]
    alertmanager: str = ""
    note: str = ""


def prometheus(
    folder: str | os.PathLike[str],
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    places: Mapping[str, str] | None = None,
    interval_s: float = 15.0,
    alertmanager: str = "",
) -> Written:
    """Write Prometheus's configuration, with the rules.

    Args:
        folder: Where to.
        repository: Folder of the model repository, whose running service is meant.
        places: Job (`triton`, `gateway`, `supervisor`) to `HOST:PORT`, and nothing else is asked then. Left out, those
            of the service that runs, or the usual ones where none does.
        interval_s: Seconds between two questions.
        alertmanager: `HOST:PORT` of the Alertmanager that sends alerts on; empty for none.

    Raises:
        UsageError: A place is none.
        EnvironmentUnfitError: The disk refuses.
    """
    found, note = (dict(places), "") if places else _places(Path(repository))
    files = scrape.write(Path(folder), found, interval_s=interval_s, alertmanager=alertmanager)
    return Written(files=tuple(map(str, files)), places=found, alertmanager=alertmanager, note=note)


def _places(repository: Path) -> tuple[dict[str, str], str]:
    try:
        handle = running(repository)
    except ServerError as error:
        return dict(USUAL), f"{error.what}: these are the usual places"
    found = {TRITON: urlsplit(handle.metrics_url).netloc}
    if handle.supervisor is None or not handle.supervisor.lives():
        return found, "the server is not watched over ('modelport serve' does that): many alerts stay silent"
    found[SUPERVISOR] = urlsplit(handle.health_url).netloc
    try:
        told = json.loads(loopback.get(f"{handle.health_url}/status", timeout_s=ANSWER_S))
    except (OSError, ValueError) as exc:
        return found, f"its supervisor did not say whether there is a gateway: {exc}"
    url = (told.get("gateway") or {}).get("metrics_url")
    if url:
        found[GATEWAY] = urlsplit(url).netloc
    return found, ""
