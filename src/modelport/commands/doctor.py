"""The verb `doctor`: look at a repository's files, ours or any other Triton repository's, and repair what is safe."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import RepositoryError
from modelport.repository.doctor import context as contexts
from modelport.repository.doctor.finding import SEVERITIES, Finding, Severity, printable
from modelport.repository.doctor.registry import examine
from modelport.repository.doctor.repair import repair
from modelport.repository.doctor.targets import DEFAULT_TARGET, target_of
from modelport.repository.layout import DEFAULT_REPOSITORY


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found, and what was done about it.

    Attributes:
        repository: Full path of the repository.
        target: The container that it was checked against.
        models: The models that were looked at.
        findings: What is there now, by model, file and line.
        done: What `fix` did, one line each.
    """

    repository: Path
    target: str
    models: tuple[str, ...]
    findings: tuple[Finding, ...]
    done: tuple[str, ...]

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """2 with errors, 1 with warnings, else 0; notes do not count."""
        return 2 if self.count("error") else 1 if self.count("warning") else 0

    def as_json(self) -> dict[str, object]:
        """The report for scripts; paths as they can be printed."""
        return {
            "repository": printable(self.repository),
            "target": self.target,
            "models": list(self.models),
            **{f"{severity}s": self.count(severity) for severity in SEVERITIES},
            "findings": [
                {
                    "rule": finding.rule,
                    "severity": finding.severity,
                    "model": finding.model,
                    "path": finding.printable_path,
                    "line": finding.line,
                    "what": finding.what,
                    "why": finding.why,
                    "fix": finding.fix,
                    "fixable": finding.fixable,
                }
                for finding in self.findings
            ],
            "done": list(self.done),
        }


def doctor(
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    models: Sequence[str] = (),
    *,
    target: str = DEFAULT_TARGET,
    fix: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Report:
    """Check a repository's files, without a server.

    Args:
        repository: Any Triton model repository.
        models: The models to look at; none: all, and the repository itself.
        target: The container that it is meant for, `24.10` (the release of the embedded server) or `26.09`.
        fix: Repair what can be repaired safely, then look again. Nothing is deleted: what is moved or changed is kept
            under `<repository>.state/set-aside/`.
        report: Told for whom this waits, where somebody else is at work on a model.

    Raises:
        UsageError: There is no such target.
        RepositoryError: There is no such folder; or, with `fix`, the disk refused.
        ModelNotFoundError: It holds no model of one of the names.
        RepositoryLockedError: With `fix`, another writer is at work.
    """
    root, container = Path(repository), target_of(target)
    done = tuple(repair(root, container, tuple(models), report)) if fix else ()
    try:
        seen = contexts.read(root, container, models)
        findings = tuple(examine(seen))
    except OSError as exc:  # such as a folder of another user
        raise RepositoryError(
            f"{root} cannot be read",
            why=str(exc),
            fix="run it as a user who may read the repository",
            path=str(exc.filename or root),
        ) from exc
    return Report(
        repository=seen.repository,
        target=container.name,
        models=tuple(model.name for model in seen.models),
        findings=findings,
        done=done,
    )
