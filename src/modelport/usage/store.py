"""The counts on the disk: one row for each hour, tenant, model and version, and how far each log was read. Beside
them, for Prometheus, what was answered since the beginning: so that no restart sets it back.

SQLite with a write-ahead log: who reads waits for nobody. What was counted and how far the log was read change
together, so that a line counts once, whoever is killed when.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import RepositoryError
from modelport.repository import disk
from modelport.repository.layout import state_folder
from modelport.usage.answers import Answers, Said, Times, Told
from modelport.usage.lines import Counted, Counts

FOLDER, FILE = "usage", "usage.sqlite"
WAIT_S = 30.0  # for somebody else who counts
_FIELDS = tuple(field.name for field in dataclasses.fields(Counts))
_TABLES = f"""
CREATE TABLE IF NOT EXISTS used (
    hour TEXT, tenant TEXT, model TEXT, version INTEGER,
    {", ".join(f"{name} INTEGER NOT NULL" for name in _FIELDS)},
    PRIMARY KEY (hour, tenant, model, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logs (
    name TEXT PRIMARY KEY, offset INTEGER NOT NULL, damaged INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS work (
    model TEXT, version INTEGER, inferences INTEGER NOT NULL, compute_ns INTEGER NOT NULL, each_ns REAL NOT NULL,
    PRIMARY KEY (model, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    tenant TEXT, model TEXT, code TEXT, grpc_status TEXT, seen TEXT NOT NULL,
    requests INTEGER NOT NULL, inferences INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL, sent_bytes INTEGER NOT NULL,
    PRIMARY KEY (tenant, model, code, grpc_status)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS times (
    tenant TEXT, model TEXT, bound_us INTEGER, count INTEGER NOT NULL, us INTEGER NOT NULL,
    PRIMARY KEY (tenant, model, bound_us)
) WITHOUT ROWID;
"""  # tables that are there are left as they are
_ADD = f"""
INSERT INTO used (hour, tenant, model, version, {", ".join(_FIELDS)}) VALUES ({", ".join("?" * (4 + len(_FIELDS)))})
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _FIELDS)}
"""  # noqa: S608 - the names are those of a class
_ADD_ANSWERS = """
INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET seen = max(seen, excluded.seen), requests = requests + excluded.requests,
    inferences = inferences + excluded.inferences, received_bytes = received_bytes + excluded.received_bytes,
    sent_bytes = sent_bytes + excluded.sent_bytes
"""
_ADD_TIMES = """
INSERT INTO times VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = count + excluded.count, us = us + excluded.us
"""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a version has computed, by Triton's counters.

    Attributes:
        inferences: Rows since it was loaded.
        compute_ns: Nanoseconds that its instances took for them.
        each_ns: Nanoseconds for one row, lately.
    """

    inferences: int
    compute_ns: int
    each_ns: float = 0.0


def path(repository: Path) -> Path:
    """Where a repository's counts are; they need not be there."""
    return state_folder(repository) / FOLDER / FILE


class Store:
    """The counts of a repository, as a context manager. Made where they are missing; for their owner alone.

    Args:
        repository: The model repository.

    Raises:
        RepositoryError: They cannot be opened.
    """

    def __init__(self, repository: Path) -> None:
        self.path = path(repository)
        with self._errors():
            disk.make_folder(self.path.parent)
            self.path.parent.chmod(0o700)
            self._db = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.executescript(_TABLES)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def offset(self, name: str) -> int:
        """Up to where a log was read; 0 for one that was not."""
        with self._errors():
            found = self._db.execute("SELECT offset FROM logs WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def add(self, name: str, known: int, end: int, counted: Counted, work: Mapping[tuple[str, int], Work]) -> bool:
        """Add what was counted in a piece of a log; False where somebody else has read on in it meanwhile.

        Args:
            name: Of the log.
            known: Up to where it had been read.
            end: Up to where it is read now.
            counted: What stands there.
            work: What Triton's counters were.
        """
        rows = [(*key, *dataclasses.astuple(one)) for key, one in counted.used.items()]
        with self._errors(), self._changing():
            if self.offset(name) != known:
                return False
            self._db.executemany(_ADD, rows)
            self._db.executemany(
                _ADD_ANSWERS, [(*said, *dataclasses.astuple(one)) for said, one in counted.answers.items()]
            )
            self._db.executemany(
                _ADD_TIMES,
                [
                    (*key, bound, count, one.us[bound])
                    for key, one in counted.times.items()
                    for bound, count in one.counts.items()
                ],
            )
            self._db.execute(
                "INSERT INTO logs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset,"
                " damaged = damaged + excluded.damaged",
                (name, end, counted.damaged),
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO work VALUES (?, ?, ?, ?, ?)",
                [(*version, *dataclasses.astuple(one)) for version, one in work.items()],
            )
        return True

    def work(self) -> dict[tuple[str, int], Work]:
        """What Triton's counters were when they were read last."""
        with self._errors():
            rows = self._db.execute("SELECT * FROM work").fetchall()
        return {
            (model, version): Work(inferences=inferences, compute_ns=compute_ns, each_ns=each_ns)
            for model, version, inferences, compute_ns, each_ns in rows
        }

    def told(self, since: str) -> Told:
        """What was answered since the beginning, of those who have asked lately.

        Args:
            since: From which hour on they have asked; what nobody asks any more makes no series.
        """
        lately = "WHERE (tenant, model) IN (SELECT tenant, model FROM answers GROUP BY 1, 2 HAVING max(seen) >= ?)"
        with self._errors():
            answers = self._db.execute(f"SELECT * FROM answers {lately}", (since,)).fetchall()  # noqa: S608
            rows = self._db.execute(f"SELECT * FROM times {lately}", (since,)).fetchall()  # noqa: S608
        times: dict[tuple[str, str], Times] = {}
        for tenant, model, bound, count, us in rows:
            one = times.setdefault((tenant, model), Times())
            one.counts[bound], one.us[bound] = count, us
        return Told(answers={Said(*row[:4]): Answers(*row[4:]) for row in answers}, times=times)

    def damaged(self) -> int:
        """How many lines could not be read so far."""
        with self._errors():
            return int(self._db.execute("SELECT COALESCE(SUM(damaged), 0) FROM logs").fetchone()[0])

    def sums(
        self, columns: Sequence[str], since: str, until: str, *, tenant: str | None = None, model: str | None = None
    ) -> list[tuple[tuple[str, ...], Counts]]:
        """The counts of a time, added up.

        Args:
            columns: By what, as SQL over `hour`, `tenant`, `model` and `version`.
            since: The first day, as `YYYY-MM-DD`.
            until: The last day.
            tenant: Only of this tenant.
            model: Only of this model.

        Returns:
            Words of `columns`, and the sums, in the words' order.
        """
        width = len(columns)
        where = "substr(hour, 1, 10) BETWEEN ? AND ? AND (? IS NULL OR tenant = ?) AND (? IS NULL OR model = ?)"
        sums = ", ".join(f"SUM({name})" for name in _FIELDS)
        order = ", ".join(map(str, range(1, width + 1)))
        query = f"SELECT {', '.join(columns)}, {sums} FROM used WHERE {where} GROUP BY {order} ORDER BY {order}"  # noqa: S608
        with self._errors():
            rows = self._db.execute(query, (since, until, tenant, tenant, model, model)).fetchall()
        return [(tuple(map(str, row[:width])), Counts(*row[width:])) for row in rows]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # after some errors SQLite has rolled back itself
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise RepositoryError(
                f"the counts in {self.path} cannot be used",
                why=str(exc),
                fix="check the disk and the file's owner; a damaged file is put back from a backup",
                path=str(self.path),
            ) from exc
