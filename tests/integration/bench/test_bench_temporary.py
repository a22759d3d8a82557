"""`modelport bench` with the real perf_analyzer and no server before; how fast anything was is not judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from modelport.bench import stored
from modelport.errors import VerificationError
from modelport.verify import evidence as evidences

SHORT = ("--interval", "0.4", "--repeats", "1", "--concurrency", "2")


def test_a_candidate_is_measured_in_turns_with_the_serving_version(run, repository, tmp_path):
    """Both in one temporary server; then the files alone give the same comparison."""
    done = run("bench", "scale/2", "-r", repository, "--against", "scale", "--concurrency", "2", "--interval", "0.2",
               "--repeats", "3", "-o", "b.json", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["files"] == ["b.json", "b-against.json"] and said["report"] == "b.html"
    assert list(said["points"]) == ["scale/2 over http", "scale/1 over http"]
    compared = said["comparison"]
    assert compared["in_turns"] and compared["rows"][0]["ratio"]["low"] < compared["rows"][0]["ratio"]["high"]

    again = run("bench", "--compare", "b.json", "b-against.json", "--json", "-o", "again.html")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == compared
    assert "A over B" in (tmp_path / "again.html").read_text()


def test_without_a_server_a_temporary_one_is_started_and_stopped(run, repository, tmp_path):
    """Over gRPC; the default file has a name that tells the model, the version and the protocol."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    done = run("bench", "strict", "-r", repository, "--protocol", "grpc", *SHORT, TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    assert "no server is running: starting a temporary server" in done.stderr
    (path,) = (tmp_path / "benchmarks" / "results").glob("bench-strict-1-grpc-*.json")
    assert path.with_suffix(".html").exists()
    assert list(scratch.iterdir()) == []  # that no server is left, the whole session checks


def test_a_server_that_answers_wrongly_is_not_measured(run, repository, tmp_path):
    """The evidence of a copy of version 1 is made to say something else."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", repository, copy], check=True)
    evidence, golden = evidences.read(copy / "scale" / "1")
    wrong = evidences.Golden(inputs=golden.inputs, outputs={"y": golden.outputs["y"] + 1})
    evidences.write(copy / "scale" / "1", evidence, wrong)
    done = run("bench", "scale", "-r", copy, *SHORT, "-o", "w.json")
    assert done.returncode == VerificationError.exit_code, done.stderr
    assert "warming" not in done.stderr and not (tmp_path / "w.json").exists()


def test_ctrl_c_stops_everything_and_keeps_the_finished_rounds(data, repository, tmp_path):
    """The temporary server, perf_analyzer, its shared memory and all scratch files are gone."""
    before = set(Path("/dev/shm").iterdir())
    command = [sys.executable, "-m", "modelport", "bench", "scale", "-r", str(repository), "--shared-memory"]
    command += ["--concurrency", "1,2", "--interval", "0.4", "--repeats", "50", "-o", "e.json"]
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    env = {**os.environ, "XDG_DATA_HOME": str(data), "TMPDIR": str(scratch)}
    with (
        (tmp_path / "out").open("w+") as out,
        subprocess.Popen(command, cwd=tmp_path, env=env, stdout=out, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            said = next(line for line in process.stderr if ", round 2" in line)
            children = psutil.Process(process.pid).children(recursive=True)
            names = [child.name() for child in children]
            process.send_signal(signal.SIGINT)
            said += process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "tritonserver" in names
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert list(scratch.iterdir()) == []
    left = {path.name for path in set(Path("/dev/shm").iterdir()) - before}
    assert not {name for name in left if name.startswith(("x_", "y"))}

    found = stored.read(tmp_path / "e.json")
    assert [(row.round, row.load.value) for row in found.rows] == [(0, 1), (0, 2)]
    for text in ((tmp_path / "e.html").read_text(), (tmp_path / "out").read_text()):
        assert "Stopped after 1 of 50 rounds." in text
