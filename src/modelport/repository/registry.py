"""The registry: the models of a repository, their versions, and how each of these stands.

There is no database that could differ from the files. Everything is read from `config.pbtxt` and the manifests at each
call, quickly enough for a thousand models; what is known of folders that were copied in is in the state folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import ManifestError, RepositoryError
from modelport.repository import drops, placed
from modelport.repository import manifest as manifests
from modelport.repository import record as records
from modelport.repository.layout import (
    config_path,
    model_names,
    read_config_text,
    state_folder,
    version_folder,
    version_numbers,
)
from modelport.repository.manifest import MANIFEST_FILE, Manifest
from modelport.repository.record import Record
from modelport.repository.versions import loaded_by

SERVING, RETIRED, CANDIDATE, UNCHECKED = "serving", "retired", "candidate", "unchecked"
BROKEN, EMPTY = "broken", "empty"
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # what was copied in may be a link or a pipe
_LARGEST = 16 << 20  # bytes of a manifest
MODEL_FILES = (".onnx", ".pt", ".pth", ".pt2", ".keras", ".h5")
STATES = (SERVING, RETIRED, CANDIDATE, UNCHECKED, BROKEN, EMPTY)


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version of a model.

    Attributes:
        model: Model name.
        version: Version number; None for a model without any version.
        state: `serving`: it answers requests that name no version. `retired`: it served before. `candidate`: it never
            served. `unchecked`: its folder was copied in, and nobody has looked at it yet. `broken`: its manifest or
            a file is missing or damaged, or it was refused when it was copied in. `empty`: the model has no version.
        loaded: Whether `config.pbtxt` has it loaded: it answers requests that name it.
        way_back: Whether a rollback goes there.
        aliases: Words that point at it, sorted.
        tags: Its tags, sorted.
        format: `onnx`, `torchscript`, `python`, `ensemble`; empty when unknown.
        framework: What it was trained with.
        size_bytes: Of all files.
        created: UTC time, ISO 8601.
        metrics: Of the source model.
        route_percent: How many of a hundred calls without a version the gateway sends there; None without a route.
        problem: What is wrong with the version or the model's configuration, such as why it was refused, or not
            promoted, when it was copied in; empty when nothing is.
    """

    model: str
    version: int | None
    state: str
    loaded: bool = False
    way_back: bool = False
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    format: str = ""
    framework: str = ""
    size_bytes: int = 0
    created: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    route_percent: float | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a model stands, by its folder and its `config.pbtxt`.

    Attributes:
        model: Model name.
        numbers: The versions that have a folder, ascending.
        loaded: Those that Triton is to load, ascending.
        record: What is remembered about the model.
        placed: The versions that were published or adopted here, as `placed.known` tells.
        problem: What is wrong with its configuration; empty when nothing is.
    """

    model: str
    numbers: tuple[int, ...]
    loaded: tuple[int, ...]
    record: Record
    placed: Mapping[int, str] | None = None
    problem: str = ""

    @property
    def serving(self) -> int | None:
        """The version that answers requests which name none."""
        return max(self.loaded, default=None)

    @property
    def way_back(self) -> int | None:
        """The version that a rollback goes to."""
        found = [v for v in self.record.way_back if v in self.numbers and v != self.serving]
        return found[-1] if found else None

    def state_of(self, version: int) -> str:
        """The state of a version that was published or adopted, and is not broken."""
        if version == self.serving:
            return SERVING
        return RETIRED if self.record.served(version) else CANDIDATE


def rows(repository: Path, *, wanted: Callable[[str], bool] = lambda _: True) -> list[VersionRow]:
    """Every version of every model, by name and number. What is broken is a row like the others.

    Args:
        repository: The model repository.
        wanted: Tells by its name whether a model is read.

    Raises:
        RepositoryError: There is no such folder.
    """
    noted, places = _models_with_notes(repository), placed.folder_of(repository)
    found: list[VersionRow] = []
    for model in filter(wanted, model_names(repository)):
        found += _rows_of(repository, model, noted=model in noted, places=places)
    return found


def model_rows(repository: Path, model: str) -> list[VersionRow]:
    """The versions of one model, by number.

    Raises:
        ModelNotFoundError: The repository has no such model.
    """
    version_numbers(repository, model)
    return _rows_of(repository, model, noted=model in _models_with_notes(repository))


def row(repository: Path, model: str, version: int) -> VersionRow:
    """One version.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
    """
    version_folder(repository, model, version)
    noted = model in _models_with_notes(repository)
    return _row(repository, standing(repository, model), version, noted=noted)


def standing(repository: Path, model: str, *, places: Path | None = None) -> Standing:
    """How a model stands.

    Args:
        repository: The model repository.
        model: Model name.
        places: What `placed.folder_of` gives, for who asks about many models.

    Raises:
        ModelNotFoundError: The repository has no such model.
    """
    numbers = tuple(version_numbers(repository, model))
    path = config_path(repository, model)
    loaded: tuple[int, ...] = ()
    known = Record()
    problem = ""
    try:
        text = read_config_text(path)
        loaded = loaded_by(text, numbers, where=path)
        known = records.parse(text, where=path)
    except ManifestError as exc:
        problem = f"{exc.what}: {exc.why}"
    noted = placed.known(repository, model, folder=places)
    return Standing(model=model, numbers=numbers, loaded=loaded, record=known, placed=noted, problem=problem)


def _rows_of(repository: Path, model: str, *, noted: bool, places: Path | None = None) -> list[VersionRow]:
    try:
        stands = standing(repository, model, places=places)
    except RepositoryError as exc:  # the folder went, or may not be read
        return [VersionRow(model=model, version=None, state=BROKEN, problem=f"{exc.what}: {exc.why}")]
    if not stands.numbers:
        return [VersionRow(model=model, version=None, state=EMPTY, problem=_without_version(repository / model))]
    return [_row(repository, stands, version, noted=noted) for version in stands.numbers]


def _row(repository: Path, stands: Standing, version: int, *, noted: bool) -> VersionRow:
    model = stands.model
    folder = f"{repository}/{model}/{version}"
    known = drops.known(repository, model, version) if noted else None
    manifest, problem, digest = _published(folder, model, version)
    state = _state(stands, version, refused=known is not None and known.refused, damaged=bool(problem), digest=digest)
    if known is not None and (known.refused or state == CANDIDATE):
        problem = known.reason
    elif state == BROKEN and not problem:
        problem = "its manifest is not the one that it was published with"
    about_model = stands.problem
    if state == UNCHECKED:
        about_model = ""  # a new model gets its configuration when its first version is adopted
        seen = f": {problem}" if problem and manifest is not None else ""
        problem = f"copied in; 'modelport adopt {model}/{version}' checks it{seen}"
    shares = stands.record.route.versions(stands.record.aliases, stands.loaded)
    return VersionRow(
        model=model,
        version=version,
        state=state,
        loaded=version in stands.loaded and state != UNCHECKED,
        way_back=version == stands.way_back,
        aliases=stands.record.aliases_of(version),
        tags=tuple(stands.record.tags.get(version, ())),
        format=manifest.format if manifest else "",
        framework=manifest.framework if manifest else "",
        size_bytes=manifest.size_bytes if manifest else 0,
        created=manifest.created if manifest else "",
        metrics=manifest.metrics if manifest else {},
        route_percent=shares.get(version, 0.0) if shares else None,
        problem="; ".join(" ".join(text.split()) for text in (problem, about_model) if text),
    )


def _state(stands: Standing, version: int, *, refused: bool, damaged: bool, digest: str) -> str:
    """The state of a version with a folder.

    Args:
        stands: How its model stands.
        version: The version.
        refused: Whether it was refused when it was copied in.
        damaged: Whether its manifest or a file is missing or damaged.
        digest: Of its manifest; empty where that cannot be read.
    """
    noted = stands.placed
    if refused:
        return BROKEN
    used = version in stands.loaded or stands.record.served(version)
    if noted is None:
        return stands.state_of(version) if not damaged else BROKEN if used else UNCHECKED
    if version not in noted:
        if not used or not noted:
            return UNCHECKED
    elif digest != noted[version]:
        return BROKEN if used or damaged else UNCHECKED
    return BROKEN if damaged else stands.state_of(version)


def _published(folder: str, model: str, version: int) -> tuple[Manifest | None, str, str]:
    """The manifest, what is seen to be wrong with it or the files without reading those, and its digest."""
    digest = ""
    try:
        content = _content(folder)
        digest = placed.digest_of(content)
        manifest = manifests.parse(content, folder=folder)
    except FileNotFoundError:
        return None, f"it has no manifest; 'modelport adopt {model}/{version}' checks it and makes one", digest
    except OSError as exc:
        return None, f"its manifest cannot be read: {exc}", digest
    except ManifestError as exc:
        return None, f"{exc.what}: {exc.why}", digest
    return manifest, _damage(folder, model, version, manifest), digest


def _content(folder: str) -> bytes:
    """The content of the manifest, read with the fewest calls: this runs for every version of a repository."""
    descriptor = os.open(f"{folder}/{MANIFEST_FILE}", _FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise OSError(f"{MANIFEST_FILE} is no file of a manifest's kind and size")
        return os.read(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def _damage(folder: str, model: str, version: int, manifest: Manifest) -> str:
    """What tells without reading the files that they are not what was published; empty when nothing does."""
    if manifest.version != version or manifest.spec.name != model:
        return f"the folder was {manifest.spec.name}/{manifest.version}"
    for name, file in manifest.files.items():
        try:
            status = os.lstat(f"{folder}/{name}")
        except (OSError, ValueError):
            return f"{name} is missing"
        if not stat.S_ISREG(status.st_mode):
            return f"{name} is no regular file"
        if status.st_size != file.size_bytes:
            return f"{name} has {status.st_size} bytes instead of {file.size_bytes}"
    return ""


def _without_version(folder: Path) -> str:
    """Why a model has no version; a model file that lies beside the version folders is a common mistake."""
    misplaced = sorted(path.name for path in folder.iterdir() if path.suffix in MODEL_FILES)
    if misplaced:
        return f"{misplaced[0]} lies beside the version folders: move it into {folder.name}/1/"
    return f"it has no version: export the model, or copy a version folder to {folder.name}/1/"


def _models_with_notes(repository: Path) -> set[str]:
    try:
        return {path.name for path in (state_folder(repository) / drops.DROPS).iterdir()}
    except OSError:
        return set()
