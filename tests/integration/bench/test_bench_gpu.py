"""The benchmark of a GPU runs to its end on the processor, so that only the device differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def test_the_benchmark_of_a_gpu_in_its_short_form(root, data, tmp_path):
    """Each variant is served, compared with the model in process, and measured; the file says on what."""
    output = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--quick", "--networks", "bert_base"]
    command += ["--precisions", "fp16", "--engines", "pytorch", "--output", output]
    env = {**os.environ, "XDG_DATA_HOME": str(data)}
    done = subprocess.run(
        command, cwd=root, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr

    written = json.loads(output.read_text())
    assert written["device"]["name"] == "cpu" and written["machine"]["cores"] and written["commit"]
    served = {row["variant"]: row for row in written["rows"] if "variant" in row}
    assert set(served) == {"one_instance", "two_instances", "staying", "no_batching"}
    assert all(row["inferences_per_s"] > 0 and row["p50_us"] > 0 for row in served.values())
    places = {row["where"] for row in written["rows"]} - {row["where"] for row in served.values()}
    assert places == {"in process, resident", "in process, from the host"}
    assert "of in process" in done.stdout and "joining requests, 4 clients" in done.stdout


def test_without_a_gpu_it_says_so(root):
    """It never measures the processor in the GPU's place."""
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "benchmarks/gpu.py"]
    done = subprocess.run(
        command, cwd=root, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "torch finds no GPU" in done.stderr
