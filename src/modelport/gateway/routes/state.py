"""A rollout that is under way, and the history of all of them: `<state>/gateway/routes/<model>.json` and `.jsonl`.

The first is replaced at each step, so that a rollout whose process ended is taken up again. Of the second, what is
oldest goes when it has become large.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelport.errors import ManifestError, UsageError
from modelport.gateway import private
from modelport.gateway.routes.judge import Limits
from modelport.repository import disk, lock
from modelport.spec import check_model_name

AREA = "routes"
HISTORY_BYTES = 1 << 20  # of one model: some hundred rollouts


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A canary that is being brought in.

    Attributes:
        model: Model name.
        canary: Its version.
        stable: The version that it is compared with.
        canary_target: How the route names it: its number or an alias.
        stable_target: How the route names stable.
        limits: What is allowed.
        started: UTC, ISO 8601.
        step: The step that is next or under way, from 0.
        steps_begun: How many steps were begun, those taken up again counted each time.
        looks: How many looks were taken.
    """

    model: str
    canary: int
    stable: int
    canary_target: str
    stable_target: str
    limits: Limits
    started: str
    step: int = 0
    steps_begun: int = 0
    looks: int = 0

    def after(self, **changes: Any) -> Rollout:
        """The same, further on."""
        return replace(self, **changes)


def read(repository: Path, model: str) -> Rollout | None:
    """The rollout of a model that is under way, or whose process ended; None where there is none.

    Raises:
        ManifestError: The file is damaged.
    """
    path = _path(repository, model, "json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        limits = content.pop("limits")
        return Rollout(limits=Limits(**{**limits, "steps": tuple(limits["steps"])}), **content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UsageError) as exc:
        raise ManifestError(
            f"what is known of a rollout of {model!r} cannot be read",
            why=f"{type(exc).__name__}: {exc}",
            fix=f"remove {path}; 'modelport route {model}' shows the route that holds",
            path=str(path),
        ) from exc


def write(repository: Path, rollout: Rollout) -> None:
    """Keep how far a rollout is; the file is replaced in one step.

    Raises:
        RepositoryError: The disk refused.
    """
    content = json.dumps(asdict(rollout), indent=1).encode()
    with private.locked(repository, AREA), disk.errors(repository):
        private.write(_path(repository, rollout.model, "json"), content)


def remove(repository: Path, model: str) -> None:
    """Forget a rollout that has ended.

    Raises:
        RepositoryError: The disk refused.
    """
    with disk.errors(repository):
        _path(repository, model, "json").unlink(missing_ok=True)


def tell(repository: Path, model: str, entry: Mapping[str, Any]) -> None:
    """Add a line to the history; the older half of one that has become large goes.

    Raises:
        RepositoryError: The disk refused.
    """
    path, line = _path(repository, model, "jsonl"), (json.dumps(entry, ensure_ascii=False) + "\n").encode()
    with private.locked(repository, AREA), disk.errors(repository):
        if path.exists() and path.stat().st_size + len(line) > HISTORY_BYTES:
            newer = path.read_bytes()[-HISTORY_BYTES // 2 :]
            private.write(path, newer[newer.find(b"\n") + 1 :])
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def history(repository: Path, model: str) -> list[dict[str, Any]]:
    """What happened in the rollouts of a model, the oldest first; damaged lines are left out."""
    found = []
    with (
        contextlib.suppress(OSError),
        _path(repository, model, "jsonl").open(encoding="utf-8", errors="replace") as file,
    ):
        for line in file:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                found += [entry] if isinstance(entry, dict) else []
    return found


@contextlib.contextmanager
def alone(repository: Path, model: str) -> Iterator[None]:
    """No other process brings in a canary of this model meanwhile.

    Raises:
        RepositoryLockedError: One does; the message names it.
    """
    with private.locked(repository, AREA):
        path = _path(repository, model, "lock")
    with lock.file(path, f"a canary of model {model!r} is being brought in", timeout_s=0.0):
        yield


def _path(repository: Path, model: str, kind: str) -> Path:
    return private.folder(repository, AREA, f"{check_model_name(model)}.{kind}")
