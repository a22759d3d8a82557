"""The verb `verify`: replay a version's evidence, in this process or through a running server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport import convert
from modelport.client import Client
from modelport.convert.types import Array, Arrays
from modelport.errors import BatchAxisError, UsageError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.layout import DEFAULT_REPOSITORY, config_path, parse_reference, version_folder
from modelport.repository.versions import serving_version
from modelport.verify import evidence as evidences
from modelport.verify.batch_axis import prove
from modelport.verify.compare import Comparison
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.replay import replay, replay_concurrently

IN_PROCESS = ("onnx", "torchscript")


@dataclass(frozen=True, kw_only=True)
class Verified:
    """One replay.

    Attributes:
        model: Model name.
        version: Version number.
        where: What answered: `in process`, or the server's URL.
        how: `single and batch`, or `concurrent`.
        comparisons: By output.
    """

    model: str
    version: int
    where: str
    how: str
    comparisons: Mapping[str, Comparison]


def verify(
    reference: str,
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    urls: tuple[str, ...] = (),
    timeout_s: float = 30.0,
    token: str | None = None,
    ca_file: Path | None = None,
) -> list[Verified]:
    """Replay the evidence of a version and compare with the source's answers.

    Args:
        reference: `NAME` or `NAME/VERSION`; without a version the one that `config.pbtxt` serves.
        repository: Folder of the model repository.
        urls: Servers to ask, such as `http://127.0.0.1:8000` and `grpc://127.0.0.1:8001`; none: run the artefact here.
        timeout_s: Seconds for one request.
        token: Bearer token for the servers; None takes the environment variable MODELPORT_TOKEN.
        ca_file: PEM file with the only authorities to trust on URLs with TLS; None takes MODELPORT_CA, and the
            system's without it.

    Returns:
        One result for each replay, all of them within tolerance.

    Raises:
        VerificationError: An answer is not within its tolerance.
        ManifestError: The folder is not what was published.
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ClientError: The server gave no answer.
    """
    root = Path(repository)
    name, wanted = parse_reference(reference)
    config = configs.read(config_path(root, name)) if config_path(root, name).exists() else None
    if wanted is None:
        named = configs.versions_of(config) if config is not None else ()
        wanted = serving_version(root, name) or max(named, default=None)  # one that is missing is an error
    folder = version_folder(root, name, wanted)
    manifest = manifests.read(folder)
    manifests.check_files(folder, manifest)
    proof, golden = evidences.read(folder)
    if not urls:
        return [_in_process(folder, manifest, proof, golden)]
    largest = max(1, manifest.spec.max_batch_size if config is None else config.max_batch_size)
    found: list[Verified] = []
    for url in urls:
        trusted = ca_file if url.startswith(("https:", "grpcs:")) else None
        with Client(url, timeout_s=timeout_s, token=token, ca_file=trusted) as client:
            found += _through(client, url, manifest, proof, golden, largest)
    return found


def _in_process(folder: Path, manifest: manifests.Manifest, proof: Evidence, golden: Golden) -> Verified:
    name = manifest.spec.name
    if manifest.format not in IN_PROCESS:
        raise UsageError(
            f"{name!r} is a Triton {manifest.format} model, which only a server can run",
            why="there is no artefact to load in this process",
            fix=f"start the server and run: modelport verify {name} --url http://127.0.0.1:8000",
        )
    form, own = convert.format_module(manifest.format), folder / configs.CONFIG_FILE
    named = configs.read(own).default_model_filename if own.is_file() else ""  # an adopted one has any name
    inputs, outputs = ([tensor.name for tensor in some] for some in (manifest.spec.inputs, manifest.spec.outputs))
    runner = form.load(folder, inputs, outputs, filename=named or form.FILENAME)
    results = replay(runner.run, proof, golden, model=name, where="in process")
    if proof.batched and proof.samples >= 4:
        again = prove(runner, golden.inputs, proof.tolerances)
        if not again.proved:
            raise BatchAxisError(
                f"axis 0 of {name!r} is no batch axis any more",
                why=again.reason,
                fix="the runtime answers otherwise than the one that the version was exported with; export it again",
                model=name,
                max_abs_error=again.max_abs_error,
            )
    return Verified(
        model=name, version=manifest.version, where="in process", how="single and batch", comparisons=results
    )


def _through(
    client: Client, url: str, manifest: manifests.Manifest, proof: Evidence, golden: Golden, largest: int
) -> list[Verified]:
    spec, name, version = manifest.spec, manifest.spec.name, manifest.version

    def answer(inputs: Mapping[str, Array]) -> Arrays:
        answers = client.infer(name, version=version, inputs=configs.outside(inputs, spec.inputs))
        return configs.inside(answers, spec.outputs)

    found: list[Verified] = []
    for how, action in (("single and batch", replay), ("concurrent", replay_concurrently)):
        results = action(answer, proof, golden, model=name, where=f"{url}, {how}", largest=largest)
        found.append(Verified(model=name, version=version, where=url, how=how, comparisons=results))
    return found
