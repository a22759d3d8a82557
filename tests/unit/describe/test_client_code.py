"""The client that is written for a model: formatted as ruff formats, typed so that mypy has nothing to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelport.describe import client_code
from modelport.describe.tensors import Tensor
from modelport.spec import DTYPES

QUOTES = ("plain", "it's", 'say "x"', "'\"", "back\\slash", "tab\t", "größer", "😀", "\u2028", "")


@pytest.fixture
def kinds(facts):
    """Models with all that a template can stumble over."""
    y = ("y", "FP32", (2,))
    hostile = (
        '# A """title""" \\ \x00' + " of words" * 30 + "\n\n'''Text''' with \\N{BULLET} and a\ttab" + " x" * 90 + '"'
    )

    def labelled(*labels, dims=None, datatype="FP32"):
        return Tensor(name="scores", datatype=datatype, dims=dims or (len(labels),), labels=labels)

    return {
        "every_type": facts(
            [(f"i{d.triton}", d.triton, (3,)) for d in DTYPES], [(d.triton, d.triton, ()) for d in DTYPES]
        ),
        "scalars": facts([(f"i{d.triton}", d.triton, (1,)) for d in DTYPES], [y], max_batch_size=1),
        "no_batch": facts(
            [("x:0", "FP32", (-1, 2)), ("x.0", "FP32", (-1,))], [y, ("class", "BYTES", (1,))], max_batch_size=0
        ),
        "lengths": facts(
            [("a" + "b" * length, "FP32", (2,)) for length in range(128)],
            [("c" + "d" * length, "INT64", (-1, -1, 1682)) for length in range(128)],
        ),
        "card": facts([("x", "FP32", (2,))], [y], card=hostile, name="a.b-c" * 12),
        "labels": facts([("x", "FP32", (2,))], [y, labelled(*QUOTES)]),
        "twice": facts([("x", "FP32", (2,))], [labelled("crane", "dog", "crane")]),
        "one": facts([("x", "FP32", (2,))], [labelled("malignant")]),
        "long": facts([("x", "FP32", (2,))], [labelled("l" * 90)]),
        "many": facts([("x", "FP32", (2,))], [labelled(*map(str, range(200)), dims=(10, 20), datatype="INT8")]),
        "none_ranked": facts([("x", "FP32", (2,))], [labelled("a", "b", dims=(-1,))]),
    }


def run(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=120)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_what_is_written_is_formatted_and_typed(kinds, tmp_path, root):
    """As ruff has it without any options, and without a finding of its usual rules; for mypy it is strict."""
    for name, facts in kinds.items():
        (tmp_path / f"{name}.py").write_text(client_code.written(facts), encoding="utf-8")
    assert run(tmp_path, "ruff", "format", "--isolated", "--diff", ".") == ""
    assert run(tmp_path, "ruff", "check", "--isolated", "--select", "E,F,I,UP,B,D1", "--ignore", "E501", ".") == ""
    (tmp_path / "wrong.py").write_text(
        "import numpy as np\nimport scalars, labels\nsmall = np.zeros(2, np.int8)\n"
        "labels.Inputs(x=[1.0])\nlabels.Inputs(y=np.zeros(2, np.float32))\nlabels.Inputs(x=small)\n"
        'best: list[labels.Label] = ["plain", "nonsense"]\nscalars.Inputs(iFP32=True)\n'
    )
    cache = str(root / "build" / "mypy_of_clients")
    found = run(tmp_path, "mypy", "--strict", "--config-file=", "--cache-dir", cache, ".")
    wrong = {tuple(line.split(":")[:2]) for line in found.splitlines() if ": error:" in line}
    assert wrong == {("wrong.py", line) for line in "45678"}, found


def test_labels_are_a_type_where_they_can_be(kinds):
    texts = {name: client_code.written(facts) for name, facts in kinds.items()}
    assert {name for name, text in texts.items() if "Literal[" in text} == {"labels", "none_ranked"}
    assert {name for name, text in texts.items() if "def best_labels" in text} == {"labels", "twice", "many"}
    assert {name for name, text in texts.items() if "LABELS" in text} == {
        *("labels", "twice", "one", "long", "many", "none_ranked")
    }
