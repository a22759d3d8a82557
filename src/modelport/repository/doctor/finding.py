"""What a check says: a `Finding`, made by the `Rule` that it breaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


def printable(path: Path) -> str:
    """A path with what cannot be printed in it escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One place in a repository that breaks a rule.

    Attributes:
        rule: The rule's name; stable, for scripts that filter.
        severity: `error`: Triton refuses the model, answers wrongly, or dies. `warning`: it works now and goes wrong
            later, or elsewhere. `note`: worth knowing.
        model: Model name; empty where it concerns the whole repository.
        path: Relative to the repository's folder.
        line: In that file, from 1; None where no line can be named.
        what: What was found, with its value.
        why: What comes of it.
        fix: What to do.
        fixable: Whether `--fix` does it.
    """

    rule: str
    severity: Severity
    model: str
    path: Path
    line: int | None
    what: str
    why: str
    fix: str
    fixable: bool

    @property
    def printable_path(self) -> str:
        """The path, with what cannot be printed in names escaped."""
        return printable(self.path)

    @property
    def place(self) -> str:
        """The path with its line, for people."""
        return self.printable_path if self.line is None else f"{self.printable_path}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something was found.

    Attributes:
        path: Relative to the repository's folder.
        model: Model name; empty where it concerns the whole repository.
        line: In that file, from 1; None where no line can be named.
    """

    path: Path
    model: str = ""
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is checked; the page of rules in the documents is made from these.

    Attributes:
        id: Stable name.
        severity: The usual one.
        title: When it is broken, in one sentence.
        why: What comes of it.
        fix: What to do.
        repair: How `--fix` does it: `edit` the configuration, `move` the path to the set-aside folder, `clean` what
            killed commands left. Empty where it does not.
    """

    id: str
    severity: Severity
    title: str
    why: str
    fix: str
    repair: Literal["", "edit", "move", "clean"] = ""

    def found(
        self,
        what: str,
        at: Place,
        *,
        severity: Severity | None = None,
        why: str = "",
        fix: str = "",
        fixable: bool | None = None,
    ) -> Finding:
        """A finding of this rule; what is left out is as the rule says."""
        return Finding(
            rule=self.id,
            severity=severity or self.severity,
            model=at.model,
            path=at.path,
            line=at.line,
            what=what,
            why=why or self.why,
            fix=fix or self.fix,
            fixable=bool(self.repair) if fixable is None else fixable,
        )
