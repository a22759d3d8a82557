"""The verb `diff`: what changed between two versions of a model, by what was stored with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.layout import DEFAULT_REPOSITORY, version_folder
from modelport.repository.manifest import Manifest
from modelport.verify import evidence as evidences

Value: TypeAlias = "str | int | float | None"
# What says the same in every version, or is compared elsewhere.
_OF_THE_VERSION = ("name", "version_policy", "max_batch_size")
_OF_A_TENSOR = ("name", "data_type", "dims")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that differs.

    Attributes:
        part: `version`, `metrics`, `tensors`, `configuration`, `files`, `made with`, `facts` or `tolerance`.
        what: Its name, such as a metric's.
        before: In the first version; None where it is not there. Of a file, the size in bytes.
        after: In the second version, likewise. A file of the same size has other content.
        difference: `after` minus `before`, where both are numbers.
    """

    part: str
    what: str
    before: Value
    after: Value
    difference: float | None


@dataclass(frozen=True, kw_only=True)
class Diff:
    """What changed between two versions.

    Attributes:
        model: Model name.
        before: The first version.
        after: The second version.
        changes: What differs, part by part.
    """

    model: str
    before: int
    after: int
    changes: tuple[Change, ...]


def diff(model: str, before: int, after: int, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> Diff:
    """Compare two versions of a model: metrics, tensors, configuration, files, sizes, software, sources, tolerances.

    Args:
        model: Model name.
        before: A version.
        after: Another version.
        repository: Folder of the model repository.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such model or version.
        ManifestError: A version's manifest or configuration cannot be read.
    """
    root = Path(repository)
    one, two = (_facts(version_folder(root, model, version)) for version in (before, after))
    changes = [
        _change(part, what, _size(old), _size(new))
        for part in one
        for what, old, new in _pairs(one[part], two[part])
        if old != new
    ]
    return Diff(model=model, before=before, after=after, changes=tuple(changes))


def _change(part: str, what: str, before: Value, after: Value) -> Change:
    difference = None
    if isinstance(before, (int, float)) and isinstance(after, (int, float)):
        difference = after - before
    return Change(part=part, what=what, before=before, after=after, difference=difference)


@dataclass(frozen=True)
class _File:
    """A file's size and digest: files of the same size differ by their digest."""

    size_bytes: int
    sha256: str


def _facts(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What is known of a version: part to name to value; the same parts for every version."""
    manifest = manifests.read(folder)
    return {
        "version": _summary(manifest),
        "metrics": manifest.metrics,
        "tensors": _tensors(manifest),
        "configuration": dict(_configuration(folder)),
        "files": {name: _File(file.size_bytes, file.sha256) for name, file in manifest.files.items()},
        "made with": manifest.makers,
        "facts": manifest.facts,
        "tolerance": _tolerance(folder),
    }


def _summary(manifest: Manifest) -> dict[str, Value]:
    return {
        "trained with": manifest.framework,
        "format": manifest.format,
        "backend": manifest.backend,
        "largest batch": manifest.spec.max_batch_size,
        "size in bytes": manifest.size_bytes,
        "created": manifest.created,
        "note": manifest.note,
    }


def _tensors(manifest: Manifest) -> dict[str, str]:
    groups = {"input": manifest.spec.inputs, "output": manifest.spec.outputs}
    return {
        f"{kind} {tensor.name}": str(tensor).partition(": ")[2] for kind, group in groups.items() for tensor in group
    }


def _configuration(folder: Path) -> Iterator[tuple[str, Value]]:
    """The fields of the configuration that the version was made with, each under its path."""
    path = folder / configs.CONFIG_FILE
    if path.is_file():
        for field, value in configs.read(path).ListFields():
            if field.name not in _OF_THE_VERSION:
                yield from _flat(field, value, field.name)


def _flat(field: Any, value: Any, path: str) -> Iterator[tuple[str, Value]]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        for key in sorted(value):
            yield from _one(entry, value[key], f"{path}[{key}]")
    elif isinstance(value, (str, bytes, int, float)) or hasattr(value, "ListFields"):
        yield from _one(field, value, path)
    else:
        for index, item in enumerate(value):
            yield from _one(field, item, f"{path}[{index}]")


def _one(field: Any, value: Any, path: str) -> Iterator[tuple[str, Value]]:
    if not hasattr(value, "ListFields"):
        name = field.enum_type.values_by_number[value].name if field.enum_type is not None else value
        yield path, name
        return
    tensor = path.startswith(("input[", "output["))
    if not value.ListFields():
        yield path, "set"  # without fields it says something too, as dynamic_batching does
    for inner, content in value.ListFields():
        if not (tensor and inner.name in _OF_A_TENSOR):
            yield from _flat(inner, content, f"{path}.{inner.name}")


def _tolerance(folder: Path) -> dict[str, Value]:
    """What was proved of the version; empty where there is no evidence."""
    try:
        evidence, _ = evidences.read(folder)
    except ManifestError:
        return {}
    found: dict[str, Value] = {"compared with": evidence.reference, "golden samples": evidence.samples}
    for name, tolerance in evidence.tolerances.items():
        found[f"{name}: allowed error"] = tolerance.max_abs
    for name, comparison in evidence.comparisons.items():
        found[f"{name}: largest error"] = comparison.max_abs_error
    return found


def _pairs(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for what in [*one, *(name for name in two if name not in one)]:
        yield what, one.get(what), two.get(what)


def _size(value: Any) -> Value:
    found: Value = value.size_bytes if isinstance(value, _File) else value
    return found
