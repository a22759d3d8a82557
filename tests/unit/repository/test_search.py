"""A search finds the versions that fit, and says at once what cannot be searched for."""

from __future__ import annotations

import pytest

from modelport.errors import UsageError
from modelport.repository.registry import VersionRow
from modelport.repository.search import search

ROWS = [
    VersionRow(model="digits_cnn", version=1, state="retired", loaded=True, framework="keras 3.15.1",
               metrics={"accuracy": 0.97}, aliases=("stable",)),
    VersionRow(model="digits_cnn", version=2, state="serving", loaded=True, framework="keras 3.15.1",
               metrics={"accuracy": 0.98}, tags=("best",)),
    VersionRow(model="resnet18", version=1, state="candidate", framework="pytorch 2.13",
               metrics={"top-1 accuracy": 0.7, "loss": 1.2}),
    VersionRow(model="odd", version=1, state="broken", problem="no manifest"),
    VersionRow(model="zero", version=None, state="empty"),
]  # fmt: skip


def found(**words: str) -> list[str]:
    return [f"{row.model}/{row.version}" for row in search(**words).select(ROWS)]


DIGITS = ["digits_cnn/1", "digits_cnn/2"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({}, [*DIGITS, "resnet18/1", "odd/1", "zero/None"]),
        ({"name": "digits"}, DIGITS),
        ({"name": "DIGITS"}, DIGITS),
        ({"name": "n"}, [*DIGITS, "resnet18/1"]),
        ({"name": "d*n"}, DIGITS),
        ({"name": "digit?_cnn"}, DIGITS),
        ({"name": "digits*cn"}, []),
        ({"name": "[dr]*"}, [*DIGITS, "resnet18/1"]),
        ({"tag": "best"}, ["digits_cnn/2"]),
        ({"tag": "bes"}, []),
        ({"alias": "stable"}, ["digits_cnn/1"]),
        ({"state": "candidate"}, ["resnet18/1"]),
        ({"state": "loaded"}, DIGITS),
        ({"state": "empty"}, ["zero/None"]),
        ({"framework": "keras"}, DIGITS),
        ({"framework": "PyTorch"}, ["resnet18/1"]),
        ({"metric": "accuracy>=0.98"}, ["digits_cnn/2"]),
        ({"metric": "accuracy > 0.97"}, ["digits_cnn/2"]),
        ({"metric": "accuracy<0.98"}, ["digits_cnn/1"]),
        ({"metric": "accuracy<=.98"}, DIGITS),
        ({"metric": "accuracy=0.98"}, ["digits_cnn/2"]),
        ({"metric": "accuracy==98e-2"}, ["digits_cnn/2"]),
        ({"metric": "accuracy!=0.98"}, ["digits_cnn/1"]),
        ({"metric": "top-1 accuracy>0.5"}, ["resnet18/1"]),
        ({"metric": "f1>0"}, []),
        ({"name": "cnn", "metric": "accuracy>0.97", "state": "serving"}, ["digits_cnn/2"]),
        ({"name": "cnn", "state": "candidate"}, []),
    ],
)
def test_what_fits_is_found(words, wanted):
    assert found(**words) == wanted


@pytest.mark.parametrize(
    "metric", ["", "accuracy", "accuracy>", ">0.9", "accuracy>high", "accuracy=>0.9", "a>1>2", "accuracy~0.9"]
)
def test_what_is_no_comparison_is_refused(metric):
    with pytest.raises(UsageError, match="no comparison") as caught:
        search(metric=metric)
    assert "--metric" in caught.value.fix


def test_all_that_is_wrong_is_named_together():
    with pytest.raises(UsageError) as caught:
        search(state="running", metric="accuracy")
    assert "'running'" in caught.value.what and "'accuracy'" in caught.value.what and "retired" in caught.value.why
