"""What a model's owner decided about it, and where its versions have been: one comment line in `config.pbtxt`.

Triton does not read comments, so it never loads a model anew because of them; and the record changes together with the
version policy in one rename. A model for which nothing was decided has no such line.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport.errors import InvalidNameError, ManifestError
from modelport.repository import gate as rules
from modelport.repository import route as routes
from modelport.repository.gate import Gate
from modelport.repository.route import Route
from modelport.spec import check_word, parse_version

CANDIDATE, PROMOTE = "candidate", "promote"
ON_DROP = (CANDIDATE, PROMOTE)
MARK = "# modelport: "
NOTE = "# modelport keeps the next line; change it with its commands."
KEPT = 20  # versions to go back to; the others that served are retired


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Settings of a model that the serving version's own replaced; they come back when another version serves.

    Attributes:
        max_batch_size: The largest batch; None where it was not replaced.
        instance_counts: The instances of each group; empty where they were not replaced.
        parameters: Backend parameters by name; None for one that was not there.
        label_files: Output to the name of its label file; empty for one that had none.
    """

    max_batch_size: int | None = None
    instance_counts: tuple[int, ...] = ()
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    label_files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is remembered about a model beside its configuration.

    Attributes:
        on_drop: What becomes of a version folder that was copied in and found good: `candidate` or `promote`.
        aliases: Alias to version, such as {"stable": 2}.
        tags: Version to its tags, sorted.
        way_back: The versions that served before the serving one, the latest last: where a rollback goes.
        retired: Other versions that served once.
        highest: The highest version number that was ever given; no number is given twice.
        kept: Settings of the model that the serving version replaced.
        tuned: Why the model's instances, threads and batches are as they are; empty where they were not tuned.
        route: Where the gateway sends unversioned calls; empty where they go to the serving version.
        latency_budget_ms: What 99 of 100 calls may take, before somebody is told; None where nothing was said.
        gates: What a version must be worth before it may serve.
    """

    on_drop: str = CANDIDATE
    aliases: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    way_back: tuple[int, ...] = ()
    retired: tuple[int, ...] = ()
    highest: int = 0
    kept: Kept = field(default_factory=Kept)
    tuned: str = ""
    route: Route = field(default_factory=Route)
    latency_budget_ms: float | None = None
    gates: tuple[Gate, ...] = ()

    def served(self, version: int) -> bool:
        """Whether the version served before."""
        return version in self.way_back or version in self.retired

    def aliases_of(self, version: int) -> tuple[str, ...]:
        """The aliases that point at a version, sorted."""
        return tuple(sorted(name for name, target in self.aliases.items() if target == version))

    def switched(self, old: int | None, new: int, *, back: bool) -> Record:
        """The record after `new` became the serving version in the place of `old`.

        Args:
            old: The version that served; None where none did.
            new: The version that serves now.
            back: Whether this was a rollback: `old` is then no place to go back to.
        """
        if old is None or old == new:
            return self
        way = [v for v in self.way_back if v != new]
        if back:
            way = list(self.way_back[: self.way_back.index(new)]) if new in self.way_back else way
        else:
            way = [*(v for v in way if v != old), old]
        way = way[-KEPT:]
        gone = {*self.way_back, *self.retired, old} - {new, *way}
        return dataclasses.replace(self, way_back=tuple(way), retired=tuple(sorted(gone)))

    def without(self, versions: set[int]) -> Record:
        """The record after versions were deleted; their numbers are not given again."""
        return dataclasses.replace(
            self,
            tags={v: words for v, words in self.tags.items() if v not in versions},
            way_back=tuple(v for v in self.way_back if v not in versions),
            retired=tuple(v for v in self.retired if v not in versions),
            highest=max((self.highest, *versions)),
        )


def read(path: Path) -> Record:
    """The record in a `config.pbtxt`; an empty one where there is no file or no such line.

    Raises:
        ManifestError: The line is damaged.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), where=path)
    except (FileNotFoundError, NotADirectoryError):
        return Record()
    except (OSError, UnicodeDecodeError) as exc:
        raise _unreadable(path, exc) from exc


def parse(text: str, *, where: Path) -> Record:
    """The record in the text of a `config.pbtxt`.

    Raises:
        ManifestError: The line is damaged.
    """
    line = next((line for line in text.splitlines() if line.startswith(MARK)), None)
    if line is None:
        return Record()
    try:
        content: dict[str, Any] = json.loads(line.removeprefix(MARK))
        record = Record(
            on_drop=content.get("on_drop", CANDIDATE),
            aliases={check_word(name): _number(v) for name, v in content.get("aliases", {}).items()},
            tags={
                parse_version(v): tuple(map(check_word, _list(words))) for v, words in content.get("tags", {}).items()
            },
            way_back=tuple(map(_number, _list(content.get("way_back", [])))),
            retired=tuple(map(_number, _list(content.get("retired", [])))),
            highest=_number(content["highest"]) if "highest" in content else 0,
            kept=_kept(content.get("kept", {})),
            tuned=str(content.get("tuned", "")),
            route=routes.parse(content.get("route", {})),
            latency_budget_ms=_positive(content.get("latency_budget_ms")),
            gates=rules.parse(_list(content.get("gates", []))),
        )
        if record.on_drop not in ON_DROP:
            raise ValueError(f"on_drop is {record.on_drop!r}")
        return record
    except (ValueError, TypeError, AttributeError, RecursionError, InvalidNameError) as exc:
        raise _unreadable(where, exc) from exc


def lines(record: Record) -> str:
    """The comment lines for a record, each with its line break; nothing for an empty one."""
    if record == Record():
        return ""
    content = _said(dataclasses.asdict(record), Record())
    if record.kept != Kept():
        content["kept"] = _said(content["kept"], Kept())
    if record.gates:
        content["gates"] = rules.content(record.gates)
    if record.route != Route():
        content["route"] = routes.content(record.route)
    return f"{NOTE}\n{MARK}{json.dumps(content, sort_keys=True)}\n"


def _said(values: Mapping[str, Any], usual: Any) -> dict[str, Any]:
    """What is not as for every model."""
    default = dataclasses.asdict(usual)
    return {name: value for name, value in values.items() if value != default[name]}


def _kept(content: Mapping[str, Any]) -> Kept:
    parameters, label_files = content.get("parameters", {}), content.get("label_files", {})
    kept = Kept(
        max_batch_size=content.get("max_batch_size"),
        instance_counts=tuple(map(_number, _list(content.get("instance_counts", [])))),
        parameters={str(name): None if value is None else str(value) for name, value in parameters.items()},
        label_files={str(name): str(value) for name, value in label_files.items()},
    )
    if not isinstance(kept.max_batch_size, int | None):
        raise ValueError(f"{kept.max_batch_size!r} is no size of a batch")
    return kept


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise ValueError(f"{value!r} is no list")


def _positive(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")):
        return value
    raise ValueError(f"{value!r} is no latency")


def _number(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return parse_version(str(value))
    raise ValueError(f"{value!r} is no version")


def _unreadable(path: Path, exc: Exception) -> ManifestError:
    return ManifestError(
        f"modelport's line in {path.parent.name}/{path.name} cannot be read",
        why=f"{type(exc).__name__}: {exc}",
        fix=f"correct the line that begins with {MARK!r}, or remove it: aliases, tags and the way back are then gone",
        path=str(path),
    )
