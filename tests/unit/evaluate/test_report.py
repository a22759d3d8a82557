"""Scores by group of rows, and the page that shows them: it stands alone, and draws what the answers allow."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from modelport.errors import UsageError
from modelport.evaluate import report
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.scores import score

ROWS = 60
LABELS = np.arange(ROWS) % 3
SCORES = (np.eye(3)[LABELS] + np.random.default_rng(0).random((ROWS, 3))).astype(np.float32)
CHANCES = SCORES / SCORES.sum(axis=1, keepdims=True)


def rows(labels, **slices):
    return EvaluationData(name="rows", inputs={"x": np.zeros((len(labels), 1))}, labels=labels, slices=slices)


def drawn(answer, labels, names=(), **slices):
    found = score({"y": answer}, rows(labels, **slices), resamples=100)
    text = report.page({"version": "m/1 <b>", "data": "rows & more"}, found, answer, labels, names)
    pictures = re.findall(r"<svg.*?</svg>", text, re.S)
    assert all(ElementTree.fromstring(picture).tag.endswith("svg") for picture in pictures)
    assert "<script" not in text and "<b>" not in text
    assert [
        u for u in re.findall(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)""", text) if not u.startswith("data:")
    ] == []
    return text, [title for title in ("Confusion matrix", "ROC", "Calibration", "Answers against") if title in text]


def test_what_is_drawn_fits_the_answers():
    everything = ["Confusion matrix", "ROC", "Calibration"]
    text, titles = drawn(CHANCES, LABELS, ["red", "green", "blue"])
    assert titles == everything and "green" in text and "only 60 rows" in text
    assert drawn(10 * SCORES, LABELS)[1] == everything[:2], "logits are no probabilities"
    text, titles = drawn(CHANCES[:, :1], (LABELS == 0).astype(int), ["red"])
    assert titles == everything and "not red" in text
    assert drawn(LABELS[:, None], LABELS)[1] == everything[:1]
    assert drawn(SCORES[:, :1], SCORES[:, :1].astype(float))[1] == ["Answers against"]
    items = np.argsort(-np.random.default_rng(1).random((ROWS, 12)), axis=1)
    text, titles = drawn(items, np.random.default_rng(2).random((ROWS, 12)) > 0.5)
    assert titles == [] and "Pictures" not in text, "a ranking is no picture"


def test_of_many_classes_or_where_several_are_right_is_drawn_what_can_be():
    many = np.random.default_rng(3).dirichlet(np.ones(60), ROWS).astype(np.float32)
    assert drawn(many, np.arange(ROWS))[1] == ["ROC", "Calibration"], "a table of 60 classes says nothing"
    assert drawn(CHANCES, np.eye(3, dtype=bool)[LABELS])[1] == ["Calibration"]


def test_groups_of_rows_are_scored_and_what_means_nothing_for_them_is_left_out():
    found = score({"y": CHANCES}, rows(LABELS, colour=LABELS, half=np.arange(ROWS) < 30), resamples=100)
    groups = {(one.column, one.value): one for one in found.slices}
    assert {key: one.rows for key, one in groups.items()} == {
        **{("colour", str(c)): 20 for c in range(3)},
        **{("half", half): 30 for half in ("True", "False")},
    }
    assert "roc_auc" in groups["half", "True"].scores and "roc_auc" not in groups["colour", "1"].scores
    assert "By group of rows" in drawn(CHANCES, LABELS, colour=LABELS)[0]


def test_an_output_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="no output 'z'") as caught:
        score({"y": CHANCES}, rows(LABELS), output="z")
    assert "the model gives y" in caught.value.why
