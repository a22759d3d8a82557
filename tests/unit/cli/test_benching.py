"""`modelport bench` without a server: what cannot be right is told at once, results are compared from their files."""

from __future__ import annotations

import json

import pytest

from modelport.bench import compare as comparing
from modelport.bench import stored
from modelport.bench.load import Load
from modelport.bench.perf_output import Measured
from modelport.bench.rounds import Row
from modelport.bench.stored import Stored
from modelport.cli import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """`run("bench", ...)`: exit code, output and errors, in an empty folder and without any perf_analyzer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("MODELPORT_URL", raising=False)

    def act(*words):
        code = main(["bench", *map(str, words)])
        return (code, *capsys.readouterr())

    return act


@pytest.fixture
def files(tmp_path):
    """Two result files that were measured in turns."""
    for name, rate in (("a", 200.0), ("b", 100.0)):
        parts = dict.fromkeys(("mean_us", "p50_us", "p90_us", "p95_us", "p99_us"), 1e6 / rate)
        parts |= dict.fromkeys(("client_us", "network_us", "queue_us", "compute_us"), 1e6 / rate / 4)
        seen = [Measured(inferences_per_s=rate + n, requests=5000, mean_batch=1.0, **parts) for n in range(3)]
        load = Load(kind="concurrency", value=4)
        rows = tuple(Row(target=name, round=n, load=load, measured=one) for n, one in enumerate(seen))
        known = {"series": "s", "target": {}, "settings": {}, "circumstances": {"time": "t", "command": ["modelport"]}}
        stored.write(tmp_path / f"{name}.json", Stored(name=name, rows=rows, **known))
    return tmp_path / "a.json", tmp_path / "b.json"


def test_two_results_are_compared_from_their_files(run, files, tmp_path):
    code, out, err = run("--compare", *files, "--output", "both.html")
    assert code == 0, err
    assert "A is a, B is b." in out and "100.000 to" not in out and "both.html" in out
    assert (tmp_path / "both.html").read_text().count("<svg") >= 4


def test_the_same_as_json(run, files):
    code, out, _ = run("--compare", *files, "--json")
    said = json.loads(out)
    assert code == 0 and said["in_turns"] is True
    expected = comparing.compare(*map(stored.read, files)).rows[0].ratio
    assert said["rows"][0]["ratio"] == {"value": expected.value, "low": expected.low, "high": expected.high}


@pytest.mark.parametrize("words", [(), ("net", "--install"), ("net", "--compare", "a", "b")])
def test_one_thing_at_a_time(run, words):
    code, out, err = run(*words)
    assert code == 2 and "one of NAME, --install and --compare" in err and out == ""


def test_wrong_options_are_told_together(run, tmp_path):
    code, _, err = run("net", "--concurrency", "x", "--repeats", "0", "--", "-m", "other")
    assert code == 2
    assert all(word in err for word in ("'x'", "--repeats 0", "-m", "  why: ", "  do:  "))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["r.html", "r", "."])
def test_a_report_never_takes_the_place_of_the_figures(run, name):
    code, _, err = run("net", "--output", name)
    assert code == 2 and "does not end with .json" in err


def test_a_report_of_two_results_does_not_overwrite_one(run, files):
    before = files[0].read_text()
    code, _, err = run("--compare", *files, "--output", files[0])
    assert code == 2 and "does not end with .html" in err and files[0].read_text() == before
    code, _, err = run("--compare", *files, "--output", "/proc/r.html")
    assert code == 2 and "no file can be written in /proc" in err


def test_words_behind_the_name_are_flags_only(run):
    code, _, err = run("net", "other")
    assert code == 2 and "'other' was not understood" in err and "--against" in err
