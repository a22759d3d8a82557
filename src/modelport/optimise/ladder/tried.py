"""What came of a rung, and where that is kept: a folder for each, renamed into place when all is in it."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from modelport.bench.results import Spread
from modelport.evaluate.intervals import Interval
from modelport.optimise import unfinished
from modelport.optimise.candidate import Candidate
from modelport.optimise.ladder.rungs import Rung
from modelport.optimise.measure import Measured, Side
from modelport.optimise.scoring import Score
from modelport.repository import disk
from modelport.repository.manifest import file_record
from modelport.verify import evidence as evidences

PASSED, REFUSED, IMPOSSIBLE, NOT_TRIED = "within budget", "refused", "impossible", "not tried"
FILE, RUN = "tried.json", "run"
_MAKING = "making-"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a rung.

    Attributes:
        rung: What was tried, such as `int8, entropy`.
        to: The kind.
        state: `within budget`, `refused` (it loses too much), `impossible`, or `not tried`.
        why: Why not, where it is not within the budget.
        scores: The figure of the budget first; empty where there was nothing to score.
        drop: Of that figure, with the interval of the paired differences; None where there is none.
        measured: Size, latency and rate beside the original; None unless within the budget.
        facts: For the manifest.
        notes: For people.
        own: Whether it was trained, so that its answers are its own.
        files: File name to sha256, of artefact and evidence.
    """

    rung: str
    to: str
    state: str
    why: str = ""
    scores: tuple[Score, ...] = ()
    drop: Interval | None = None
    measured: Measured | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    own: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


class Workshop:
    """The folder of one ladder: what was tried is read from it, and written to it."""

    def __init__(self, folder: Path) -> None:
        """It is locked by `opened`."""
        self.folder = folder
        path = folder / RUN
        if not path.is_file():
            path.write_text(uuid.uuid4().hex, encoding="utf-8")
        self.run = path.read_text(encoding="utf-8")
        """Tells this climb from every other, in the manifest of what comes of it."""
        for left in folder.glob(f"{_MAKING}*"):
            shutil.rmtree(left, ignore_errors=True)

    @property
    def begun(self) -> bool:
        """Whether something was tried before."""
        return any(self.folder.glob(f"*/{FILE}"))

    def read(self, rung: Rung) -> Tried | None:
        """What came of a rung; None where it was not tried, or what is kept of it is damaged."""
        folder = self.folder / rung.folder
        try:
            found = _from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))
            return found if found.files == _files(folder) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def clear(self) -> None:
        """Forget everything: it was published."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def making(self) -> Iterator[Path]:
        """An empty folder, removed afterwards unless it was kept."""
        folder = self.folder / f"{_MAKING}{uuid.uuid4().hex[:12]}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, rung: Rung, tried: Tried, folder: Path) -> Tried:
        """Move a folder that `making` gave to its place; of what is not within the budget no artefact is kept.

        Returns:
            The same with its files.
        """
        if tried.state != PASSED:
            for path in folder.iterdir():
                path.unlink()
        tried = replace(tried, files=_files(folder))
        (folder / FILE).write_text(json.dumps(asdict(tried)), encoding="utf-8")
        disk.sync_tree(folder)
        place = self.folder / rung.folder
        shutil.rmtree(place, ignore_errors=True)
        folder.rename(place)
        return tried

    def candidate(self, rung: Rung, tried: Tried, target: Path) -> Candidate:
        """Copy an artefact and its evidence into a staged folder.

        Raises:
            ManifestError: Its evidence cannot be read.
        """
        assert tried.measured is not None
        for path in (self.folder / rung.folder).iterdir():
            if path.name != FILE:
                shutil.copyfile(path, target / path.name)
        evidence, _ = evidences.read(target)
        return Candidate(
            to=tried.to,
            scores=tried.scores,
            drop=tried.drop,
            measured=tried.measured,
            evidence=evidence,
            facts=tried.facts,
            notes=tried.notes,
            own=tried.own,
        )


@contextlib.contextmanager
def opened(folder: Path, what: str) -> Iterator[Workshop]:
    """The folder, made and locked.

    Raises:
        RepositoryLockedError: Another process climbs the same ladder.
        RepositoryError: The disk refused.
    """
    with unfinished.held(folder, what), disk.errors(folder):
        yield Workshop(folder)


def _files(folder: Path) -> dict[str, str]:
    return {path.name: file_record(path).sha256 for path in sorted(folder.iterdir()) if path.name != FILE}


def _from_json(content: dict[str, Any]) -> Tried:
    seen, drop = content.pop("measured"), content.pop("drop")
    scores, notes = content.pop("scores"), content.pop("notes")
    return Tried(
        **content,
        scores=tuple(Score(**one) for one in scores),
        drop=None if drop is None else Interval(**drop),
        measured=None if seen is None else _measured(seen),
        notes=tuple(notes),
    )


def _measured(content: dict[str, Any]) -> Measured:
    sides: dict[str, Any] = {name: Side(**content[name]) for name in ("before", "after")}
    ratios: dict[str, Any] = {name: Spread(**content[name]) for name in ("faster", "more")}
    return Measured(**{**content, **sides, **ratios, "raw": tuple(content["raw"])})
