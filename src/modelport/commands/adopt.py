"""The verb `adopt`: check a version folder that was copied in, and give it what a published version has."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import (
    EnvironmentUnfitError,
    ModelportError,
    RepositoryError,
    RepositoryLockedError,
    ServerError,
    SourceFormatError,
    UsageError,
)
from modelport.lifecycle.adopt import files, hold, limits
from modelport.lifecycle.adopt.look import look
from modelport.lifecycle.adopt.place import place
from modelport.repository import drops, journal, placed
from modelport.repository import manifest as manifests
from modelport.repository.layout import DEFAULT_REPOSITORY, check_path, parse_reference, version_folder
from modelport.spec import ModelSpec
from modelport.verify.evidence import Evidence

Report = Callable[[str], None]
_NOT_ITS_FAULT = (RepositoryLockedError, EnvironmentUnfitError, ServerError)


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A version folder that is a version now.

    Attributes:
        model: Model name.
        version: Version number.
        folder: Its folder.
        state: `candidate`, or `serving` where `config.pbtxt` names it already.
        spec: Tensors and largest batch.
        evidence: What was proved.
        notes: What a reader should know, one line each.
    """

    model: str
    version: int
    folder: Path
    state: str
    spec: ModelSpec
    evidence: Evidence
    notes: tuple[str, ...]


def adopt(
    reference: str,
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    allow_code: bool = False,
    candidate: bool = False,
    memory_limit_bytes: int | None = None,
    report: Report = lambda _: None,
) -> Adopted:
    """Check a version folder that was copied into a repository, and make it a version: a candidate, not served yet.

    It gets what it lacks: evidence, golden answers, a card, its own configuration, and the manifest, which comes last.
    A folder that brings evidence is compared with it. One that brings none has no trained model to be compared with:
    what its model file answers in this process becomes its evidence.

    Args:
        reference: `NAME/VERSION`.
        repository: Folder of the model repository.
        allow_code: Take also models that are code (Triton's python backend) or configurations that reach further than
            tensors, batches and instances: you trust whoever made them.
        candidate: Take the version out of the model's version policy where that names it, before anything else; one
            that was adopted before stays.
        memory_limit_bytes: Limit this whole process, for files of unknown origin.
        report: Called with one line at each step.

    Raises:
        UsageError: The reference names no version.
        ModelNotFoundError, VersionNotFoundError: There is no such folder.
        UnsafeSourceError: Something in the folder would run code, or reach outside it.
        SourceError: The model file is missing, damaged, or of another kind than the configuration asks for.
        RepositoryError: Its tensors are not those of the model's configuration, or the disk refused.
        ManifestError: Its manifest, evidence or configuration does not hold.
        VerificationError: It does not answer as its evidence says, or its rows depend on their neighbours.
    """
    root = Path(repository)
    name, version = parse_reference(reference)
    if version is None:
        raise UsageError(
            f"{reference!r} names no version",
            why="one version folder is adopted at a time",
            fix=f"name it, such as {name}/2",
        )
    check_path(root)
    if memory_limit_bytes is not None:
        limits.apply(memory_limit_bytes)
    folder = version_folder(root, name, version)
    with journal.changing(root, name):
        held = hold.back(root, name, version, candidate=candidate and not placed.ours(root, name, version))
        try:
            files.check(folder, allow_code=allow_code)
            before = drops.fingerprint(folder)
            found = look(root, folder, allow_code=allow_code, report=report)
        except _NOT_ITS_FAULT:
            raise
        except (ModelportError, MemoryError) as exc:
            refused = exc if isinstance(exc, ModelportError) else _too_large(folder)
            if not _published(root, folder):  # somebody vouched for it
                _remember(root, folder, refused)
            raise refused from exc
        if drops.fingerprint(folder) != before:
            raise RepositoryError(
                f"version {name}/{version} changed while it was looked at",
                why="it is still being copied",
                fix="adopt it when the copy is done",
                path=str(folder),
            )
        report("writing what it lacks, the manifest last")
        state, notes = place(found)
        drops.forget(root, name, version)
    return Adopted(
        model=name,
        version=version,
        folder=folder,
        state=state,
        spec=found.proof.spec,
        evidence=found.proof.evidence,
        notes=(*held, *notes),
    )


def _published(root: Path, folder: Path) -> bool:
    """Whether the folder is a version already, with the files that it was published with."""
    if not placed.ours(root, folder.parent.name, int(folder.name)):
        return False
    try:
        manifests.check_files(folder, manifests.read(folder))
    except ModelportError:
        return False
    return True


def _remember(root: Path, folder: Path, refused: ModelportError) -> None:
    """Note why; a link is left out, since that would read what it points to."""
    if not folder.is_symlink():
        reason = " ".join(f"{refused.what}: {refused.why}; to do: {refused.fix}".split())
        drops.refuse(root, folder.parent.name, int(folder.name), reason)


def _too_large(folder: Path) -> SourceFormatError:
    return SourceFormatError(
        f"looking at version {folder.parent.name}/{folder.name} takes more memory than it may have",
        why="the model file is very large, or made to exhaust memory",
        fix="if it is a good one, run 'modelport adopt' by hand, which sets no limit",
        path=str(folder),
    )
