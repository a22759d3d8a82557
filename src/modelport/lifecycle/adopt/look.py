"""The whole look at a copied-in version folder, step by step; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from modelport.errors import ManifestError, SourceFormatError
from modelport.lifecycle.adopt import proof, settings
from modelport.lifecycle.adopt.artefact import check_tensors, open_artefact
from modelport.lifecycle.adopt.proof import Proof, brings_evidence
from modelport.lifecycle.adopt.settings import Settings
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.manifest import MANIFEST_FILE, Manifest

Report = Callable[[str], None]
CODE = ("python", configs.ENSEMBLE)
BACKEND = "onnxruntime"  # of a model that comes without a configuration


@dataclass(frozen=True, kw_only=True)
class Found:
    """A version folder that holds.

    Attributes:
        repository: The model repository.
        folder: The version folder.
        settings: The configurations that are there.
        whole: The model's configuration with this version.
        format: `onnx`, `torchscript`, `python` or `ensemble`.
        framework: What made the model file.
        proof: What was proved.
        manifest: The manifest that it brings, its files compared; None where there is none.
    """

    repository: Path
    folder: Path
    settings: Settings
    whole: configs.ModelConfig
    format: str
    framework: str
    proof: Proof
    manifest: Manifest | None

    @property
    def model(self) -> str:
        """Model name."""
        return self.folder.parent.name

    @property
    def version(self) -> int:
        """Version number."""
        return int(self.folder.name)


def look(repository: Path, folder: Path, *, allow_code: bool, report: Report) -> Found:
    """Check a version folder, whose files are plain ones, and prove its model.

    Args:
        repository: The model repository.
        folder: The version folder.
        allow_code: Take models that are code, too.
        report: Called with one line at each step.

    Raises:
        ModelportError: One of the leaves that `modelport.commands.adopt.adopt` names.
    """
    report("comparing the files with their manifest")
    manifest = _manifest(folder)
    before = "" if manifest is None else manifest.spec.name
    known = settings.find(repository, folder.parent.name, int(folder.name), allow_code=allow_code, before=before)
    if known.merged is not None:
        _check_labels(known.merged, folder)
    if known.merged is not None and known.format in CODE:
        found = _code(repository, folder, known, known.merged, manifest)
    else:
        found = _model(repository, folder, known, manifest, report)
    if manifest is None:
        return found
    return replace(found, framework=manifest.framework)


def _model(repository: Path, folder: Path, known: Settings, manifest: Manifest | None, report: Report) -> Found:
    report("looking through the model file")
    artefact = open_artefact(folder, known)
    report("running it, proving the batch axis")
    whole = known.merged
    if whole is None:
        proven = proof.derived(artefact, folder.parent.name)
        spec = proven.spec
        whole = configs.build(spec, backend=BACKEND, filename=artefact.path.name, versions=[])
        if brings_evidence(folder):
            proven = proof.replayed(artefact, spec)
    else:
        spec = artefact.spec(whole)
        check_tensors(artefact, spec)
        proven = proof.replayed(artefact, spec) if brings_evidence(folder) else proof.made(artefact, spec, repository)
    return Found(
        repository=repository,
        folder=folder,
        settings=known,
        whole=whole,
        format=artefact.format,
        framework=artefact.framework,
        proof=proven,
        manifest=manifest,
    )


def _code(
    repository: Path, folder: Path, known: Settings, whole: configs.ModelConfig, manifest: Manifest | None
) -> Found:
    """A model that only a server can run: its evidence is replayed when it is promoted."""
    name = f"{folder.parent.name}/{folder.name}"
    if known.format == "python" and not (folder / known.filename).is_file():
        raise SourceFormatError(
            f"version {name} has no {known.filename}",
            why="Triton's python backend runs this file",
            fix="copy it",
            path=str(folder / known.filename),
        )
    if not brings_evidence(folder):
        raise ManifestError(
            f"version {name} brings no evidence",
            why=f"it is a Triton {known.format} model, which cannot be run here to make some",
            fix="publish it with modelport.commands.assemble, which takes golden inputs and answers",
            path=str(folder),
        )
    spec = settings.spec_of(whole)
    evidence, golden = proof.read(folder, spec)
    return Found(
        repository=repository,
        folder=folder,
        settings=known,
        whole=whole,
        format=known.format,
        framework=known.format,
        proof=Proof(spec=spec, evidence=evidence, golden=golden, brought=True, how="those that it brought"),
        manifest=manifest,
    )


def _check_labels(config: configs.ModelConfig, folder: Path) -> None:
    for tensor in config.output:
        name = tensor.label_filename
        if name and not (folder / name).is_file() and not (folder.parent / name).is_file():
            raise ManifestError(
                f"the label file {name!r} of output {tensor.name!r} is missing",
                why=f"config.pbtxt names it; it is neither in {folder.parent.name}/ nor in {folder.name}/",
                fix="copy it into the version folder, or take label_filename out",
                path=str(folder / name),
            )


def _manifest(folder: Path) -> Manifest | None:
    """The manifest that the folder brings; it may be another model's or number's, its files must hold.

    Raises:
        ManifestError: It cannot be read, or a file is not what it says.
    """
    if not (folder / MANIFEST_FILE).is_file():
        return None
    manifest = manifests.read(folder)
    here = replace(manifest.spec, name=folder.parent.name)
    manifests.check_files(folder, replace(manifest, spec=here, version=int(folder.name)))
    return manifest
