"""The verb `policy`: what becomes of a version that is copied in while the service runs; how fast a model must be."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

from modelport.errors import UsageError
from modelport.repository import events, journal, switch
from modelport.repository.layout import DEFAULT_REPOSITORY, version_numbers
from modelport.repository.record import ON_DROP


def policy(model: str, *, on_drop: str | None = None, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> str:
    """Set or tell what becomes of a version that is copied in and found good.

    Args:
        model: Model name.
        on_drop: `candidate`: it waits for `modelport promote`. `promote`: it is promoted at once. Left out: no change.
        repository: Folder of the model repository.

    Returns:
        What holds now.

    Raises:
        UsageError: `on_drop` is another word.
        ModelNotFoundError: There is no such model.
        ManifestError: The model's configuration cannot be read.
    """
    if on_drop is not None and on_drop not in ON_DROP:
        raise UsageError(
            f"{on_drop!r} cannot become of a version that is copied in",
            why=f"it can become one of {', '.join(ON_DROP)}",
            fix="name one of these",
        )
    root = Path(repository)
    version_numbers(root, model)
    if on_drop is None:
        return switch.read(root, model)[1].on_drop
    with journal.changing(root, model):
        config, known = switch.read(root, model)
        if on_drop != known.on_drop:
            switch.write(root, model, config, replace(known, on_drop=on_drop))
            text = f"a version that is copied in becomes: {on_drop}"
            events.append(root, events.event("policy", text, model=model, on_drop=on_drop))
    return on_drop


def latency_budget(
    model: str, *, ms: float | None = None, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY
) -> float | None:
    """Set or tell what 99 of 100 calls of a model may take at the gateway, before an alert fires.

    Args:
        model: Model name.
        ms: Milliseconds; 0 takes the budget away. Left out: no change.
        repository: Folder of the model repository.

    Returns:
        Milliseconds; None where there is none.

    Raises:
        UsageError: It is no time.
        ModelNotFoundError: There is no such model.
        ManifestError: The model's configuration cannot be read.
    """
    if ms is not None and not 0 <= ms < math.inf:
        raise UsageError(
            f"{ms} ms is no latency budget", why="it is not 0 or more", fix="give milliseconds; 0 takes it away"
        )
    root = Path(repository)
    version_numbers(root, model)
    if ms is None:
        return switch.read(root, model)[1].latency_budget_ms
    with journal.changing(root, model):
        config, known = switch.read(root, model)
        switch.write(root, model, config, replace(known, latency_budget_ms=ms or None))
    return ms or None
