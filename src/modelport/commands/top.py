"""The verb `top`: what a running service does now, again and again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from modelport.commands.status import running
from modelport.errors import ServerError
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.watching import pages
from modelport.watching.pages import Reading
from modelport.watching.values import View
from modelport.watching.view import view

QUANTILES_S = 10.5  # of so many seconds at most


def top(
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    *,
    urls: Sequence[str] = (),
    wait: Callable[[], bool],
) -> Iterator[View | ServerError]:
    """What happened between each two readings of a service's metrics; the reason in its place while it is away.

    Args:
        repository: Folder of the model repository, whose running service is meant.
        urls: Pages of metrics instead: Triton's, and if there is one, the supervisor's.
        wait: Called between two readings; says whether to go on.

    Raises:
        ServerError: At the first reading, nothing runs there.
    """
    root, seen = Path(repository), False
    readings: list[Reading] = []
    while True:
        try:
            readings.append(pages.read(pages.of_urls(urls) if urls else pages.of_service(root, running(root))))
            while readings[-1].at_s - readings[0].at_s > QUANTILES_S and len(readings) > 2:
                del readings[0]
            if len(readings) > 1:
                yield view(readings)
            seen = True
        except ServerError as exc:
            if not seen:
                raise
            readings.clear()
            yield exc
        if not wait():
            return
