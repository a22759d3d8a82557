"""What `config.pbtxt` wants: the versions to load of each model. Files are read again when they change.

What is copied in while the service runs may bring a configuration that names it, or come where the configuration names
no versions. It is not wanted before it was checked.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import ManifestError, ModelportError
from modelport.repository import config as configs
from modelport.repository import placed, record
from modelport.repository.layout import config_path, model_names, version_numbers


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is wanted of one model.

    Attributes:
        versions: The versions to load, ascending; none for a model without any.
        mark: Another one when a file that matters changed.
        problem: Why the configuration cannot be read; empty when it can.
        backend: The backend that it names; empty where it names none.
        budget_ms: Its latency budget; None where it has none.
    """

    versions: tuple[int, ...]
    mark: tuple[object, ...]
    problem: str = ""
    backend: str = ""
    budget_ms: float | None = None

    @property
    def serving(self) -> int | None:
        """The version that callers shall get."""
        return max(self.versions, default=None)


class Wishes:
    """Reads what is wanted of every model.

    Args:
        repository: The model repository.
        only: The models to look at; None for all.
        watched: Whether what is copied in is checked: it is not wanted before. What is there at the first reading is.
    """

    def __init__(self, repository: Path, only: Collection[str] | None = None, *, watched: bool = False) -> None:
        self._repository = repository
        self._only = only
        self._watched = watched
        self._known: dict[str, Wish] = {}
        self._first: dict[str, set[int]] | None = None  # model to the versions that were there from the beginning

    def read(self) -> dict[str, Wish]:
        """What is wanted now. Models whose files have not changed cost three `stat` calls.

        Raises:
            RepositoryError: The repository's folder cannot be read.
        """
        names = [n for n in model_names(self._repository) if self._only is None or n in self._only]
        found: dict[str, Wish] = {}
        if self._first is None:
            self._first = {name: set(version_numbers(self._repository, name)) for name in names}
        for name in names:
            mark = self._mark(name)
            known = self._known.get(name)
            found[name] = known if known is not None and known.mark == mark else self._read(name, mark)
        self._known = found
        return dict(found)

    def _mark(self, name: str) -> tuple[object, ...]:
        marks: list[object] = []
        folder, config = self._repository / name, config_path(self._repository, name)
        for path in (folder, config, placed.path(self._repository, name)):
            try:
                status = path.stat()
            except OSError:
                marks.append(None)
            else:
                marks.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return tuple(marks)

    def _read(self, name: str, mark: tuple[object, ...]) -> Wish:
        try:
            numbers = version_numbers(self._repository, name)
            path = config_path(self._repository, name)
            if not numbers or not path.is_file():
                return Wish(versions=(), mark=mark)
            config = configs.read(path)
            versions = configs.selected(config, self._checked(name, numbers))
            return Wish(versions=versions, mark=mark, backend=config.backend, budget_ms=_budget_ms(path))
        except ManifestError as error:
            return Wish(versions=(), mark=mark, problem=f"{error.what}: {error.why}")
        except ModelportError:  # the folder went away while it was read
            return Wish(versions=(), mark=mark)

    def _checked(self, name: str, numbers: list[int]) -> list[int]:
        if not self._watched:
            return numbers
        first = (self._first or {}).get(name, set())
        first &= {*numbers}  # what is removed and comes again was copied in
        return [v for v in numbers if v in first or placed.ours(self._repository, name, v)]


def _budget_ms(config: Path) -> float | None:
    try:
        return record.read(config).latency_budget_ms
    except ManifestError:  # what is wrong with the line is told where it is needed
        return None
