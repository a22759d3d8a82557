"""Replay a version's evidence through a running server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from modelport.client import Client
from modelport.convert.types import Array, Arrays, take
from modelport.errors import VerificationError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.manifest import Manifest
from modelport.verify import evidence as evidences
from modelport.verify.compare import Comparison, compare, require_ok
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.replay import Answer, replay, replay_concurrently

TIMEOUT_S = 30.0
LOADED_S = 5.0  # for a version that is loaded already
MIXED_REQUESTS = 16  # the artefact itself was examined with more when it was published


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A version with what it must answer.

    Attributes:
        manifest: Its manifest.
        evidence: What was proved when it was published.
        golden: Inputs, and the source's answers.
        largest: The most rows that the server takes at once.
    """

    manifest: Manifest
    evidence: Evidence
    golden: Golden
    largest: int

    def under(self, config: configs.ModelConfig) -> Proven:
        """The same, with the largest batch of the configuration that it is served with."""
        return replace(self, largest=max(1, config.max_batch_size))


def read(folder: Path, *, compare_files: bool = True) -> Proven:
    """Read a version folder.

    Args:
        folder: The version folder.
        compare_files: Compare its files with its manifest first.

    Raises:
        ManifestError: The folder is not what was published, or has no evidence.
    """
    manifest = manifests.read(folder)
    if compare_files:
        manifests.check_files(folder, manifest)
    proof, golden = evidences.read(folder)
    return Proven(manifest=manifest, evidence=proof, golden=golden, largest=max(1, manifest.spec.max_batch_size))


def replay_all(client: Client, proven: Proven, *, model: str, version: int | None, where: str) -> dict[str, Comparison]:
    """Every golden row in batches and alone.

    Args:
        client: Connected to the server.
        proven: The version.
        model: The name under which the server knows it.
        version: Its number; None asks for whatever version serves.
        where: The server, for messages.

    Raises:
        VerificationError: An answer is not within its tolerance.
        ClientError: The server gave no answer.
    """
    return replay(
        _answer(client, proven, model, version),
        proven.evidence,
        proven.golden,
        model=model,
        where=where,
        largest=proven.largest,
    )


def replay_mixed(
    client: Client, proven: Proven, *, model: str, version: int | None, where: str
) -> dict[str, Comparison]:
    """Golden rows from several threads at once, so that a dynamic batcher mixes them; else as `replay_all`."""
    return replay_concurrently(
        _answer(client, proven, model, version),
        proven.evidence,
        proven.golden,
        model=model,
        where=where,
        largest=proven.largest,
        requests=MIXED_REQUESTS,
    )


def replay_one(client: Client, proven: Proven, *, model: str, version: int | None, where: str) -> None:
    """The first golden row alone: enough to tell which version answers, and callers wait for no more than that.

    Where that row is a near tie, which may fall either way, all rows tell; else as `replay_all`.
    """
    try:
        _replay_first(client, proven, model, version, where)
    except VerificationError:
        if not any(tolerance.mismatches for tolerance in proven.evidence.tolerances.values()):
            raise
        replay_all(client, proven, model=model, version=version, where=where)


def _replay_first(client: Client, proven: Proven, model: str, version: int | None, where: str) -> None:
    inputs, outputs = proven.golden.inputs, proven.golden.outputs
    if proven.evidence.batched:
        inputs, outputs = take(inputs, [0]), take(outputs, [0])
    got = _answer(client, proven, model, version)(inputs)
    found = compare(outputs, got, proven.evidence.tolerances, batched=proven.evidence.batched)
    require_ok(found, model=model, where=where)


def _answer(client: Client, proven: Proven, model: str, version: int | None) -> Answer:
    spec = proven.manifest.spec

    def answer(inputs: Mapping[str, Array]) -> Arrays:
        answers = client.infer(model, version=version, inputs=configs.outside(inputs, spec.inputs))
        return configs.inside(answers, spec.outputs)

    return answer
