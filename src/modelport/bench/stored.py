"""The file of `modelport bench`: every run of one target, and everything that made it.

Targets that were measured in turns have a file each, with the same `series`; only then do their rounds belong together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelport.bench import results
from modelport.bench.load import Load
from modelport.bench.perf_output import Measured, Served, Step
from modelport.bench.rounds import Row
from modelport.errors import UsageError

KIND = "modelport bench"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One target and its runs.

    Attributes:
        name: What was measured, such as `digits_cnn/2 over http`.
        series: The same for all that were measured in turns.
        target: Model, version, server, protocol, inputs, configuration.
        settings: Batch size, window, perf_analyzer's command line.
        rows: The runs, in the order of time.
        circumstances: Time, machine, versions, commit, command line; as `results.conditions` gives them.
    """

    name: str
    series: str
    target: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    circumstances: Mapping[str, Any] = field(default_factory=dict)

    def loads(self) -> list[Load]:
        """The loads, in the order of their size."""
        return sorted({row.load for row in self.rows}, key=lambda load: (load.kind, load.value))

    def runs(self, load: Load) -> dict[int, Measured]:
        """What was seen at one load, by round."""
        return {row.round: row.measured for row in self.rows if row.load == load}


def labels(results: Sequence[Stored]) -> list[str]:
    """What to call them: their names; with the time where two have the same, such as before and after a change."""
    names = [one.name for one in results]
    if len(set(names)) == len(names):
        return names
    return [f"{one.name} of {one.circumstances.get('time', 'unknown time')}" for one in results]


def write(path: Path, stored: Stored) -> None:
    """Write the file; under a temporary name first."""
    about = {"kind": KIND, "schema": SCHEMA, "name": stored.name, "series": stored.series}
    results.write(
        path,
        circumstances={**about, **stored.circumstances, "target": stored.target, "settings": stored.settings},
        rows=[_row(row) for row in stored.rows],
    )


def read(path: Path) -> Stored:
    """Read what `write` wrote.

    Raises:
        UsageError: It is no such file.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("kind") != KIND or content.pop("schema") != SCHEMA:
            raise ValueError("something else, or another release of modelport, wrote it")
        rows = tuple(_parsed(row, content["name"]) for row in content.pop("rows"))
        known = {name: content.pop(name) for name in ("name", "series", "target", "settings")}
        return Stored(**known, rows=rows, circumstances=content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UsageError(
            f"{path} cannot be read as a result of 'modelport bench'",
            why=f"{type(exc).__name__}: {exc}",
            fix="name a .json file that 'modelport bench NAME' wrote",
        ) from exc


def _row(row: Row) -> dict[str, Any]:
    return {"round": row.round, row.load.kind: row.load.value, **asdict(row.measured)}


def _parsed(fields: dict[str, Any], name: str) -> Row:
    kind = next(kind for kind in ("concurrency", "request_rate") if kind in fields)
    load = Load(kind=kind, value=float(fields.pop(kind)))
    number = int(fields.pop("round"))
    steps: Sequence[dict[str, Any]] = fields.pop("steps")
    measured = Measured(
        **{**fields, "windows": tuple(fields["windows"])},
        steps=tuple(Step(**{**step, "served": Served(**step["served"])}) for step in steps),
    )
    return Row(target=name, round=number, load=load, measured=measured)
