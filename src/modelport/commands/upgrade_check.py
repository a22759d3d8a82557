"""The verb `upgrade-check`: what a move to another release of Triton would change."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from modelport.errors import RepositoryError, UsageError
from modelport.repository.doctor import context as contexts
from modelport.repository.doctor.finding import SEVERITIES, Severity
from modelport.repository.doctor.targets import DEFAULT_TARGET
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.upgrade import compose as composes
from modelport.upgrade.check import Item, check
from modelport.upgrade.releases import Release, table

EMBEDDED = "24.10"  # the release of the embedded server


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a move changes.

    Attributes:
        repository: Its full path.
        before: What is run now.
        after: What is to be run.
        models: The models that were looked at.
        items: What changes, errors first.
    """

    repository: Path
    before: Release
    after: Release
    models: tuple[str, ...]
    items: tuple[Item, ...]

    def count(self, severity: Severity) -> int:
        """How many items are of this severity."""
        return sum(one.severity == severity for one in self.items)

    @property
    def exit_code(self) -> int:
        """As `doctor`: 2 with errors, 1 with warnings, else 0; notes do not count."""
        return 2 if self.count("error") else 1 if self.count("warning") else 0

    def as_json(self) -> dict[str, object]:
        """For scripts."""
        return {
            "repository": str(self.repository),
            "from": asdict(self.before),
            "to": asdict(self.after),
            "models": list(self.models),
            **{f"{severity}s": self.count(severity) for severity in SEVERITIES},
            "items": [asdict(one) for one in self.items],
        }


def upgrade_check(
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    *,
    to: str = DEFAULT_TARGET,
    since: str = "",
    compose: Path | None = None,
) -> Report:
    """Compare two releases for a repository, without a server.

    Args:
        repository: Any Triton model repository.
        to: The release to move to: a container's tag or a version of Triton.
        since: The release that is run now; left out, that of the compose file, else that of the embedded server.
        compose: A compose file, whose Triton services are looked at too.

    Raises:
        UsageError: A release is not in the table, or the compose file cannot be read.
        EnvironmentUnfitError: A compose file is given, and the package that reads it is missing.
        RepositoryError: There is no such repository.
    """
    known = table()
    after = known.release(to)
    services = composes.read(compose) if compose else ()
    running = since or _running(services)
    before = known.release(running or EMBEDDED)
    try:
        seen = contexts.read(Path(repository), known.target(before))
        items = check(seen, services, before, after, known, compose, embedded=not running)
    except OSError as exc:
        raise RepositoryError(
            f"{repository} cannot be read",
            why=str(exc),
            fix="run it as a user who may read the repository",
            path=str(exc.filename or repository),
        ) from exc
    names = tuple(model.name for model in seen.models)
    return Report(repository=seen.repository, before=before, after=after, models=names, items=items)


def _running(services: tuple[composes.Service, ...]) -> str:
    """The release of the compose file; empty where there is none, for the embedded server."""
    found = sorted({one.release for one in services})
    if not services:
        return ""
    if len(found) == 1 and found[0]:
        return found[0]
    raise UsageError(
        "the compose file does not say which release is run now",
        why=f"its images are {', '.join(sorted({one.image for one in services}))}",
        fix="name it with --from 24.10",
    )
