"""The golden request of a version: one row of what its source answered, asked again through the running server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.client import Client
from modelport.convert.types import Array, Arrays, rows, take
from modelport.errors import VerificationError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.spec import ModelSpec
from modelport.verify import evidence as evidences
from modelport.verify.compare import compare, require_ok
from modelport.verify.replay import replay
from modelport.verify.tolerance import Tolerance


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of a version's golden inputs (the whole example where there is no batch axis), and its answer.

    Attributes:
        folder: The version folder.
        spec: The version's tensors.
        batched: Whether the arrays have a batch axis.
        row: Which row it is.
        inputs: As the model takes them.
        outputs: What the source answered.
        tolerances: By output.
    """

    folder: Path
    spec: ModelSpec
    batched: bool
    row: int
    inputs: Arrays
    outputs: Arrays
    tolerances: Mapping[str, Tolerance]


def question(folder: Path, *, row: int = 0) -> Question:
    """Read the golden request of a version.

    Args:
        folder: The version folder.
        row: Which of the golden rows; counted on from the first when there are fewer.

    Raises:
        ManifestError: The version has no readable manifest or evidence.
    """
    spec = manifests.read(folder).spec
    evidence, golden = evidences.read(folder)
    inputs, outputs, number = golden.inputs, golden.outputs, 0
    if evidence.batched:
        number = row % rows(golden.inputs)
        inputs, outputs = take(golden.inputs, [number]), take(golden.outputs, [number])
    return Question(
        folder=folder,
        spec=spec,
        batched=evidence.batched,
        row=number,
        inputs=inputs,
        outputs=outputs,
        tolerances=evidence.tolerances,
    )


def ask(client: Client, asked: Question, *, model: str, version: int, timeout_s: float) -> Question:
    """Ask, and compare with the source's answer.

    Args:
        client: Connected to the server.
        asked: The golden request.
        model: Model name.
        version: Version number.
        timeout_s: Deadline of one request.

    Returns:
        What to ask the next time: another row where this one is a near tie, which may fall either way.

    Raises:
        VerificationError: The answer is not within its tolerance.
        ClientError: The server gave no answer.
    """

    def answer(inputs: Mapping[str, Array]) -> Arrays:
        answers = client.infer(
            model, version=version, timeout_s=timeout_s, inputs=configs.outside(inputs, asked.spec.inputs)
        )
        return configs.inside(answers, asked.spec.outputs)

    where = f"version {version} in the running server"
    got = answer(asked.inputs)
    try:
        require_ok(compare(asked.outputs, got, asked.tolerances, batched=asked.batched), model=model, where=where)
    except VerificationError:
        if not asked.batched or not any(t.mismatches for t in asked.tolerances.values()):
            raise
        evidence, golden = evidences.read(asked.folder)
        replay(answer, evidence, golden, model=model, where=where, largest=max(1, asked.spec.max_batch_size))
        return question(asked.folder, row=asked.row + 1)
    return asked
