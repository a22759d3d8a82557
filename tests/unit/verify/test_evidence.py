"""Evidence comes back as it was written, strings too; a damaged file is one clear error."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import ManifestError
from modelport.spec import DTYPES
from modelport.verify import evidence as evidences
from modelport.verify.batch_axis import BatchProof
from modelport.verify.compare import Comparison
from modelport.verify.evidence import EVIDENCE_FILE, GOLDEN_FILE, Evidence, Golden, _packed, _unpacked
from modelport.verify.tolerance import Tolerance

EVIDENCE = Evidence(
    reference="pytorch 2.13.0",
    batched=True,
    samples=2,
    tolerances={"y": Tolerance(kind="noise_floor", max_abs=1e-6, noise_floor=1e-7, largest=3.0)},
    comparisons={
        "y": Comparison(tensor="y", samples=6, max_abs_error=2e-7, allowed=1e-6, argmax_agreement=1.0),
        "n": Comparison(tensor="n", samples=6, max_abs_error=0.0, allowed=0.0),
    },
    batch_proof=BatchProof(proved=True, sizes=(1, 2, 3, 6), max_abs_error=1e-7),
    note="a note",
)
GOLDEN = Golden(
    inputs={"text": np.array([["a", "ü"], ["", "\n\0x"]], object), "x": np.ones((2, 3), np.float16)},
    outputs={"y": np.array([[1.5], [-0.0]], np.float32), "n": np.array([[True], [False]])},
)


def same(one: np.ndarray, two: np.ndarray) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and bool(np.all(one == two))


@pytest.fixture
def folder(tmp_path):
    evidences.write(tmp_path, EVIDENCE, GOLDEN)
    return tmp_path


def test_what_was_written_is_read(folder):
    evidence, golden = evidences.read(folder)
    assert evidence == EVIDENCE
    for group in ("inputs", "outputs"):
        written, read = getattr(GOLDEN, group), getattr(golden, group)
        assert list(written) == list(read) and all(same(written[name], read[name]) for name in written)


def test_evidence_without_a_proof_is_read(tmp_path):
    plain = Evidence(reference="given", batched=False, samples=1, tolerances={}, comparisons={})
    evidences.write(tmp_path, plain, Golden(inputs={}, outputs={}))
    assert evidences.read(tmp_path)[0] == plain


def test_the_numbers_are_readable_json(folder):
    """For people, and for programs other than this one."""
    content = json.loads((folder / EVIDENCE_FILE).read_text())
    assert content["tolerances"]["y"]["kind"] == "noise_floor" and content["batch_proof"]["proved"] is True


def test_no_pickle_is_written(folder):
    with np.load(folder / GOLDEN_FILE, allow_pickle=False) as stored:
        assert set(stored.files) == {"input:text", "input:x", "output:y", "output:n"}
        assert all(isinstance(stored[name], np.ndarray) for name in stored.files)


@pytest.mark.parametrize("dtype", DTYPES[:-1], ids=str)
def test_every_element_type_survives(tmp_path, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype.np)
    evidences.write(tmp_path, EVIDENCE, Golden(inputs={"x": array}, outputs={"y": array[:0]}))
    _, golden = evidences.read(tmp_path)
    assert same(golden.inputs["x"], array) and same(golden.outputs["y"], array[:0])


@given(st.lists(st.text("aü\0\n\"'\\\u202e🙂\ud800", max_size=5), max_size=6))
def test_every_string_survives(words):
    array = np.array([*words, None], object)[:-1]
    assert same(_unpacked(_packed(array)), array)
    if words and len(words) % 2 == 0:
        assert same(_unpacked(_packed(array.reshape(2, -1))), array.reshape(2, -1))


def test_strings_of_every_kind_come_back_as_python_strings():
    for array in (np.array(["a", "ü"]), np.array([b"a", "ü".encode()]), np.array([b"a", "ü"], object), np.array(["x"])):
        back = _unpacked(_packed(array))
        assert back.dtype == object and all(isinstance(word, str) for word in back)


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def scramble(path):
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(bytes(content))


def edit(change):
    def apply(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (EVIDENCE_FILE, lambda path: path.unlink()),
        (GOLDEN_FILE, lambda path: path.unlink()),
        (EVIDENCE_FILE, cut),
        (GOLDEN_FILE, cut),
        (GOLDEN_FILE, scramble),
        (EVIDENCE_FILE, lambda path: path.write_bytes(b"")),
        (GOLDEN_FILE, lambda path: path.write_bytes(b"")),
        (EVIDENCE_FILE, lambda path: path.write_bytes(b"\xff\xfe")),
        (EVIDENCE_FILE, lambda path: path.write_text("[1]")),
        (EVIDENCE_FILE, lambda path: path.write_text("[" * 100_000)),
        (EVIDENCE_FILE, edit(lambda content: content.update(schema=99))),
        (EVIDENCE_FILE, edit(lambda content: content.pop("schema"))),
        (EVIDENCE_FILE, edit(lambda content: content.update(surprise=1))),
        (EVIDENCE_FILE, edit(lambda content: content.update(tolerances=[1]))),
        (EVIDENCE_FILE, edit(lambda content: content["tolerances"]["y"].pop("kind"))),
        (GOLDEN_FILE, lambda path: path.write_bytes(b"\x93NUMPY\x01\x00")),
    ],
)
def test_damaged_evidence_is_one_clear_error(folder, name, damage):
    damage(folder / name)
    with pytest.raises(ManifestError) as caught:
        evidences.read(folder)
    error = caught.value
    assert error.exit_code == 35 and error.path == str(folder) and error.why and error.fix


def test_objects_in_the_golden_arrays_are_refused_and_not_run(folder):
    ran = []

    class Payload:
        def __reduce__(self):
            return ran.append, (1,)

    np.savez(folder / GOLDEN_FILE, **{"input:x": np.array([Payload()], object)})
    with pytest.raises(ManifestError):
        evidences.read(folder)
    assert not ran


def test_an_error_that_is_no_number_does_not_break_reading(tmp_path):
    odd = Comparison(tensor="y", samples=1, max_abs_error=math.inf, allowed=math.nan)
    evidence = Evidence(reference="x", batched=False, samples=1, tolerances={}, comparisons={"y": odd})
    evidences.write(tmp_path, evidence, GOLDEN)
    assert evidences.read(tmp_path)[0].comparisons["y"].max_abs_error == math.inf
