"""The comparison with other servers: a short run with FastAPI alone, and the page that is written from its results."""

from __future__ import annotations

import json
import subprocess
import sys

from modelport._cores import usable


def layouts():
    """As exported, with one instance, and an instance per core; on one core these are the same."""
    return ["", "an instance per core"] if usable() > 1 else [""]


def test_against_peers_in_its_short_form(root, require, tmp_path):
    """With FastAPI alone, every server is measured in every way, after its answers were right; nothing stays behind."""
    require("wrk")
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/against_peers.py", "--random", "--here", "--peers", "modelport", "fastapi"]
    command += ["--seconds", "1", "--rounds", "1", "--clients", "4", "--output", output]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr

    written = json.loads(output.read_text())
    measured = [row["server"] for row in written["rows"]]
    setups = ("1 worker", "1 worker, threads sleep", "a worker per core")
    ways = [f"FastAPI, {way}, {setup}" for setup in setups for way in ("raw bytes", "JSON")]
    ours = [", ".join(filter(None, ["modelport", way, setup])) for setup in layouts() for way in ("binary", "JSON")]
    assert measured == [*ours, *ways]
    assert all(row["requests"] > 0 and row["p50_ms"] > 0 and row["cpu_us"] > 0 for row in written["rows"])
    assert written["machine"]["cores"] and written["peers"]["fastapi"]["uvicorn"] and written["commit"]
    assert written["command"][:2] == ["python", "benchmarks/against_peers.py"]

    again = subprocess.run(
        [*command, "--resume"], cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert again.returncode == 0 and "clients" not in again.stdout, "what was measured is not measured again"


def test_the_page_of_the_peers_holds_what_was_stored(root):
    """Its tables are those that the stored runs and the peers' own settings give."""
    code = "from peers import report; print(report.page(report.PAGE.read_text()) == report.PAGE.read_text())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root / "benchmarks", capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", "make bench-peers BENCH_ARGS=--page\n" + done.stderr
