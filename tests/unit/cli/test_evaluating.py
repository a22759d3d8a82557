"""`evaluate` and `gate` on the command line: what cannot be meant is said before anything is started."""

from __future__ import annotations

import pytest

from modelport.cli import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gate", "m", "--min", "0.9"], "no --metric says what is limited"),
        (["gate", "m", "--remove"], "no --metric says what is limited"),
        (["gate", "m", "--metric", "f1", "--min", "0.9", "--remove"], "--remove takes no limits"),
        (["gate", "m", "--metric", "beauty", "--min", "0.9"], "there is no metric 'beauty'"),
        (["gate", "m", "--metric", "f1", "--min", "90"], "--min 90.0 is above 1, 90 % is written 0.9"),
        (["evaluate", "m", "--metric", "f1", "--metric", "beauty"], "there is no metric 'beauty'"),
        (["gate", "m", "--metric", "f1", "--max-drop", "-1"], "--max-drop -1.0 is below 0"),
        (["gate", "m", "--metric", "f1", "--min", "nan"], "--min nan"),
        (["gate", "m", "--metric", "f1", "--max", "1"], "use --min"),
        (["evaluate", "m", "--protocol", "ftp"], "neither http nor grpc"),
        (["evaluate", "m", "--url", "http://h", "--protocol", "http"], "says again"),
        (
            ["evaluate", "m", "--resamples", "1", "--report", "r.pdf"],
            "--resamples 1 is not from 100 to 100000; --report",
        ),
        (["promote", "m", "--override", " "], "without a reason"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, capsys, words, said):
    (tmp_path / "r" / "m" / "1").mkdir(parents=True)
    assert main([*words, "--repository", str(tmp_path / "r")]) == 2
    err = capsys.readouterr().err
    assert said in err and "  why: " in err and "  do:  " in err


def test_a_model_that_is_not_there(tmp_path, capsys):
    (tmp_path / "r").mkdir()
    for words in (["gate", "m"], ["evaluate", "m"], ["gate", "m", "--metric", "f1", "--min", "0.9"]):
        assert main([*words, "--repository", str(tmp_path / "r")]) == 32
        assert "there is no model 'm'" in capsys.readouterr().err
