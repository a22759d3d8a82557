"""`modelport tune` with the real perf_analyzer, and a running server that takes settings up; no speed is judged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modelport.bench.tuning import space
from modelport.bench.tuning.space import Setting
from modelport.client import Client
from modelport.commands.export import export
from modelport.commands.serve import serve
from modelport.errors import ModelportError, ServerError
from modelport.lifecycle import configure
from modelport.repository import config as configs
from modelport.repository import switch

SHORT = ("--interval", "0.2", "--repeats", "1", "--concurrency", "2", "--max-measurements", "3")


@pytest.fixture
def copy(repository, tmp_path):
    """A repository of its own to write into: `scale`, version 1 of which serves."""
    shutil.copytree(repository / "scale", tmp_path / "copy" / "scale")
    return tmp_path / "copy"


class Callers:
    """Two threads that ask all the time; `wrong` holds every answer that was none."""

    def __init__(self, url):
        self.wrong, self.answers, self.stopped = [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(url,)) for _ in range(2)]

    def ask(self, url):
        with Client(url, retries=0) as client:
            while not self.stopped.is_set():
                try:
                    found = client.infer("scale", x=np.ones((1, 3), np.float32))["y"]
                    if found.tolist() != [[2.0, 2.0, 2.0]]:
                        self.wrong.append(found)
                except ModelportError as exc:
                    self.wrong.append(exc)
                self.answers += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def test_the_best_setting_is_found_and_reported_and_nothing_is_written(run, copy, tmp_path):
    before = (copy / "scale" / "config.pbtxt").read_bytes()
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    done = run("tune", "scale", "-r", copy, *SHORT, "--json", "-o", "t.json", TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["measurements"] == 3 and said["written"] is None and said["settings"] > 3
    assert len({json.dumps(line["setting"]) for line in said["lines"]}) == 3
    assert all(line["predicted"]["rate"] > 0 and line["measured"]["rate"] > 0 for line in said["lines"])
    stored = json.loads((tmp_path / "t.json").read_text())
    assert len(stored["rows"]) == 3 and stored["kind"] == "modelport tune" and stored["machine"]["cores"]
    assert (copy / "scale" / "config.pbtxt").read_bytes() == before
    assert list(scratch.iterdir()) == []


def test_a_running_server_takes_a_setting_up_without_a_failed_request(copy):
    """Instances, threads, batches and delay, there and back; the reason stays with the configuration."""
    settings = [
        Setting(instances=2, threads=1, batch=4, delay_us=300),
        Setting(instances=1, threads=2, batch=1, delay_us=0),
        Setting(instances=2, threads=1, batch=16, delay_us=0),
    ]
    with serve(copy, http_port=0, grpc_port=0, metrics_port=0) as server, Callers(server.http_url) as callers:
        for setting in settings:
            done = configure.configure(
                "scale", lambda config, s=setting: space.applied(config, s), reason=f"tried: {setting}", repository=copy
            )
            assert done.server == server.http_url
            config, record = switch.read(copy, "scale")
            assert space.present(config, cores=2) == setting
            assert record.tuned == f"tried: {setting}"
        with urllib.request.urlopen(f"{server.http_url}/v2/models/scale/config") as answer:
            assert json.load(answer)["max_batch_size"] == 16
        configure.write_beside("scale", "other", lambda config: config, reason="no other", repository=copy)
    assert callers.answers > 0 and callers.wrong == []


def test_a_setting_that_does_not_load_is_taken_back(copy):
    def broken(config):
        config = space.applied(config, Setting(instances=1, threads=1, batch=1, delay_us=0))
        config.parameters["intra_op_thread_count"].string_value = "many"
        return config

    before = (copy / "scale" / "config.pbtxt").read_bytes()
    with serve(copy, http_port=0, grpc_port=0, metrics_port=0) as server, Callers(server.http_url) as callers:
        with pytest.raises(ServerError, match="scale"):
            configure.configure("scale", broken, reason="no good", repository=copy)
        assert server.ready_versions("scale") == (1,)
        callers.end()
        server.stop(grace_s=0.5)  # Triton 2.51 waits for a model whose loading anew failed until its exit timeout
    assert (copy / "scale" / "config.pbtxt").read_bytes() == before
    assert callers.wrong == []


def test_a_configuration_for_another_machine_lies_beside_the_one_that_serves(copy):
    """Which stays as it is; the reason is one line of comment."""
    before = (copy / "scale" / "config.pbtxt").read_bytes()
    setting = Setting(instances=4, threads=1, batch=8, delay_us=0)
    done = configure.write_beside(
        "scale", "gpu", lambda config: space.applied(config, setting, kind="KIND_GPU"), reason="x\ny", repository=copy
    )
    assert done.path == copy / "scale" / "configs" / "gpu.pbtxt"
    assert done.path.read_text().startswith("# modelport tune: x y\n")
    assert space.present(configs.read(done.path), cores=2) == setting
    assert (copy / "scale" / "config.pbtxt").read_bytes() == before
    assert not list(Path(copy / "scale" / "configs").glob("*.new"))


def test_the_benchmark_against_a_sweep_in_a_small_space(root, data, tmp_path):
    """A model without a batch axis: instances and threads only. Tuner, sweep and the rounds of both are in the file."""
    x = np.ones((4, 3), np.float32)
    onnx.save(fixed(), tmp_path / "fixed.onnx")
    export(tmp_path / "fixed.onnx", name="fixed", repository=tmp_path / "r", example_inputs={"x": x}, max_batch_size=0)
    command = [sys.executable, "benchmarks/tuning.py", "--quick", "--repository", tmp_path / "r", "--models", "fixed"]
    command += ["--rounds", "1", "--concurrency", "2", "--output", tmp_path / "t.json"]
    env = {**os.environ, "XDG_DATA_HOME": str(data)}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "t.json").read_text())
    stages = [row["stage"] for row in written["rows"]]
    groups = [(row["setting"]["instances"], row["setting"]["threads"]) for row in written["rows"]]
    assert set(stages) == {"explore", "sweep", "again"}
    assert len({g for g, stage in zip(groups, stages, strict=True) if stage == "sweep"}) == stages.count("sweep")
    (model,) = written["models"]
    assert model["tuner_runs"] == stages.count("explore") and model["sweep_runs"] == stages.count("sweep")
    assert len(model["ratios"]) == 1 and model["ratios"][0] > 0
    assert written["machine"]["cores"] and written["perf_analyzer"] and "of the sweep's best" in done.stdout


def fixed():
    """y = 2 * x for four rows, no more and no less."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 3]) for name in ("x", "y")]
    weight = helper.make_tensor("factor", TensorProto.FLOAT, [], [2.0])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "g", values[:1], values[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
