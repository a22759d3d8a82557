"""A replay asks singly, in batches no larger than may be, and from several threads; the worst answer counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from modelport.errors import UnreachableError, VerificationError
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.replay import CONCURRENT_REQUESTS, replay, replay_concurrently
from modelport.verify.tolerance import Tolerance

Array = np.ndarray
X = np.arange(8 * 3, dtype=np.float32).reshape(8, 3)
GOLDEN = Golden(inputs={"x": X}, outputs={"y": X * 2})


def evidence(*, batched: bool = True) -> Evidence:
    tolerances = {"y": Tolerance(kind="fixed", max_abs=0.01)}
    return Evidence(reference="test", batched=batched, samples=8, tolerances=tolerances, comparisons={})


class Server:
    """Answers y = 2x, and notes what it was asked, from which threads."""

    def __init__(self, spoil: Callable[[Array], Array] = lambda y: y) -> None:
        self.spoil = spoil
        self.sizes: list[int] = []
        self.threads: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            self.sizes.append(len(inputs["x"]))
            self.threads.add(threading.get_ident())
        return {"y": self.spoil(inputs["x"] * 2)}


def test_all_rows_together_then_each_alone():
    server = Server()
    found = replay(server, evidence(), GOLDEN, model="net", where="here")["y"]
    assert server.sizes == [8, *[1] * 8]
    assert found.samples == 16 and found.max_abs_error == 0 and found.argmax_agreement == 1


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1] * 8), (3, [3, 3, 2]), (7, [7, 1]), (8, [8]), (100, [8])])
def test_no_batch_is_larger_than_the_model_takes(largest, sizes):
    server = Server()
    replay(server, evidence(), GOLDEN, model="net", where="here", largest=largest)
    assert server.sizes == [*sizes, *[1] * 8]
    server.sizes.clear()
    replay_concurrently(server, evidence(), GOLDEN, model="net", where="here", largest=largest)
    assert max(server.sizes) == min(3, largest)


def test_without_a_batch_axis_the_example_is_asked_as_it_is():
    for action in (replay, replay_concurrently):
        server = Server()
        assert action(server, evidence(batched=False), GOLDEN, model="net", where="here")["y"].samples == 1
        assert server.sizes == [8]


def test_concurrent_requests_come_from_several_threads_with_mixed_sizes():
    meeting = threading.Barrier(4)  # breaks unless four requests are on the way at once

    def wait(y: Array) -> Array:
        if not meeting.broken and meeting.n_waiting < 4 and len(server.sizes) <= 4:
            meeting.wait(20)
        return y

    server = Server(wait)
    replay_concurrently(server, evidence(), GOLDEN, model="net", where="here")
    assert len(server.sizes) == CONCURRENT_REQUESTS and set(server.sizes) == {1, 2, 3} and len(server.threads) >= 4


def last_row_wrong(y: Array) -> Array:
    return y + (np.arange(len(y))[:, None] == 7) * np.float32(5)


@pytest.mark.parametrize(
    ("action", "spoil"),
    [
        (replay, lambda y: y + 0.02),
        (replay, lambda y: y if len(y) > 1 else y + 0.02),
        (replay, lambda y: y if len(y) < 8 else y[::-1]),
        (replay, last_row_wrong),
        (replay, lambda y: y.astype(np.float64)),
        (replay, lambda y: y[:1]),
        (replay, lambda y: y * np.nan),
        (replay_concurrently, lambda y: y if len(y) < 3 else y + 0.02),
        (replay_concurrently, lambda y: y[::-1]),
    ],
    ids=["all", "singles", "batch reversed", "one row", "type", "shape", "NaN", "batches of three", "rows swapped"],
)
def test_a_wrong_answer_is_found(action, spoil):
    with pytest.raises(VerificationError):
        action(Server(spoil), evidence(), GOLDEN, model="net", where="http://somewhere")


def test_the_error_names_model_place_and_the_largest_error():
    with pytest.raises(VerificationError) as caught:
        replay(Server(last_row_wrong), evidence(), GOLDEN, model="net", where="http://somewhere")
    error = caught.value
    assert (error.model, error.tensor, error.max_abs_error, error.tolerance) == ("net", "y", 5, 0.01)
    assert "http://somewhere" in error.what


def test_no_answer_is_the_callers_error():
    """What the client raises goes through, from threads too."""

    def fail(y: Array) -> Array:
        raise UnreachableError("gone", why="w", fix="f")

    for action in (replay, replay_concurrently):
        with pytest.raises(UnreachableError):
            action(Server(fail), evidence(), GOLDEN, model="net", where="here")


def test_a_near_tie_counts_over_all_rows_and_not_in_the_request_where_it_stands_alone():
    tolerances = {"y": Tolerance(kind="exact", max_abs=0.0, mismatches=0.1)}
    kept = Evidence(reference="test", batched=True, samples=8, tolerances=tolerances, comparisons={})
    golden = Golden(inputs={"x": X}, outputs={"y": np.arange(24).reshape(8, 3)})

    def answer(inputs: Mapping[str, Array], wrong: int = 2) -> dict[str, Array]:
        y = inputs["x"].astype(np.int64)
        y[y < wrong] += 100
        return {"y": y}

    assert replay(answer, kept, golden, model="m", where="here")["y"].max_abs_error == 2 / 24
    with pytest.raises(VerificationError):
        replay(lambda inputs: answer(inputs, wrong=3), kept, golden, model="m", where="here")
