"""The golden request: one row, compared with the source's answer; a near tie is not a wrong answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelport.errors import ManifestError, VerificationError
from modelport.repository import manifest as manifests
from modelport.repository.manifest import Manifest
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.supervisor import golden
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.tolerance import Tolerance

ROWS = np.arange(8, dtype=np.float32).reshape(8, 1)


class Answers:
    """Stands where the client does."""

    def __init__(self, function):
        self.function, self.asked = function, []

    def infer(self, model, *, version, timeout_s, inputs):
        self.asked.append(inputs["x"].ravel().tolist())
        return {"y": self.function(inputs["x"])}


@pytest.fixture
def folder(tmp_path):
    """Makes a version folder whose source answered `outputs`."""

    def make(outputs, tolerance, dtype="FP32"):
        x, y = (TensorSpec(name=n, dtype=dtype_of(d), dims=(1,)) for n, d in (("x", "FP32"), ("y", dtype)))
        spec = ModelSpec(name="m", inputs=(x,), outputs=(y,), max_batch_size=4)
        proof = Evidence(reference="x", batched=True, samples=8, tolerances={"y": tolerance}, comparisons={})
        evidences.write(tmp_path, proof, Golden(inputs={"x": ROWS}, outputs={"y": outputs}))
        known = Manifest(
            spec=spec, version=1, format="onnx", backend="onnxruntime", framework="x", created="now", files={}
        )
        manifests.write(tmp_path, known)
        return tmp_path

    return make


def ask(client, asked):
    return golden.ask(client, asked, model="m", version=1, timeout_s=1)


NEAR = Tolerance(kind="fixed", max_abs=0.1)


def test_one_row_is_asked_and_compared(folder):
    asked = golden.question(folder(2 * ROWS, NEAR))
    client = Answers(lambda x: 2 * x + 0.05)
    assert ask(client, asked) is asked and client.asked == [[0.0]]
    with pytest.raises(VerificationError, match="version 1 in the running server"):
        ask(Answers(lambda x: 2 * x + 0.2), asked)


def test_a_near_tie_is_settled_by_all_rows_and_another_row_is_asked_from_then_on(folder):
    """The source itself disagrees in one of eight rows; so may the server, in whichever."""
    place = folder(ROWS.astype(np.int64), Tolerance(kind="exact", max_abs=0, mismatches=1 / 8), "INT64")
    asked = golden.question(place)
    client = Answers(lambda x: np.where(x == 0, 9, x).astype(np.int64))
    again = ask(client, asked)
    assert again.row == 1 and len(client.asked) > 8
    assert ask(client, again) is again and client.asked[-1] == [1.0]
    with pytest.raises(VerificationError):
        ask(Answers(lambda x: np.where(x < 3, 9, x).astype(np.int64)), asked)


def test_a_version_without_evidence_says_so(tmp_path, folder):
    with pytest.raises(ManifestError):
        golden.question(tmp_path / "nowhere")
    place = folder(2 * ROWS, NEAR)
    (place / evidences.EVIDENCE_FILE).write_text(json.dumps({}))
    with pytest.raises(ManifestError):
        golden.question(place)
