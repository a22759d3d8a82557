"""What `--fix` does: careful, reversible, and never a deletion of anybody's data.

Folders and files that do not belong go to `<state>/set-aside/<time>/`, under the path that they had; a configuration
that is changed leaves a copy there. Only what killed commands left behind is cleaned up, by those who made it.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelport.errors import InvalidNameError
from modelport.repository import config as configs
from modelport.repository import disk, journal, lock, publish
from modelport.repository.doctor import context as contexts
from modelport.repository.doctor import edits
from modelport.repository.doctor.finding import Finding, printable
from modelport.repository.doctor.model import read_model
from modelport.repository.doctor.registry import REPAIRED_AREAS, RULES, examine
from modelport.repository.doctor.targets import Target
from modelport.repository.layout import state_folder
from modelport.spec import check_model_name

SET_ASIDE = "set-aside"


def repair(
    repository: Path, target: Target, names: tuple[str, ...] = (), report: lock.Report = lambda _: None
) -> list[str]:
    """Repair what can be repaired; one line for each thing that was done.

    Args:
        repository: The repository.
        target: The container that it is meant for.
        names: The models; none: all, and the repository itself.
        report: Told for whom this waits, where somebody else is at work on a model.

    Raises:
        RepositoryLockedError: Another writer is at work.
        RepositoryError: The disk refused, or the state folder is on another file system than the repository.
    """
    root = repository.resolve()
    done: list[str] = []
    aside = state_folder(root) / SET_ASIDE / f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
    with disk.errors(repository):
        found = _fixable(root, target, names)
        if any(RULES[finding.rule].repair == "clean" for finding in found):
            done += _clean(root)
        for finding in _fixable(root, target, names):
            if RULES[finding.rule].repair == "move":
                done += _move(root, finding, aside, report)
        wanted: dict[str, dict[str, None]] = {}  # the rules of a model, each once, in the order of the report
        for finding in _fixable(root, target, names):
            if RULES[finding.rule].repair == "edit":
                wanted.setdefault(finding.model, {})[finding.rule] = None
        for model, rules in wanted.items():
            done += _edit(root, model, rules, aside, report)
    return done


def _fixable(root: Path, target: Target, names: tuple[str, ...]) -> list[Finding]:
    return [f for f in examine(contexts.read(root, target, names), REPAIRED_AREAS) if f.fixable]


def _clean(root: Path) -> list[str]:
    done = [f"repaired what {note.operation} of {note.model} left when it was killed" for note in journal.repair(root)]
    return done + [f"removed {name} from staging: its export was killed" for name in publish.clean_staging(root)]


def _move(root: Path, finding: Finding, aside: Path, report: lock.Report) -> list[str]:
    """Move the path of a finding out of the repository; nothing where it went with its folder already."""
    with _holding(root, finding.model, report):
        source = root / finding.path
        if not os.path.lexists(source):
            return []
        target = aside / finding.path
        disk.make_folder(target.parent)
        source.rename(target)
        disk.sync(source.parent)
        disk.sync(target.parent)
    return [f"moved {finding.place} to {printable(target)}"]


def _edit(root: Path, name: str, rules: Iterable[str], aside: Path, report: lock.Report) -> list[str]:
    """Repair a model's configuration: edit after edit in memory, then one rename; the old file goes aside first."""
    with _holding(root, name, report) as state:
        model = read_model(root / name, root)
        before = model.text
        repaired: list[str] = []
        for rule in rules:
            text = edits.apply(model, rule)
            if text is not None and text != model.text:
                model = model.with_text(text)
                repaired.append(rule)
        if before is None or model.text is None or not repaired:
            return []
        copy = aside / name / configs.CONFIG_FILE
        disk.make_folder(copy.parent)
        disk.replace_text(copy, before, through=copy.parent)
        disk.replace_text(root / name / configs.CONFIG_FILE, model.text, through=state / journal.STAGING)
    return [f"corrected {name}/{configs.CONFIG_FILE} ({', '.join(repaired)}); the old one is {copy}"]


@contextlib.contextmanager
def _holding(root: Path, name: str, report: lock.Report) -> Iterator[Path]:
    """The locks for a change of a model, or of the root; gives the state folder."""
    with contextlib.ExitStack() as stack:
        if name:
            with contextlib.suppress(InvalidNameError):  # no command can be at work on such a model
                check_model_name(name)
                stack.enter_context(journal.changing(root, name, report=report))
        yield stack.enter_context(lock.writer(root))
