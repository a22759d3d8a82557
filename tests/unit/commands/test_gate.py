"""What labelled data and rules become: class names are the model's own, and a rule can be kept by some version."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.cli import main
from modelport.commands import evaluation_data
from modelport.commands.gate import checked, gate
from modelport.errors import DataError, UsageError
from modelport.evaluate import gate_data
from modelport.repository import manifest as manifests
from modelport.repository.gate import Gate

ROWS = "a,b,c,labels\n1,2,3,dog\n3,2,1,cat\n0,0,1,dog\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def find(wanted, repository, version=1, output=None, model="scores"):
    spec = manifests.read(repository / model / str(version)).spec
    return evaluation_data.find(str(wanted), repository, model, spec, version=version, output=output)


def test_names_of_classes_become_the_numbers_of_the_versions_labels(exported, table, tmp_path):
    assert find(table, exported).labels.tolist() == [1, 0, 1]
    np.savez(tmp_path / "rows.npz", x=np.zeros((2, 3), np.float32), labels=np.array(["cat", "dog"]))
    assert find(tmp_path / "rows.npz", exported).labels.tolist() == [0, 1]


def test_a_name_that_is_no_label_is_refused_with_the_labels(exported, table):
    table.write_text(ROWS.replace("cat", "Cat"))
    with pytest.raises(DataError) as caught:
        find(table, exported)
    assert "'Cat' (row 2) is none of the labels of the output 'scores': cat, dog" in caught.value.why


def test_names_for_a_model_without_labels_are_left_and_refused_by_the_metrics(repository, table):
    assert find(table, repository, model="traced").labels.tolist() == ["dog", "cat", "dog"]
    with pytest.raises(UsageError, match="does not fit") as caught:
        gate("traced", Gate(metric="accuracy", min=0.1), data=str(table), repository=repository)
    assert "--labels FILE" in caught.value.fix


def test_a_gate_takes_names_and_says_where_the_columns_went(repository, table):
    state = gate("scores", Gate(metric="accuracy", min=0.1), data=str(table), repository=repository)
    assert state.columns == "by their order, not their names: a, b, c -> x[0] to x[2]"
    assert gate_data.read(repository, "scores").labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"metric": "accuracy", "min": 90}, "--min 90 is above 1, 90 % is written 0.9"),
        ({"metric": "top5", "min": 1.01}, "--min 1.01 is above 1"),
        ({"metric": "recall@10", "min": -0.1}, "--min -0.1 is below 0"),
        ({"metric": "ndcg@5", "max_drop": 5}, "--max-drop 5 is above 1, 5 % is written 0.05"),
        ({"metric": "r2", "min": 2}, "--min 2 is above 1"),
        ({"metric": "mae", "max": -1}, "--max -1 is below 0"),
    ],
)
def test_a_limit_that_no_version_can_keep_is_refused(rule, words):
    with pytest.raises(UsageError, match="no gate for") as caught:
        checked(Gate(**rule))
    assert words in caught.value.why


@pytest.mark.parametrize(
    "rule",
    [
        {"metric": "accuracy", "min": 1, "max_drop": 0},
        {"metric": "r2", "min": -3, "max_drop": 7},
        {"metric": "mae", "max": 90, "max_drop": 90},
    ],
)
def test_a_limit_that_can_be_kept_is_taken(rule):
    assert checked(Gate(**rule)) == Gate(**rule)


def test_a_model_whose_last_gate_went_is_judged_by_nothing(repository, table, capsys):
    common = ["gate", "scores", "--metric", "accuracy", "--repository", str(repository)]
    assert main([*common, "--min", "0.1", "--data", str(table)]) == 0
    assert "\njudged with 3 rows" in capsys.readouterr().out
    assert main([*common, "--remove"]) == 0
    told = capsys.readouterr().out
    assert "scores has no gate\nthe next one will be judged with 3 rows" in told and "\njudged" not in told
