"""The benchmarks of settings and of the Python clients run to their end and store what they measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(root, output, program, *options):
    command = [sys.executable, f"benchmarks/{program}.py", "--random", "--quick", "--output", output, *options]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(output.read_text())
    assert written["machine"]["cores"] and written["versions"]["nvidia-pytriton"] and written["commit"]
    assert all(row["requests"] > 0 and row["p50_ms"] > 0 for row in written["rows"])
    return written["rows"], done.stdout


def test_settings_in_its_short_form(root, require, tmp_path):
    """Each setting is measured in turns with the model as exported, and compared with it."""
    require("wrk")
    options = ["--models", "linear_regression", "--settings", "delay of 50 us", "--clients", "4"]
    rows, printed = run(root, tmp_path / "results.json", "settings", *options)
    assert [row["setting"] for row in rows] == ["as exported", "delay of 50 us"]
    assert all(row["cpu_us_per_request"] > 0 and row["mean_batch"] >= 1 for row in rows)
    assert printed.count("processor x ") == 2


@pytest.mark.soak
def test_python_clients_in_its_short_form(root, require, tmp_path):
    """All five callers are measured, with the processor time that each takes for a request."""
    require("wrk")
    rows, printed = run(root, tmp_path / "results.json", "python_clients", "--threads", "2")
    callers = ["wrk", *(f"{name}, {kind}" for name in ("modelport", "tritonclient") for kind in ("HTTP", "gRPC"))]
    assert [row["caller"] for row in rows] == callers and all(row["clients"] == 2 for row in rows)
    assert all(row["caller_us_per_request"] > 0 for row in rows) and "modelport, gRPC" in printed


@pytest.mark.soak
def test_the_gateways_cost_in_its_short_form(root, require, tmp_path):
    """Directly and through the gateway, plain, with TLS and without its checks; a canary's share; changes."""
    require("wrk")
    command = [sys.executable, "benchmarks/gateway.py", "--random", "--quick", "--models", "linear_regression"]
    done = subprocess.run(
        [*command, "--output", tmp_path / "results.json"], cwd=root, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    ways = {(row["form"], row["server"]) for row in rows if row["part"] == "cost"}
    assert len(ways) == 7 and "gateway, TLS" in done.stdout
    assert [row["failed"] for row in rows if row["part"] == "meanwhile"] == [{}]
    assert all(0 < row["revoked_s"] < 5 for row in rows if row["part"] == "change")


@pytest.mark.soak
def test_what_being_watched_costs_in_its_short_form(root, require, tmp_path):
    """A gateway that neither logs nor counts, one that does, and that one asked by Prometheus."""
    require("wrk")
    require("prometheus")
    rows, printed = run(root, tmp_path / "results.json", "watching", "--model", "linear_regression")
    assert [row["server"] for row in rows] == ["neither", "access logs", "access logs, Prometheus"]
    assert all(row["clients"] == 32 and row["cpu_us_per_request"] > 0 for row in rows) and "goal: x 0.97" in printed
