"""Captured answers are compared with what a version answers now; what cannot be compared is counted and said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelport.errors import ClientError, ManifestError, RequestError, UnreachableError, VerificationError
from modelport.gateway.capture import replaying
from modelport.gateway.capture.exchange import Exchange
from modelport.gateway.capture.segment import Damaged
from modelport.lifecycle.served import Proven
from modelport.repository.manifest import Manifest
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.tolerance import Tolerance

FLOATS = TensorSpec(name="y", dtype=dtype_of("FP32"), dims=(2,))
WORDS = TensorSpec(name="word", dtype=dtype_of("BYTES"), dims=(1,))
SPEC = ModelSpec(
    name="net",
    inputs=(TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(2,)),),
    outputs=(FLOATS, WORDS),
    max_batch_size=8,
)
PROVEN = Proven(
    manifest=Manifest(
        spec=SPEC, version=2, format="onnx", backend="onnxruntime", framework="pytorch 2", created="", files={}
    ),
    evidence=Evidence(
        reference="pytorch 2",
        batched=True,
        samples=1,
        tolerances={
            "y": Tolerance(kind="noise_floor", max_abs=1e-3, noise_floor=1e-5, largest=10.0),
            "word": Tolerance(kind="exact", max_abs=0.0),
        },
        comparisons={},
    ),
    golden=Golden(inputs={}, outputs={}),
    largest=8,
)


class Server:
    """Answers y = x + shift, as a client gives it; refuses what begins with -1."""

    def __init__(self, shift=0.0, word="cat", error=None):
        self.shift, self.word, self.error, self.asked = shift, word, error, []

    def infer(self, model, *, version, inputs):
        self.asked.append((model, version))
        if self.error:
            raise self.error
        x = inputs["x"]
        return {"y": x + np.float32(self.shift), "word": np.full((len(x), 1), self.word, object)}


def captured(x=(1.0, 2.0), **changed):
    array = np.array([x], np.float32)
    outputs = {"y": array, "word": np.array([["cat"]], object)}
    fields = {"model": "net", "version": 1, "at": 1.0, "protocol": "http", "status": 200}
    return Exchange(**{**fields, "inputs": {"x": array}, "outputs": outputs, **changed})


def replay(records, server):
    return replaying.replay(records, server, PROVEN, model="net")


def test_equal_answers_are_the_same_and_the_version_is_asked():
    server = Server(shift=1e-4)
    done = replay([captured(), captured(version=2)], server)
    assert server.asked == [("net", 2)] * 2
    assert [(row.captured, row.same, row.different) for row in done.rows] == [(1, 1, 0), (2, 1, 0)]
    assert done.rows[0].max_abs_error == pytest.approx(1e-4, rel=0.01) and done.rows[0].allowed == 1e-3
    assert replaying.problem(done) is None


def test_a_larger_error_is_a_difference_with_its_figure():
    done = replay([captured(), captured(x=(5.0, -3.0))], Server(shift=0.25))
    assert (done.same, done.different, done.failed) == (0, 2, 0)
    error = replaying.problem(done)
    assert isinstance(error, VerificationError) and error.max_abs_error == pytest.approx(0.25) and error.tensor == "y"


def test_larger_answers_may_differ_by_more():
    """The tolerance is for answers up to 10; arithmetic on thousands makes a hundred times the noise."""
    assert replay([captured(x=(1000.0, 2.0))], Server(shift=0.05)).same == 1
    assert replay([captured(x=(1000.0, 2.0))], Server(shift=0.5)).different == 1


def test_texts_are_compared_exactly():
    done = replay([captured()], Server(word="dog"))
    assert done.different == 1 and done.rows[0].tensor == "word" and done.rows[0].max_abs_error == 1.0


def test_only_the_outputs_that_were_captured_are_compared():
    some = captured(outputs={"word": np.array([["cat"]], object)})
    assert replay([some], Server(shift=9.0)).same == 1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"marks": {"input x": "redacted"}}, replaying.CHANGED_INPUT),
        ({"marks": {"input x": "masked"}}, replaying.CHANGED_INPUT),
        ({"outputs": {}, "status": 400}, replaying.NO_ANSWER),
        ({"marks": {"output y": "redacted", "output word": "masked"}}, replaying.CHANGED_OUTPUT),
    ],
)
def test_what_cannot_be_compared_is_counted_said_and_not_sent(changed, why):
    server = Server()
    done = replay([captured(**changed), captured()], server)
    assert done.unusable == {why: 1} and done.rows[0].unusable == 1 and done.same == 1 and len(server.asked) == 1
    nothing = replay([captured(**changed)], server)
    assert "can be compared" in replaying.problem(nothing).what and why in replaying.problem(nothing).why


def test_a_redacted_output_leaves_the_others_to_compare():
    some = captured(marks={"output y": "redacted"})
    assert replay([some], Server(shift=9.0)).same == 1 and replay([some], Server(word="dog")).different == 1


def test_requests_that_fail_are_counted_and_nothing_of_them_is_told():
    done = replay([captured()], Server(error=RequestError("secret value", why="secret", fix="")))
    assert done.failed == 1 and "secret" not in repr(done) and isinstance(replaying.problem(done), ClientError)


def test_a_server_that_is_gone_ends_the_replay():
    with pytest.raises(UnreachableError):
        replay([captured()], Server(error=UnreachableError("gone", why="", fix="")))


def test_another_shape_is_a_difference():
    wide = captured(outputs={"y": np.zeros((1, 3), np.float32)})
    assert replay([wide], Server()).different == 1


def test_damaged_records_are_told_and_make_the_replay_fail():
    done = replay([captured(), Damaged(where="record 2 of a", why="it was changed")], Server())
    assert done.same == 1 and done.damaged == ("record 2 of a: it was changed",)
    assert isinstance(replaying.problem(done), ManifestError)


def test_an_output_without_a_tolerance_is_a_difference():
    other = replace(PROVEN, evidence=replace(PROVEN.evidence, tolerances={}))
    assert replaying.replay([captured()], Server(), other, model="net").different == 1
