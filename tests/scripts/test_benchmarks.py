"""The benchmarks run to their end and store what they measured; how fast anything was is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import modelport


def test_bounded_line_in_its_short_form(root, require, tmp_path):
    """Each way to bound the line is measured at each number of clients, and compared with the unbounded one."""
    require("wrk")
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/bounded_line.py", "--random", "--output", output]
    command += ["--seconds", "1", "--repeats", "1", "--clients", "1", "4"]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr

    written = json.loads(output.read_text())
    measured = {(row["server"], row["clients"]) for row in written["rows"]}
    ways = {server.partition(",")[0] for server, _ in measured}
    assert ways == {"unbounded", "our backends", "Triton's queue policy"}
    assert len(measured) == len(written["rows"]) and all(row["requests"] > 0 for row in written["rows"])
    assert written["machine"]["cores"] and written["versions"]["nvidia-pytriton"] and written["commit"]
    assert "our backends, 1 instance" in done.stdout and " x " in done.stdout


def run_limits(root, output, parts):
    command = [sys.executable, "benchmarks/limits.py", "--random", "--quick", "--output", output, "--parts", *parts]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(output.read_text())
    assert written["machine"]["cores"] and written["versions"]["onnxruntime"] and written["commit"]
    assert all(row.get("requests_per_s", row.get("rows_per_s")) > 0 for row in written["rows"])
    return written["rows"], done.stdout


def test_limits_with_one_part_only(root, require, tmp_path):
    """The server is measured, and the model in process beside it; the goal is printed with what was reached."""
    require("wrk")
    rows, printed = run_limits(root, tmp_path / "results.json", ["resnet"])
    assert [row["what"] for row in rows] == ["served", "in process", "in process"]
    assert rows[0]["mean_batch"] >= 1 and rows[0]["cpu_us_per_request"] > 0
    assert rows[1]["cpu_us_per_row"] > 0 and "goal >= 0.95: " in printed


@pytest.mark.soak
def test_limits_whole(root, require, tmp_path):
    """Every goal is printed, with and without the batcher, from the compiled backend and from both in Python."""
    require("wrk")
    rows, printed = run_limits(root, tmp_path / "results.json", ["digits", "resnet", "batching"])
    ways = {(row["model"], row["way"]) for row in rows if row["part"] == "batching" and row["what"] == "served"}
    models = ("digits_cnn", "linear_regression")
    both = {(model + end, way) for model in models for end in ("", "_alone") for way in ("compiled", "isolated")}
    compiled = {(model + end, "compiled") for model in ("line_in_torchscript", "resnet18") for end in ("", "_alone")}
    assert ways == both | compiled
    assert printed.count("goal ") == 5


def test_list_models_in_its_short_form(root, tmp_path):
    """Every way to list is measured as often as asked for, and each list was whole."""
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/list_models.py", "--models", "10", "--versions", "2", "--repeats", "2"]
    command += ["--output", output]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr

    written = json.loads(output.read_text())
    ways = [row["way"] for row in written["rows"]]
    assert ways == ["table", "JSON", "search", "nothing"] * 2
    assert all(row["wall_s"] > 0 and row["cpu_s"] > 0 and row["models"] == 10 for row in written["rows"])
    assert written["machine"]["cores"] and written["commit"] and "table" in done.stdout


def test_publish_in_its_short_form(root, tmp_path):
    """Every round measures both, and nothing but the file with the results is left."""
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/publish.py", "--folder", tmp_path, "--output", output]
    command += ["--megabytes", "0.1", "--repeats", "2"]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr

    written = json.loads(output.read_text())
    measured = {(row["what"], row["round"]) for row in written["rows"]}
    assert measured == {(what, n) for what in ("cp and fsync", "publish", "write", "sha256") for n in range(2)}
    assert len(written["rows"]) == 8 and all(row["seconds"] > 0 for row in written["rows"])
    assert written["machine"]["cores"] and written["versions"]["modelport"] and written["commit"]
    assert (written["megabytes"], bool(written["file_system"])) == (0.1, True)
    assert "times as long as cp and fsync" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_rollback_in_its_short_form(root, tmp_path):
    """Both ways to go back are measured, with the version before still loaded and not."""
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/rollback.py", "--image", "32", "--width", "4", "--repeats", "1"]
    command += ["--output", output]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr

    written = json.loads(output.read_text())
    measured = [(row["before"], row["way"]) for row in written["rows"]]
    assert measured == [(before, way) for before in ("loaded", "not loaded") for way in ("call", "command")]
    assert all(row["whole_s"] > row["switch_s"] > 0 for row in written["rows"])
    assert written["machine"]["cores"] and written["commit"] and written["model_bytes"] > 0
    assert "switch" in done.stdout


def test_promotion_latency_in_its_short_form(root, tmp_path):
    """Callers are measured before and during a promotion, none of them failed, and its CPU cost is told."""
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/promotion_latency.py", "--image", "32", "--width", "4", "--repeats", "1"]
    command += ["--rate", "50", "--seconds", "1", "--output", output]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr

    written = json.loads(output.read_text())
    steady, promotion = written["rows"]
    assert (steady["phase"], promotion["phase"]) == ("steady", "promotion")
    assert len(steady["latencies_ms"]) >= 40 and len(promotion["latencies_ms"]) >= 40
    assert min(steady["latencies_ms"] + promotion["latencies_ms"]) > 0
    assert all(promotion[f"cpu_{part}_s"] > 0 for part in ("trial", "server", "command"))
    assert written["machine"]["cores"] and written["commit"] and written["rate"] == 50
    assert "times that of the steady state" in done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A repository with one small model in each format."""
    repository = tmp_path_factory.mktemp("small") / "model_repository"
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1)
    for name, form in (("line", "onnx"), ("traced", "torchscript")):
        modelport.export(
            torch.nn.Linear(1, 1), name=name, repository=repository, example_inputs={"input": x}, format=form
        )
    return repository


def test_startup_in_its_short_form(root, small, tmp_path):
    """Each way to start is measured until the first right answer, from one model and from all."""
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/startup.py", "--quick", "--repository", small, "--small", "line"]
    command += ["--output", output]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr

    written = json.loads(output.read_text())
    ways = [(row["way"], row["models"]) for row in written["rows"]]
    assert ways == [("bare", 0), ("library", 1), ("command", 1), ("library", 2), ("command", 2)]
    assert all(0 < row["first_s"] <= row["answered_s"] and row["cpu_s"] > 0 for row in written["rows"])
    assert all(row["ready_s"] >= row["answered_s"] for row in written["rows"] if row["way"] == "command")
    assert "goal 3 s: " in done.stdout and "goal 10 s: " in done.stdout and written["commit"]


def test_memory_in_its_short_form(root, tmp_path):
    """A further model in the server's process costs less than half of one in a process of its own."""
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/memory.py", "--quick", "--kinds", "compiled", "isolated", "--output", output]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr

    rows = json.loads(output.read_text())["rows"]
    own = {(row["kind"], row["copies"]): row["bytes"] for row in rows}
    assert own.keys() == {
        *((kind, count) for kind in ("compiled", "isolated") for count in (1, 2)),
        *((kind, 1) for kind in ("import torch", "import torch, spared")),
    }
    assert own["import torch, spared", 1] < own["import torch", 1]
    assert own["compiled", 2] - own["compiled", 1] < (own["isolated", 2] - own["isolated", 1]) / 2
    assert "beyond the first" in done.stdout
