"""Read the published version that is to be optimised: nothing is believed that its manifest does not bear out."""

from __future__ import annotations

import hashlib
from pathlib import Path

from modelport.errors import UsageError
from modelport.optimise.types import Options, Origin
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.layout import config_path, parse_reference, version_folder
from modelport.repository.manifest import Manifest
from modelport.repository.versions import serving_version
from modelport.verify import evidence as evidences

RECIPES = Path("export")


def read(repository: Path, reference: str) -> Origin:
    """The version, its files checked against its manifest.

    Args:
        repository: The model repository.
        reference: `NAME` or `NAME/VERSION`; without a version the one that serves.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ManifestError: Its files are not what was published.
        UsageError: It is no ONNX model.
    """
    name, wanted = parse_reference(reference)
    if wanted is None and (repository / name).is_dir():
        wanted = serving_version(repository, name)
    folder = version_folder(repository, name, wanted)
    manifest = manifests.read(folder)
    manifests.check_files(folder, manifest)
    own = folder / configs.CONFIG_FILE
    config = configs.read(own if own.is_file() else config_path(repository, name))
    _require_onnx(manifest, config)
    proof, golden = evidences.read(folder)
    labels = {}
    for tensor in config.output:
        path = folder / tensor.label_filename
        if tensor.label_filename and path.is_file():
            labels[tensor.label_filename] = tuple(path.read_text(encoding="utf-8").splitlines())
        else:
            tensor.label_filename = ""  # the model's own are taken over when it is published
    digest = hashlib.sha256((folder / manifests.MANIFEST_FILE).read_bytes()).hexdigest()
    return Origin(
        folder=folder,
        manifest=manifest,
        digest=digest,
        evidence=proof,
        golden=golden,
        config=config,
        labels=labels,
    )


def _require_onnx(manifest: Manifest, config: configs.ModelConfig) -> None:
    if manifest.format == "onnx":
        return
    parts = ", ".join(dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step))
    fixes = {
        "ensemble": f"optimise the models that it is made of, one by one: {parts}",
        "python": "put the network that its code runs into a model of its own, and optimise that",
    }
    raise UsageError(
        f"{manifest.spec.name}/{manifest.version} is of format {manifest.format}, which cannot be optimised",
        why="optimising works on ONNX graphs",
        fix=fixes.get(manifest.format, "export the network with --format onnx under another name, and optimise that"),
    )


def recipe_path(origin: Origin, options: Options) -> Path:
    """The recipe's script: the one that was named, or the one that built the version.

    Raises:
        UsageError: Neither is known.
    """
    if options.recipe is not None:
        return options.recipe
    built = origin.manifest.facts.get("recipe")
    if built is None or not (RECIPES / built).is_file():
        raise UsageError(
            f"it is not known how {origin.reference} was trained",
            why=f"its recipe {built} is not in {RECIPES}/" if built else "no recipe built it",
            fix="name a recipe that trains such a network: --recipe FILE",
        )
    return RECIPES / built
