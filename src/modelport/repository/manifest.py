"""`manifest.json`: what a version is made of, and what made it.

Versions are immutable: the manifest lists every other file of the version folder with its size and sha256.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport.errors import ManifestError, ModelportError
from modelport.spec import ModelSpec, TensorSpec, dtype_of

MANIFEST_FILE = "manifest.json"
SCHEMA = 1
MAKERS = ("modelport", "torch", "keras", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size in bytes and sha256 of one file of a version."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a version is.

    Attributes:
        spec: Name, tensors, largest batch.
        version: Version number.
        format: `onnx`, `torchscript`, `python` or `ensemble`.
        backend: Triton backend (`ensemble` for an ensemble).
        framework: What it was trained with, such as `keras 3.15.1`.
        created: UTC time, ISO 8601.
        files: Every file of the folder but this one.
        makers: Versions of the software that made it.
        metrics: Task metrics of the source, by name.
        facts: What the caller wants to remember, such as the digest of the recipe.
        note: Why a claim was dropped (no batch axis), empty otherwise.
        asked: Fields of the configuration that its publisher asked for; promoting it replaces the owner's.
    """

    spec: ModelSpec
    version: int
    format: str
    backend: str
    framework: str
    created: str
    files: Mapping[str, FileRecord]
    makers: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    asked: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(record.size_bytes for record in self.files.values())


def makers() -> dict[str, str]:
    """Versions of what makes artefacts here."""
    return dict(_makers())


@functools.cache
def _makers() -> dict[str, str]:
    import importlib.metadata  # both take longer to load than a repository takes to list
    import platform

    found = {"python": platform.python_version()}
    for name in MAKERS:
        try:
            found[name] = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def records(folder: Path) -> dict[str, FileRecord]:
    """Size and digest of every file below `folder`, the manifest left out; names with `/`."""
    found: dict[str, FileRecord] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST_FILE:
            continue
        if path.is_symlink() or not path.is_file():
            found[name] = FileRecord(size_bytes=0, sha256="no regular file")
            continue
        found[name] = file_record(path)
    return found


def file_record(path: Path) -> FileRecord:
    """Size and digest of one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
        return FileRecord(size_bytes=path.stat().st_size, sha256=digest.hexdigest())


def write(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a version folder."""
    content: dict[str, Any] = {"schema": SCHEMA, **dataclasses.asdict(manifest)}
    content["spec"] = _spec_to_json(manifest.spec)
    (folder / MANIFEST_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest:
    """Read a version's manifest.

    Raises:
        ManifestError: It is missing or damaged.
    """
    try:
        content = (folder / MANIFEST_FILE).read_bytes()
    except OSError as exc:
        raise _unreadable(folder, exc) from exc
    return parse(content, folder=folder)


def parse(text: bytes, *, folder: Path | str) -> Manifest:
    """The manifest in the content of a `manifest.json`.

    Args:
        text: The content.
        folder: The version folder, for messages.

    Raises:
        ManifestError: It is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(text.decode())
        if content.pop("schema") != SCHEMA:
            raise ValueError("written by another version of modelport")
        content["spec"] = _spec_from_json(content["spec"])
        content["files"] = {name: FileRecord(**record) for name, record in content["files"].items()}
        content["asked"] = tuple(content.get("asked", ()))
        manifest = Manifest(**content)
        _check_types(manifest)
        return manifest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ModelportError) as exc:
        raise _unreadable(Path(folder), exc) from exc


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare the folder with the manifest.

    Raises:
        ManifestError: Files are missing, added, or changed, or the folder was renamed; all of it is named.
    """
    have = records(folder)
    published = f"{manifest.spec.name}/{manifest.version}"
    wrong = [f"the folder was {published}"] if published != f"{folder.parent.name}/{folder.name}" else []
    wrong += [f"{name} is missing" for name in manifest.files if name not in have]
    wrong += [f"{name} was added" for name in have if name not in manifest.files]
    wrong += [f"{name} was changed" for name in have if name in manifest.files and have[name] != manifest.files[name]]
    if wrong:
        raise ManifestError(
            f"version {folder.parent.name}/{folder.name} is not what was published: {', '.join(wrong)}",
            why="a version never changes after it was published; the files were touched",
            fix="restore the files, or publish a new version",
            path=str(folder),
        )


def _check_types(manifest: Manifest) -> None:
    texts = (manifest.format, manifest.backend, manifest.framework, manifest.created, manifest.note)
    mappings = (manifest.makers, manifest.metrics, manifest.facts)
    sizes = {type(record.size_bytes) for record in manifest.files.values()}
    if (
        {*map(type, texts)} != {str}
        or {*map(type, mappings)} != {dict}
        or not sizes | {type(manifest.version)} <= {int}
    ):
        raise ValueError("a field is of another type")
    if not {*map(type, manifest.metrics.values())} <= {int, float}:
        raise ValueError("a metric is no number")
    "".join([*texts, *manifest.metrics]).encode()  # half of a surrogate pair could not be printed


def _unreadable(folder: Path, exc: Exception) -> ManifestError:
    return ManifestError(
        f"version {folder.parent.name}/{folder.name} has no readable manifest",
        why=exc.what if isinstance(exc, ModelportError) else f"{type(exc).__name__}: {exc}",
        fix=f"if it was copied in, 'modelport adopt {folder.parent.name}/{folder.name}' checks it and makes one; "
        "else restore the file, or publish the version again",
        path=str(folder / MANIFEST_FILE),
    )


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest


def _spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    def tensors(group: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
        return [
            {"name": t.name, "dtype": t.dtype.triton, "dims": list(t.dims)} | ({} if t.pad is None else {"pad": t.pad})
            for t in group
        ]

    return {
        "name": spec.name,
        "max_batch_size": spec.max_batch_size,
        "inputs": tensors(spec.inputs),
        "outputs": tensors(spec.outputs),
    }


def _spec_from_json(content: dict[str, Any]) -> ModelSpec:
    def tensors(group: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=t["name"], dtype=dtype_of(t["dtype"]), dims=tuple(t["dims"]), pad=_number(t.get("pad")))
            for t in group
        )

    return ModelSpec(
        name=content["name"],
        max_batch_size=content["max_batch_size"],
        inputs=tensors(content["inputs"]),
        outputs=tensors(content["outputs"]),
    )


def _number(value: object) -> float | None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise ValueError("a value to fill up with is no number")
