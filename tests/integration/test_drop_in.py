"""A version folder is copied into the repository of `modelport serve` while a caller asks the old version all the time.

It is served only when it is complete and checked, and its model's policy says so; a broken one is reported with the
reason; and not one request fails meanwhile.
"""

from __future__ import annotations

import http.client
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from modelport.commands.export import export
from modelport.errors import ManifestError
from modelport.repository import drops, events, record, switch
from modelport.repository import manifest as manifests
from modelport.repository.events import Event
from modelport.repository.layout import state_folder
from modelport.repository.versions import serving_version
from modelport.server import connection

TIMEOUT_S = 90.0
STARTS_S = 60.0
NEVER = 99.0  # what a version answers that must never be served


def answering(value: float, *, name: str = "x", dtype: int = TensorProto.FLOAT, size: int = 1) -> onnx.ModelProto:
    """`y = 0 * x + value`, or a model with another input."""
    constants = [helper.make_tensor(word, dtype, [1], [number]) for word, number in (("zero", 0.0), ("value", value))]
    nodes = [helper.make_node("Mul", [name, "zero"], ["nothing"]), helper.make_node("Add", ["nothing", "value"], ["y"])]
    tensors = [helper.make_tensor_value_info(word, dtype, ["batch", size]) for word in (name, "y")]
    graph = helper.make_graph(nodes, "answering", tensors[:1], tensors[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def content(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())


class Caller:
    """Asks for the version that serves, over and over, and keeps every answer and every failure."""

    def __init__(self, url: str, model: str) -> None:
        self.answers: list[float] = []
        self.failures: list[str] = []
        self._address, self._model = url.partition("://")[2], model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}]}
        line = http.client.HTTPConnection(self._address, timeout=10)
        while not self._stop.wait(0.02):
            try:
                line.request("POST", f"/v2/models/{self._model}/infer", body=json.dumps(body))
                response = line.getresponse()
                text = response.read()
                if response.status == 200:
                    self.answers.append(json.loads(text)["outputs"][0]["data"][0])
                else:
                    self.failures.append(f"{response.status} {text[:200]!r}")
            except (OSError, http.client.HTTPException) as exc:
                self.failures.append(repr(exc))
                line.close()
        line.close()

    def versions(self) -> list[float]:
        """The versions that answered, in the order in which they did; none of the requests has failed."""
        assert self.failures == []
        assert self.answers
        return [a for i, a in enumerate(self.answers) if i == 0 or a != self.answers[i - 1]]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)


class Service:
    """A running `modelport serve`, over a repository in which models answer with their version."""

    def __init__(self, repository: Path, settle_s: float) -> None:
        self.repository = repository
        self.url = self.health = ""
        command = [
            sys.executable,
            "-m",
            "modelport",
            "serve",
            "--repository",
            str(repository),
            "--settle",
            str(settle_s),
        ]
        command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--log-format", "json"]
        self.output = (repository.parent / "serve.log").open("w+")
        self.process = subprocess.Popen(command, stdout=self.output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + STARTS_S
        while time.monotonic() < deadline and "Ctrl-C stops it" not in self.said():
            assert self.process.poll() is None, self.said()
            time.sleep(0.1)
        for line in self.said().splitlines():
            words = line.split()
            if words[:1] == ["HTTP"]:
                self.url = words[1]
            elif words[:1] == ["health"]:
                self.health = words[1].removesuffix("/readyz")

    def said(self) -> str:
        return Path(self.output.name).read_text()

    def events(self, model: str) -> list[Event]:
        """The events of a model about what was copied in, and about changes of its serving version."""
        kinds = ("drop", "promot", "set_aside", "rolled", "version_changed", "watch")
        return [e for e in events.latest(self.repository, 500) if e.model == model and e.kind.startswith(kinds)]

    def wait(self, model: str, *kinds: str) -> list[Event]:
        """Until events of these kinds, in any order, and no others have come."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and len(self.events(model)) < len(kinds):
            time.sleep(0.1)
        found = self.events(model)
        assert sorted(e.kind for e in found) == sorted(kinds), found
        return found

    def loaded(self, model: str) -> tuple[int, ...]:
        handle = connection.find(self.repository)
        assert handle is not None
        return handle.ready_versions(model)

    def metrics(self, name: str) -> list[str]:
        with urllib.request.urlopen(f"{self.health}/metrics", timeout=10) as response:
            return [line for line in response.read().decode().splitlines() if line.startswith(name)]

    def metric(self, name: str) -> float:
        return float(self.metrics(name)[0].split()[-1])

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        finally:
            self.process.kill()
            self.output.close()


def repository_at(root: Path, *models: str, on_drop: str = "candidate") -> Path:
    """A repository with these models, each with one version that answers 1."""
    repository = root / "model_repository"
    (root / "model.onnx").write_bytes(content(answering(1.0)))
    x = np.linspace(-1, 1, 8, dtype=np.float32)[:, np.newaxis]
    for name in models:
        export(root / "model.onnx", name=name, repository=repository, example_inputs={"x": x})
        config, known = switch.read(repository, name)
        switch.write(repository, name, config, record.Record(**{**vars(known), "on_drop": on_drop}))
    return repository


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Served: `calm`, `eager` (what is dropped is promoted), `besieged`, and others that are waiting for drops."""
    root = tmp_path_factory.mktemp("drop_in")
    repository = repository_at(root, "calm", "besieged", "patient")
    repository_at(root, "eager", on_drop="promote")
    running = Service(repository, settle_s=2.0)
    server = psutil.Process(connection.find(repository).server_pid)
    yield running
    assert server.is_running(), "the server is the same from the first drop to the last"
    assert running.stop() == 0, running.said()


@pytest.fixture
def calling(service: Service) -> Iterator[Callable[[str], Caller]]:
    """`calling("calm")`: a caller that asks until the end of the test."""
    started: list[Caller] = []

    def act(model: str, url: str = "") -> Caller:
        started.append(Caller(url or service.url, model))
        return started[-1]

    yield act
    for caller in started:
        caller.stop()


def copy_slowly(folder: Path, files: dict[str, bytes], *, seconds: float) -> None:
    """Write files one after the other, each in two halves, with a gap after each half."""
    folder.mkdir()
    gap = seconds / (2 * len(files))
    for name, data in files.items():
        half = len(data) // 2
        (folder / name).write_bytes(data[:half])
        time.sleep(gap)
        with (folder / name).open("ab") as file:
            file.write(data[half:])
        time.sleep(gap)


FILES = {"notes.txt": b"trained on Tuesday", "readme.md": b"a model", "model.onnx": content(answering(2.0))}


def test_a_slow_drop_is_adopted_when_it_is_complete_and_takes_no_traffic(service, calling):
    caller, folder = calling("calm"), service.repository / "calm" / "2"
    copy_slowly(folder, FILES, seconds=6.0)
    assert service.events("calm") == [] and not (folder / "manifest.json").exists(), "not before it is complete"
    (event,) = service.wait("calm", "dropped")
    assert event.version == 2 and manifests.read(folder).version == 2
    assert service.loaded("calm") == (1,) and serving_version(service.repository, "calm") == 1
    time.sleep(1.0)
    assert caller.versions() == [1.0]
    assert '"kind": "dropped"' in service.said(), "it is in the log"


def test_a_slow_drop_is_promoted_where_the_policy_says_so_and_a_broken_one_after_it_is_not(service, calling):
    caller, model = calling("eager"), service.repository / "eager"
    copy_slowly(model / "2", FILES, seconds=3.0)
    assert service.events("eager") == [] and caller.versions() == [1.0]
    service.wait("eager", "dropped", "promoted")
    time.sleep(0.5)
    assert caller.versions() == [1.0, 2.0], "one switch, and no way back"
    copy_slowly(model / "3", {"model.onnx": content(answering(NEVER))[:-15]}, seconds=1.0)
    service.wait("eager", "dropped", "promoted", "drop_refused")
    assert serving_version(service.repository, "eager") == 2 and 3 not in service.loaded("eager")
    time.sleep(0.5)
    assert caller.versions() == [1.0, 2.0]


def outside() -> bytes:
    model = answering(NEVER)
    tensor = model.graph.initializer[1]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../1/model.onnx"
    return content(model)


def crashing() -> bytes:
    """What is computed while it is loaded is an integer division that ends the process."""
    constants = {"least": -(2**63), "minus": -1}
    nodes = [
        helper.make_node("Div", list(constants), ["whole"]),
        helper.make_node("Cast", ["whole"], ["value"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "value"], ["y"]),
    ]
    model = answering(NEVER)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in constants.items())
    return content(model)


class Evil:
    """A pickle that would leave a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_broken_and_hostile_drops_are_reported_with_the_reason_and_never_served(service, calling, tmp_path):
    caller, model = calling("besieged"), service.repository / "besieged"
    mark = tmp_path / "it ran"
    broken: dict[int, tuple[bytes, str]] = {
        2: (content(answering(NEVER))[:-15], "cut off"),
        3: (np.random.default_rng(0).bytes(4000), "no known kind"),
        4: (content(answering(NEVER, name="image")), "expected are the inputs x"),
        5: (content(answering(NEVER, dtype=TensorProto.DOUBLE)), "x: DOUBLE"),
        6: (content(answering(NEVER, size=3)), "x: FLOAT[batch,3]"),
        7: (outside(), "plain name inside"),
        8: (pickle.dumps(Evil(mark)), "pickle"),
        10: (crashing(), "ended with signal"),
    }
    refused = service.metric('modelport_drops_total{result="refused"}')
    for number, (data, _) in broken.items():
        (model / str(number)).mkdir()
        (model / str(number) / "model.onnx").write_bytes(data)
    (model / "9").mkdir()
    (model / "9" / "model.onnx").symlink_to(model / "1" / "model.onnx")
    (model / "-3").mkdir()
    (model / "12.tmp").mkdir()
    found = service.wait("besieged", "set_aside", *["drop_refused"] * 9)
    reasons = {event.version: event.text for event in found if event.kind == "drop_refused"}
    for number, (_, words) in {**broken, 9: (b"", "symbolic link")}.items():
        assert words in reasons[number], reasons[number]
        assert words in (drops.refusal(service.repository, "besieged", number) or "")
        with pytest.raises(ManifestError):
            manifests.read(model / str(number))
    listed = subprocess.run(
        [sys.executable, "-m", "modelport", "list", "--json", "--repository", str(service.repository)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    rows = {row["version"]: row for row in json.loads(listed.stdout) if row["model"] == "besieged"}
    assert {n for n, row in rows.items() if row["state"] == "broken"} == set(range(2, 11)), listed.stdout
    assert all(reasons[n].split(":")[0] in rows[n]["problem"] for n in range(2, 11))
    assert service.metric('modelport_drops_total{result="refused"}') == refused + 9
    told = service.metrics('modelport_drop_problem{model="besieged"')
    assert len(told) == 9 and all('result="refused"' in line for line in told)
    assert any('version="4"' in line and "expected are the inputs x" in line for line in told)
    assert service.loaded("besieged") == (1,) and not mark.exists()
    assert (state_folder(service.repository) / "set-aside" / "besieged" / "-3").is_dir() and (model / "12.tmp").is_dir()
    assert caller.versions() == [1.0]


def test_a_whole_model_that_is_copied_in_is_not_loaded_by_the_configuration_that_it_brings(service, tmp_path):
    """Not before it was checked; one that is code is refused, and nothing loads it from then on."""
    mark, waiting = tmp_path / "it ran", tmp_path / "code" / "1"
    waiting.mkdir(parents=True)
    (waiting / "model.py").write_text(f"open({str(mark)!r}, 'w').close()")
    config = (service.repository / "calm" / "config.pbtxt").read_text()
    config = config.replace('"calm"', '"code"').replace('"onnxruntime"', '"python"').replace("model.onnx", "model.py")
    (waiting.parent / "config.pbtxt").write_text(config)
    waiting.parent.rename(service.repository / "code")
    (event,) = service.wait("code", "drop_refused")
    assert "this is code" in event.text and serving_version(service.repository, "code") is None
    assert service.loaded("code") == () and not mark.exists()


def test_a_drop_whose_manifest_came_first_is_waited_for(service, calling):
    """rsync copies by name: the manifest comes before the model."""
    caller, model = calling("patient"), service.repository / "patient"
    old = {path.name: path.read_bytes() for path in sorted((model / "1").iterdir())}
    assert list(old).index("manifest.json") < list(old).index("model.onnx")
    (model / "2").mkdir()
    for name, data in old.items():
        if name == "model.onnx":
            time.sleep(3.0)  # longer than any folder must be quiet
            assert service.events("patient") == []
        temporary = model / "2" / f".{name}.x1Y2z3"
        temporary.write_bytes(data)
        time.sleep(0.2)
        temporary.rename(model / "2" / name)
    service.wait("patient", "dropped")
    manifest = manifests.read(model / "2")
    assert manifest.version == 2 and "version 1 of 'patient'" in manifest.facts["origin"]
    assert caller.versions() == [1.0]


@pytest.mark.soak
def test_a_drop_of_twenty_seconds_file_by_file(tmp_path):
    """Gaps of 8 s, where a folder must be quiet for 10 s: nothing happens before the end, and no request fails."""
    repository = repository_at(tmp_path, "m", on_drop="promote")
    running = Service(repository, settle_s=10.0)
    caller = Caller(running.url, "m")
    try:
        for number, data in ((2, content(answering(2.0))), (3, content(answering(NEVER))[:-15])):
            folder = repository / "m" / str(number)
            folder.mkdir()
            before = running.events("m")
            for name, part, gap in (
                ("notes.txt", b"x", 4.0),
                ("model.onnx", data[: len(data) // 3], 8.0),
                ("model.onnx", data[len(data) // 3 : -5], 8.0),
                ("model.onnx", data[-5:], 0.0),
            ):
                with (folder / name).open("ab") as file:
                    file.write(part)
                time.sleep(gap)
                assert running.events("m") == before
            done = time.monotonic()
            kinds = ("dropped", "promoted") if number == 2 else ("dropped", "promoted", "drop_refused")
            running.wait("m", *kinds)
            assert time.monotonic() - done >= 9.9
            time.sleep(2.0)
            assert serving_version(repository, "m") == 2 and caller.versions() == [1.0, 2.0]
    finally:
        caller.stop()
        code = running.stop()
    assert code == 0, running.said()
