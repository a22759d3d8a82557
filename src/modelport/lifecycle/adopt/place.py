"""Give a copied-in version folder that holds what a published version has; the manifest last.

Each file is made aside, synced and renamed into place. A kill at any point leaves a folder without a manifest, which is
looked at anew, or a version.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modelport.lifecycle.adopt import settings
from modelport.lifecycle.adopt.files import BYTECODE
from modelport.lifecycle.adopt.look import Found
from modelport.repository import config as configs
from modelport.repository import disk, lock, placed, switch
from modelport.repository import manifest as manifests
from modelport.repository.card import CARD_FILE, Card, render
from modelport.repository.journal import STAGING
from modelport.repository.layout import state_folder, version_numbers
from modelport.repository.manifest import MANIFEST_FILE, Manifest
from modelport.repository.publish import staged
from modelport.repository.record import Record
from modelport.verify import evidence as evidences
from modelport.verify.evidence import EVIDENCE_FILE, GOLDEN_FILE

CANDIDATE, SERVING = "candidate", "serving"
PYTHON = "python"


def place(found: Found) -> tuple[str, tuple[str, ...]]:
    """Write what the folder lacks; the model's lock is held by the caller.

    Args:
        found: A folder that holds.

    Returns:
        Its state, and what a reader should know.

    Raises:
        RepositoryError: The disk refused.
    """
    notes = [*_renamed(found), *_configured(found), *_without_bytecode(found)]
    with staged(found.repository, found.model) as aside:
        _fill(found, aside)
        manifest = _manifest(found, aside)
        if manifest == found.manifest:
            disk.sync_tree(found.folder)
            placed.note(found.repository, found.model, found.version, found.folder)
        else:
            manifests.write(aside, manifest)
            disk.sync_tree(aside)
            disk.sync_tree(found.folder)
            with lock.writer(found.repository):
                for name in (CARD_FILE, configs.CONFIG_FILE, GOLDEN_FILE, EVIDENCE_FILE, BYTECODE):
                    if (aside / name).is_file():
                        disk.move(aside / name, found.folder / name)
                placed.note(found.repository, found.model, found.version, aside)
                disk.move(aside / MANIFEST_FILE, found.folder / MANIFEST_FILE)
    if not found.proof.brought:
        notes.append("it brought no evidence: its golden answers are its own, made in process without a trained model")
    notes += [f"golden inputs: {found.proof.how}", *filter(None, (found.proof.note,))]
    config, _ = switch.read(found.repository, found.model)
    loaded = configs.selected(config, version_numbers(found.repository, found.model))
    return SERVING if found.version in loaded else CANDIDATE, tuple(notes)


def _renamed(found: Found) -> list[str]:
    manifest = found.manifest
    if manifest is None or (manifest.spec.name, manifest.version) == (found.model, found.version):
        return []
    return [f"it was published as version {manifest.version} of {manifest.spec.name!r}"]


def _configured(found: Found) -> list[str]:
    """Write the model's configuration where there is none."""
    if found.settings.present is not None:
        return []
    _write_labels(found)
    final = _copy(found.whole)
    configs.set_versions(final, [])
    switch.write(found.repository, found.model, final, Record())
    how = "brought" if found.settings.brought is not None else "derived from the ONNX graph"
    return [f"config.pbtxt of the new model: {how}"]


def _write_labels(found: Found) -> None:
    """Label files of a new model's configuration belong into the model's folder."""
    for tensor in found.whole.output:
        target = found.folder.parent / tensor.label_filename
        if tensor.label_filename and not target.exists():
            text = disk.decode((found.folder / tensor.label_filename).read_bytes())
            disk.replace_text(target, text, through=state_folder(found.repository) / STAGING)


def _without_bytecode(found: Found) -> list[str]:
    """Remove what a stub or a test has written beside the model's code; Python would write it anew when it changes."""
    if found.format != PYTHON or not (found.folder / BYTECODE).is_dir():
        return []
    shutil.rmtree(found.folder / BYTECODE)
    return [f"{BYTECODE} was removed: it is made from the code, and a version does not change"]


def _fill(found: Found, aside: Path) -> None:
    """What the folder lacks, without the manifest."""
    if found.format == PYTHON:
        (aside / BYTECODE).touch()  # a file: the stub would make a folder of this name, and a version does not change
    if not found.proof.brought:
        evidences.write(aside, found.proof.evidence, found.proof.golden)
    own = settings.own_config(found.settings, found.whole, found.folder)
    if own is not None:
        (aside / configs.CONFIG_FILE).write_text(configs.text(own), encoding="utf-8")
    if not (found.folder / CARD_FILE).is_file():
        card = Card(title=found.model, description="Copied into the repository as a version folder.")
        (aside / CARD_FILE).write_text(render(card, found.proof.spec, _facts(found)), encoding="utf-8")


def _facts(found: Found) -> Mapping[str, str]:
    evidence = found.proof.evidence
    errors = {
        f"largest error of {name}": f"{c.max_abs_error:.3g} (allowed {c.allowed:.3g}: {evidence.tolerances[name].how})"
        for name, c in evidence.comparisons.items()
    }
    return {"version": str(found.version), "framework": found.framework, "compared with": evidence.reference, **errors}


def _manifest(found: Found, aside: Path) -> Manifest:
    records = {**manifests.records(found.folder), **manifests.records(aside)}
    if found.manifest is not None:
        origin = _renamed(found)
        ours = placed.ours(found.repository, found.model, found.version)
        return replace(
            found.manifest,
            spec=found.proof.spec,
            version=found.version,
            format=found.format,
            backend=_backend(found),
            files=dict(sorted(records.items())),
            facts={**found.manifest.facts, **({"origin": origin[0]} if origin else {})},
            asked=found.manifest.asked if ours else (),  # what was asked for elsewhere was meant for that repository
        )
    return Manifest(
        spec=found.proof.spec,
        version=found.version,
        format=found.format,
        backend=_backend(found),
        framework=found.framework,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        files=dict(sorted(records.items())),
        makers=manifests.makers(),
        facts={"origin": "a version folder that was copied in", "golden inputs": found.proof.how},
        note=found.proof.note,
    )


def _backend(found: Found) -> str:
    return str(found.whole.backend or found.whole.platform)


def _copy(config: configs.ModelConfig) -> configs.ModelConfig:
    return type(config).FromString(config.SerializeToString())
