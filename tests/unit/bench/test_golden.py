"""Golden inputs reach perf_analyzer as they are: every element type, strings, sizes that vary, no batch axis."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from modelport.bench import golden
from modelport.errors import ManifestError
from modelport.repository import manifest as manifests
from modelport.repository.manifest import Manifest
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence, Golden


@pytest.fixture
def version(tmp_path):
    """`version(inputs, outputs, batched=...)`: a version folder with this evidence."""

    def make(inputs, outputs, *, batched=True):
        def tensors(arrays):
            return tuple(
                TensorSpec(name=n, dtype=dtype_of(a), dims=a.shape[1:] if batched else a.shape)
                for n, a in arrays.items()
            )

        spec = ModelSpec(
            name="net", inputs=tensors(inputs), outputs=tensors(outputs), max_batch_size=8 if batched else 0
        )
        folder = tmp_path / "1"
        folder.mkdir()
        evidence = Evidence(reference="by hand", batched=batched, samples=2, tolerances={}, comparisons={})
        evidences.write(folder, evidence, Golden(inputs=inputs, outputs=outputs))
        known = {"spec": spec, "version": 1, "format": "onnx", "backend": "onnxruntime", "framework": "by hand"}
        manifests.write(folder, Manifest(**known, created="2026-01-02T03:04:05+00:00", files={}))
        return folder

    return make


def sent(path, name):
    """Bytes and shape of one input, sample by sample."""
    samples = [sample[name] for sample in json.loads(path.read_text())["data"]]
    return [(base64.b64decode(s["content"]["b64"]), s["shape"]) for s in samples]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "uint8", "bool", ">f4"])
def test_each_row_is_one_request_with_its_bytes(version, tmp_path, dtype):
    array = np.arange(12).reshape(2, 3, 2).astype(dtype)
    written = golden.write(version({"x": array}, {"y": np.zeros((2, 5), np.float32)}), tmp_path / "in.json")
    little = array.astype(array.dtype.newbyteorder("<"))
    assert sent(written.path, "x") == [(row.tobytes(), [3, 2]) for row in little]
    assert (written.samples, written.largest_output_bytes) == (2, 20)


def test_strings_have_their_lengths_in_front(version, tmp_path):
    array = np.array([["ü", ""], ["ab", "c"]], dtype=object)
    written = golden.write(version({"text": array}, {"same": array}), tmp_path / "in.json")
    first = b"\x02\0\0\0\xc3\xbc" + b"\0\0\0\0"
    assert sent(written.path, "text")[0] == (first, [2])
    assert written.largest_output_bytes == len(first)


def test_without_a_batch_axis_all_is_one_request(version, tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    written = golden.write(version({"x": array}, {"y": array}, batched=False), tmp_path / "in.json")
    assert sent(written.path, "x") == [(array.tobytes(), [2, 3])]


def test_a_scalar_is_sent_as_callers_send_it(version, tmp_path):
    array = np.array([1.5, 2.5], np.float32)
    written = golden.write(version({"x": array}, {"y": array}), tmp_path / "in.json")
    assert sent(written.path, "x") == [(array[:1].tobytes(), [1]), (array[1:].tobytes(), [1])]


def test_large_rows_are_not_all_written(version, tmp_path):
    array = np.zeros((3, golden.LARGEST_BYTES // 8), np.float32)  # half of it each
    written = golden.write(version({"x": array}, {"y": np.zeros((3, 1), np.float32)}), tmp_path / "in.json")
    assert written.samples == 2


def test_a_folder_without_evidence_is_told(tmp_path):
    with pytest.raises(ManifestError):
        golden.write(tmp_path, tmp_path / "in.json")
