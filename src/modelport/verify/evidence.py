"""The evidence that stays with a version: golden inputs and outputs, tolerances, and what was proved.

`evidence.json` holds the numbers, `golden.npz` the arrays. The golden outputs are the source's own answers, so
that a replay at any later time compares with the trained model, not with an earlier replay.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelport.convert.samples import UNREADABLE, read_npz
from modelport.convert.types import Array, Arrays
from modelport.errors import ManifestError
from modelport.verify.batch_axis import BatchProof
from modelport.verify.compare import Comparison
from modelport.verify.tolerance import Tolerance

EVIDENCE_FILE = "evidence.json"
GOLDEN_FILE = "golden.npz"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was proved about a version.

    Attributes:
        reference: Who gave the golden outputs, such as `pytorch 2.13.0`.
        batched: Whether the golden arrays have a batch axis.
        samples: Rows in the golden arrays.
        tolerances: By output.
        comparisons: Artefact against source at conversion, by output.
        batch_proof: The proof of the batch axis; None where none was claimed.
        note: Why a claim was dropped, in words; empty otherwise.
        padding_error: Largest difference between a row's answer alone and filled up beside longer ones; None where no
            filling up was claimed.
    """

    reference: str
    batched: bool
    samples: int
    tolerances: Mapping[str, Tolerance]
    comparisons: Mapping[str, Comparison]
    batch_proof: BatchProof | None = None
    note: str = ""
    padding_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Golden inputs and the source's answers to them, by tensor name."""

    inputs: Arrays
    outputs: Arrays


def write(folder: Path, evidence: Evidence, golden: Golden) -> None:
    """Write `evidence.json` and `golden.npz` into a version folder."""
    content = {"schema": SCHEMA, **dataclasses.asdict(evidence)}
    (folder / EVIDENCE_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    arrays = {f"input:{n}": _packed(a) for n, a in golden.inputs.items()}
    arrays |= {f"output:{n}": _packed(a) for n, a in golden.outputs.items()}
    np.savez_compressed(folder / GOLDEN_FILE, **arrays)


def read(folder: Path) -> tuple[Evidence, Golden]:
    """Read what `write` wrote.

    Raises:
        ManifestError: A file is missing or damaged.
    """
    try:
        content: dict[str, Any] = json.loads((folder / EVIDENCE_FILE).read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError("written by another version of modelport")
        proof = content.pop("batch_proof")
        evidence = Evidence(
            **{
                **content,
                "tolerances": {n: Tolerance(**t) for n, t in content["tolerances"].items()},
                "comparisons": {n: Comparison(**c) for n, c in content["comparisons"].items()},
                "batch_proof": None if proof is None else BatchProof(**{**proof, "sizes": tuple(proof["sizes"])}),
            }
        )
        arrays = {name: _unpacked(array) for name, array in read_npz(folder / GOLDEN_FILE).items()}
    except (*UNREADABLE, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ManifestError(
            f"the evidence in {folder.name} cannot be read",
            why=f"{type(exc).__name__}: {exc}",
            fix="publish the version again; its evidence is made at export",
            path=str(folder),
        ) from exc
    return evidence, Golden(
        inputs={n.removeprefix("input:"): a for n, a in arrays.items() if n.startswith("input:")},
        outputs={n.removeprefix("output:"): a for n, a in arrays.items() if n.startswith("output:")},
    )


def _packed(array: Array) -> Array:
    """Strings as JSON in a byte array (numpy would pickle objects); everything else as it is."""
    if array.dtype.kind not in "SUO":
        return array
    words = [w.decode("utf-8", "surrogateescape") if isinstance(w, bytes) else str(w) for w in array.ravel().tolist()]
    text = json.dumps({"shape": array.shape, "strings": words})
    return np.frombuffer(b"strings:" + text.encode(), dtype="S1").copy()


def _unpacked(array: Array) -> Array:
    if array.dtype != np.dtype("S1"):
        return array
    content = json.loads(array.tobytes().removeprefix(b"strings:").decode())
    return np.array(content["strings"], dtype=object).reshape(content["shape"])
