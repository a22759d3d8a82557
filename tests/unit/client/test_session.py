"""The rules of a call, followed without a server: a test answers each question itself."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.client._calls import Infer, Metadata, RawSpec, Ready, Tensor
from modelport.client._connection import parse_target
from modelport.client._session import Ranked, Session
from modelport.client._tensors import encode
from modelport.errors import (
    InvalidNameError,
    RemoteError,
    RequestError,
    UnavailableError,
    UnreachableError,
    UsageError,
    VersionNotFoundError,
)
from modelport.spec import TensorSpec, dtype_of

FP32 = dtype_of("FP32")


def raw(width: int) -> RawSpec:
    return RawSpec(
        inputs=(TensorSpec(name="x", dtype=FP32, dims=(-1, width)),),
        outputs=(TensorSpec(name="y", dtype=FP32, dims=(-1, 2)), TensorSpec(name="z", dtype=FP32, dims=(-1, 1))),
    )


def output(name: str, array: np.ndarray, dtype: str = "FP32") -> Tensor:
    kind = dtype_of(dtype)
    return Tensor(name=name, dtype=kind, shape=array.shape, data=encode(kind, array))


def answers_of(rows: int) -> dict[str, Tensor]:
    return {
        "y": output("y", np.ones((rows, 2), np.float32)),
        "z": output("z", np.ones((rows, 1), np.float32)),
    }


def play(steps, *answers):
    """Answer the questions of `steps` in turn; gives (questions, result). An exception is thrown in."""
    asked = []
    try:
        asked.append(next(steps))
        for answer in answers:
            asked.append(steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer))
    except StopIteration as end:
        return asked, end.value
    raise AssertionError(f"one more question: {asked[-1]}")


@pytest.fixture
def session():
    return Session(parse_target("http://host", token=""))


def test_metadata_is_asked_once_per_model_and_version(session):
    x = np.zeros(3, np.float32)
    asked, result = play(session.infer("m", None, {"x": x}, None), raw(3), answers_of(1))
    assert [type(q) for q in asked] == [Metadata, Infer]
    assert {name: array.shape for name, array in result.items()} == {"y": (2,), "z": (1,)}
    asked, result = play(session.infer("m", None, {"x": x[np.newaxis]}, None), answers_of(1))
    assert [type(q) for q in asked] == [Infer]
    assert result["y"].shape == (1, 2)
    asked, _ = play(session.infer("m", 2, {"x": x}, None), raw(3), answers_of(1))
    assert [(type(q), q.version) for q in asked] == [(Metadata, 2), (Infer, 2)]


def test_an_alias_is_sent_as_it_is_and_no_other_word_is_sent_at_all(session):
    given = {"x": np.zeros(3, np.float32)}
    asked, _ = play(session.infer("m", "stable", given, None), raw(3), answers_of(1))
    assert [q.version for q in asked] == ["stable", "stable"]
    asked, _ = play(session.infer("m", "2", given, None), raw(3), answers_of(1))
    assert [q.version for q in asked] == [2, 2]
    for word in ("a/../b", "stable ", "003", ""):
        with pytest.raises(InvalidNameError):
            next(session.infer("m", word, given, None))


def test_a_failed_check_asks_for_new_metadata_once_before_it_refuses(session):
    old, new = np.zeros(3, np.float32), np.zeros(4, np.float32)
    play(session.infer("m", None, {"x": old}, None), raw(3), answers_of(1))
    # A version with another shape went live: the check passes with fresh metadata.
    asked, _ = play(session.infer("m", None, {"x": new}, None), raw(4), answers_of(1))
    assert [type(q) for q in asked] == [Metadata, Infer]
    # It is wrong with fresh metadata too.
    steps = session.infer("m", None, {"x": old}, None)
    assert type(next(steps)) is Metadata
    with pytest.raises(RequestError, match=r"\[4\]"):
        steps.send(raw(4))


def test_fresh_metadata_is_not_asked_for_again_when_the_check_fails(session):
    steps = session.infer("m", None, {"q": 1}, None)
    next(steps)
    with pytest.raises(RequestError, match="'x' is missing"):
        steps.send(raw(3))


@pytest.mark.parametrize("refusal", [RequestError("no", status=400), VersionNotFoundError("gone")])
def test_a_refusal_by_the_server_forgets_the_metadata(session, refusal):
    given = {"x": np.zeros(3, np.float32)}
    steps = session.infer("m", None, given, None)
    next(steps)
    steps.send(raw(3))
    with pytest.raises(type(refusal)):
        steps.throw(refusal)
    assert type(next(session.infer("m", None, given, None))) is Metadata


def test_wanted_outputs_are_asked_for_and_must_come(session):
    given = {"x": np.zeros(3, np.float32)}
    asked, result = play(session.infer("m", None, given, ["z"]), raw(3), answers_of(1))
    assert asked[-1].outputs == ("z",) and list(result) == ["z"]
    with pytest.raises(RemoteError, match="cannot be read"):
        play(session.infer("m", None, given, ["z"]), {"y": answers_of(1)["y"]}, raw(3))


def test_an_answer_with_more_rows_than_were_sent_is_not_believed(session):
    with pytest.raises(RemoteError, match="cannot be read"):
        play(session.infer("m", None, {"x": np.zeros(3, np.float32)}, None), raw(3), answers_of(2))


WRONG = {
    "another type": ({"y": output("y", np.ones((1, 2)), "FP64")}, "'y' is FP64"),
    "another size": ({"y": output("y", np.ones((1, 3), np.float32))}, r"'y' is FP32 \[1, 3\]"),
    "another rank": ({"y": output("y", np.ones((1, 2, 1), np.float32))}, r"\[1, 2, 1\]"),
    "no axes": ({"y": output("y", np.float32(1).reshape(()))}, r"'y' is FP32 \[\]"),
    "another name": ({"q": output("q", np.ones((1, 2), np.float32))}, "'y' is missing"),
    "nothing": ({}, "'y' is missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_answer_with_other_tensors_than_the_models_is_not_believed(session, case):
    """Triton passes on whatever a model in Python gives. Fresh metadata is asked for before."""
    tensors, words = WRONG[case]
    answer = {**answers_of(1), **tensors} if "y" in tensors else {"z": answers_of(1)["z"], **tensors}
    with pytest.raises(RemoteError, match=words) as caught:
        play(session.infer("m", None, {"x": np.zeros(3, np.float32)}, None), raw(3), answer, raw(3))
    assert "cannot be read" in str(caught.value) and not caught.value.retryable


def test_an_answer_is_held_against_fresh_metadata_when_the_old_does_not_fit(session):
    """A version with another output went live between two calls."""
    given = {"x": np.zeros((1, 3), np.float32)}
    play(session.infer("m", None, given, None), raw(3), answers_of(1))
    new = RawSpec(inputs=raw(3).inputs, outputs=(TensorSpec(name="y", dtype=FP32, dims=(-1, 5)),))
    answer = {"y": output("y", np.ones((1, 5), np.float32))}
    asked, result = play(session.infer("m", None, given, None), answer, new)
    assert [type(q) for q in asked] == [Infer, Metadata]
    assert result["y"].shape == (1, 5)


def test_an_output_that_was_not_asked_for_may_be_missing(session):
    given = {"x": np.zeros((1, 3), np.float32)}
    answer = {"z": answers_of(1)["z"]}
    asked, result = play(session.infer("m", None, given, ["z"]), raw(3), answer)
    assert [type(q) for q in asked] == [Metadata, Infer] and list(result) == ["z"]


def test_classification_is_parsed(session):
    texts = np.array([[b"0.75:3:a cat: tabby", b"0.25:1"]], dtype=object)
    asked, result = play(
        session.classify("m", None, {"x": np.zeros(3, np.float32)}, None, 2),
        raw(3),
        {"y": output("y", texts, "BYTES")},
    )
    assert (asked[-1].outputs, asked[-1].classes) == (("y",), 2)
    best, second = Ranked(score=0.75, index=3, label="a cat: tabby"), Ranked(score=0.25, index=1, label="")
    assert result == [[best, second]]
    with pytest.raises(RemoteError, match="cannot be read"):
        play(
            session.classify("m", None, {"x": np.zeros(3, np.float32)}, "y", 2),
            {"y": output("y", np.array([[b"no", b"no"]], dtype=object), "BYTES")},
        )
    with pytest.raises(UsageError):
        next(session.classify("m", None, {}, None, 0))


def test_readiness_is_false_when_nothing_answers_and_errors_of_the_caller_are_raised(session):
    assert play(session.ready(None, None), True) == ([Ready(model=None, version=None)], True)
    assert play(session.ready("m", 2), UnreachableError("x")) == ([Ready(model="m", version=2)], False)
    assert play(session.ready("m", 2), UnavailableError("x", status=502)) == ([Ready(model="m", version=2)], False)
    with pytest.raises(RequestError):
        play(session.ready("m", None), RequestError("key", status=401))
    with pytest.raises(UsageError):
        next(session.ready(None, 2))


@pytest.mark.parametrize(("model", "version"), [("a/b", None), ("../x", None), ("", None), ("m", 0), ("m", -1)])
def test_names_and_versions_that_cannot_be_never_reach_the_server(session, model, version):
    for steps in (session.infer(model, version, {}, None), session.spec(model, version), session.ready(model, version)):
        with pytest.raises(InvalidNameError):
            next(steps)
