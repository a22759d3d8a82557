"""What modelport itself writes into a repository: manifests, and its line in `config.pbtxt`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from modelport.errors import ManifestError
from modelport.repository import manifest as manifests
from modelport.repository import record
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.files import weight
from modelport.repository.doctor.finding import Finding, Rule
from modelport.repository.doctor.model import Model

MANIFEST_CHANGED = Rule(
    id="manifest-changed",
    severity="error",
    title="A published version's files are not those of its manifest",
    why="a version never changes after it was published: what is served is not what was verified",
    fix="restore the files, or publish a new version",
)
MANIFEST_UNREADABLE = Rule(
    id="manifest-unreadable",
    severity="error",
    title="A version's manifest.json cannot be read",
    why="the version counts as broken: it is not promoted, and not listed with its facts",
    fix="restore the file, or publish the version again",
)
MANIFEST_MISSING = Rule(
    id="manifest-missing",
    severity="warning",
    title="A version has no manifest, in a repository whose other versions have one",
    why="it was copied in by hand: nothing says what it is, and nothing proves its answers",
    fix="let 'modelport adopt NAME/VERSION' check it, or export the model",
)
RECORD = Rule(
    id="record",
    severity="error",
    title="modelport's line in config.pbtxt is damaged, or an alias or a route leads to a version that is not loaded",
    why="aliases, routes and the way back of a rollback come from it",
    fix="correct the line, or set the alias or the route anew with 'modelport alias' or 'modelport route'",
)
RULES = (MANIFEST_CHANGED, MANIFEST_UNREADABLE, MANIFEST_MISSING, RECORD)


def check(context: Context) -> Iterator[Finding]:
    """Every version's manifest and every model's record."""
    ours = any(
        (model.folder / str(version) / manifests.MANIFEST_FILE).exists()
        for model in (*context.models, *context.others.values())
        for version in model.versions
    )
    for model in context.models:
        for version in model.versions:
            yield from _version(model, version, ours)
        yield from _record(model)


def _version(model: Model, version: int, ours: bool) -> Iterator[Finding]:
    folder = model.folder / str(version)
    path, severity = folder / manifests.MANIFEST_FILE, weight(model, version)
    if not os.path.lexists(path):
        if ours:
            yield MANIFEST_MISSING.found(f"version {version} has no manifest", model.at_path(folder))
        return
    if not path.is_file():
        yield MANIFEST_UNREADABLE.found("it is no plain file", model.at_path(path), severity=severity)
        return
    try:
        manifest = manifests.read(folder)
    except ManifestError as exc:
        yield MANIFEST_UNREADABLE.found(exc.why, model.at_path(path), severity=severity)
        return
    try:
        manifests.check_files(folder, manifest)
    except ManifestError as exc:
        yield MANIFEST_CHANGED.found(exc.what, model.at_path(folder), severity=severity)


def _record(model: Model) -> Iterator[Finding]:
    if model.text is None:
        return
    line = next((n for n, text in enumerate(model.text.splitlines(), 1) if text.startswith(record.MARK)), None)
    where = model.at_line(line)
    try:
        known = record.parse(model.text, where=model.folder / "config.pbtxt")
    except ManifestError as exc:
        yield RECORD.found(exc.why, where)
        return
    for alias, version in sorted(known.aliases.items()):
        if model.versions and version not in model.selected:
            yield RECORD.found(f"alias {alias!r} points at version {version}, which is not loaded", where)
    for version in sorted(known.route.numbers):
        if model.versions and version not in model.selected:
            yield RECORD.found(f"the route names version {version}, which is not loaded", where)
    for target in known.route.targets:
        if not target.isdecimal() and target not in known.aliases:
            yield RECORD.found(f"the route names alias {target!r}, which is not there", where)
