"""Versions whose answers tell which version they are, callers that watch every answer, and a server that is known."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.client import Client
from modelport.errors import ModelportError
from modelport.lifecycle import trial
from modelport.repository import config as configs
from modelport.repository import journal
from modelport.repository import manifest as manifests
from modelport.repository.manifest import Manifest
from modelport.repository.publish import Published, publish, staged
from modelport.server import EmbeddedServer, connection, shared_memory, stubs
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.tolerance import Tolerance

FREE = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
GOLDEN_ROWS = 8


def spec_of(name: str, *, batch: int = 8) -> ModelSpec:
    pair = TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(2,))
    answer = TensorSpec(name="y", dtype=dtype_of("FP32"), dims=(2,))
    return ModelSpec(name=name, inputs=(pair,), outputs=(answer,), max_batch_size=batch)


def telling(value: float, *, operator: str = "Concat") -> onnx.ModelProto:
    """y = [value, x0] for each row; `operator` may be one that no runtime knows."""
    parts = {"column": np.array([0], np.int64), "zero": np.array([0], np.float32)}
    parts["value"] = np.array([value], np.float32)
    nodes = [
        helper.make_node("Gather", ["x", "column"], ["first"], axis=1),
        helper.make_node("Mul", ["first", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "value"], ["who"]),
        helper.make_node(operator, ["who", "first"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "telling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(array, name) for name, array in parts.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


PYTHON = """
import os, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            {execute}
            y = np.stack([np.full(len(x), {value}, np.float32), x[:, 0]], axis=1)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", y)]))
        return answers
"""


class Shelf:
    """A repository to publish into."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(
        self,
        name: str,
        *,
        value: float | None = None,
        golden: float | None = None,
        operator: str = "Concat",
        python: Mapping[str, str] | None = None,
        size_mb: float = 0,
        labels: Sequence[str] = (),
        asked: Sequence[str] = (),
        batch: int = 8,
        candidate: bool = False,
        **options: Any,
    ) -> Published:
        """The next version; it answers with its number, or `value`.

        Its evidence says `golden` where that is given. `python` makes it a Python model with these bodies.
        """
        folder = self.root / name
        number = 1 + max((int(p.name) for p in folder.glob("[1-9]*")), default=0) if folder.is_dir() else 1
        value = number if value is None else value
        spec = spec_of(name, batch=batch)
        kind = {"backend": "python", "filename": "model.py"} if python is not None else {}
        labelled = {"label_files": {"y": "y_labels.txt"}} if labels else {}
        config = configs.build(
            spec, **{"backend": "onnxruntime", "filename": "model.onnx", **kind, **labelled, **options}, versions=[]
        )

        def finish(staging: Path, version: int) -> None:
            known = Manifest(
                spec=spec,
                version=version,
                format="onnx",
                backend=config.backend,
                framework="by hand",
                created="2026-01-02T03:04:05+00:00",
                files=manifests.records(staging),
                asked=tuple(asked),
            )
            manifests.write(staging, known)

        with staged(self.root, name) as staging:
            if python is None:
                onnx.save(telling(value, operator=operator), staging / "model.onnx")
            else:
                bodies = {"initialize": "pass", "execute": "pass", **python}
                (staging / "model.py").write_text(PYTHON.format(value=value, **bodies))
                (staging / "__pycache__").touch()
            if size_mb:
                (staging / "ballast.bin").write_bytes(bytes(int(size_mb * 2**20)))
            evidences.write(staging, *proof(value if golden is None else golden))
            return publish(
                self.root,
                staging,
                config,
                finish=finish,
                labels={"y_labels.txt": labels} if labels else None,
                asked=asked,
                candidate=candidate,
            )

    def named(self, name: str) -> tuple[int, ...]:
        """The versions that its `config.pbtxt` names."""
        return configs.versions_of(configs.read(self.root / name / "config.pbtxt"))


def proof(value: float) -> tuple[Evidence, Golden]:
    x = np.random.default_rng(0).random((GOLDEN_ROWS, 2), dtype=np.float32)
    evidence = Evidence(
        reference="by hand",
        batched=True,
        samples=GOLDEN_ROWS,
        tolerances={"y": Tolerance(kind="fixed", max_abs=1e-6)},
        comparisons={},
    )
    return evidence, Golden(inputs={"x": x}, outputs={"y": right(x, value)})


def right(x: np.ndarray, value: float) -> np.ndarray:
    return np.stack([np.full(len(x), value, np.float32), x[:, 0]], axis=1)


@dataclass(frozen=True)
class Answered:
    """One request: when it was sent and answered, for which version it asked, and who answered."""

    sent: float
    came: float
    protocol: str
    pinned: int | None
    value: float | None
    error: str = ""


@dataclass(frozen=True)
class Switch:
    """When a change of the serving version began, and when its proof did: from then on only the version may answer."""

    began: float
    proved: float
    version: int


class Moments:
    """When each step of a promotion or a rollback began: its `report`."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, str]] = []

    def __call__(self, text: str) -> None:
        self.steps.append((time.monotonic(), text))

    def switch(self, version: int) -> Switch:
        """The change to the version."""
        [began] = [at for at, text in self.steps if text == f"switching to version {version}"]
        [proved] = [at for at, text in self.steps if text == f"asking for version {version} by its number and without"]
        return Switch(began, proved, version)


@dataclass
class Callers:
    """Clients that ask all the time: two protocols, with and without a version; every answer is kept."""

    server: Any
    model: str
    pinned: int | None = 1
    pause_s: float = 0.003
    answers: list[Answered] = field(default_factory=list)

    def __enter__(self) -> Callers:
        self._stop = threading.Event()
        urls = [self.server.http_url, self.server.grpc_url]
        jobs = [(url, None) for url in urls] + [(url, self.pinned) for url in urls]
        self._threads = [threading.Thread(target=self._ask, args=(*job, n), daemon=True) for n, job in enumerate(jobs)]
        for thread in self._threads:
            thread.start()
        self.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def wait(self, count: int) -> None:
        """Until so many more requests were answered."""
        goal, deadline = len(self.answers) + count, time.monotonic() + 30
        while len(self.answers) < goal:
            assert time.monotonic() < deadline, "nobody answers"
            time.sleep(0.005)

    def violations(self, allowed: Sequence[float], *, switches: Sequence[Switch] = ()) -> list[str]:
        """What must not have been.

        Args:
            allowed: Who may answer a request that names no version.
            switches: After each of them, only its version may, until the next one begins.
        """
        found = []
        for one in list(self.answers):
            who = f"{one.protocol} {'unversioned' if one.pinned is None else f'for version {one.pinned}'}"
            due = [switch.version for switch in switches if one.sent >= switch.proved]
            between = any(switch.began <= one.came and one.sent < switch.proved for switch in switches)
            if one.error:
                found.append(f"{who}: {one.error}")
            elif one.value not in (allowed if one.pinned is None else [one.pinned]):
                found.append(f"{who}: answered by {one.value}")
            elif one.pinned is None and due and not between and one.value != due[-1]:
                found.append(f"{who}: answered by {one.value} after {due[-1]} was proved to serve")
        return found

    def _ask(self, url: str, pinned: int | None, seed: int) -> None:
        random = np.random.default_rng(seed)
        with Client(url, timeout_s=10, retries=0) as client:
            while not self._stop.is_set():
                x = random.random((int(random.integers(1, 4)), 2), dtype=np.float32)
                value, error, sent = None, "", time.monotonic()
                try:
                    y = client.infer(self.model, version=pinned, inputs={"x": x})["y"]
                    value = float(y[0, 0])
                    if not np.array_equal(y, right(x, value)):
                        error = f"a wrong answer: {y.tolist()} to {x.tolist()}"
                except ModelportError as exc:
                    error = f"{type(exc).__name__} {exc.what}: {exc.why}"
                came = time.monotonic()
                self.answers.append(Answered(sent, came, url[:4], pinned, value, error))
                time.sleep(self.pause_s)


@dataclass(frozen=True)
class Footprint:
    """What a server holds."""

    rss_bytes: int
    descriptors: int
    children: int
    shared_memory: int

    @classmethod
    def of(cls, server: Any) -> Footprint:
        process = psutil.Process(server.handle.server_pid)
        return cls(
            rss_bytes=process.memory_info().rss,
            descriptors=process.num_fds(),
            children=len(process.children(recursive=True)),
            shared_memory=len(shared_memory.entries(server.handle.shm_prefix)),
        )


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The repository of this test module."""
    root = tmp_path_factory.mktemp("lifecycle") / "model_repository"
    root.mkdir()
    return Shelf(root)


@pytest.fixture(scope="module")
def isolated() -> bool:
    """Whether the module's `server` gives ONNX models processes of their own; modules that end or count them say so."""
    return False


@pytest.fixture(scope="module")
def server(shelf: Shelf, isolated: bool) -> Iterator[EmbeddedServer]:
    """A server of the shelf that commands find; it starts without models."""
    with EmbeddedServer(shelf.root, models=(), isolated=isolated, **FREE) as running:
        connection.write(running.state_dir, running.handle)
        yield running
        connection.remove(running.state_dir, running.handle)


@pytest.fixture
def net(shelf: Shelf, server: EmbeddedServer) -> Iterator[str]:
    """The name of a model of this test alone, whose version 1 is published and served."""
    name = f"net{len(list(shelf.root.iterdir()))}"
    shelf.publish(name)
    server.load(name)
    yield name
    if server.running:
        server.unload(name)


@pytest.fixture
def make_onnx() -> Callable[[float, Path], None]:
    """`make_onnx(2, path)`: a file whose model answers with this number."""
    return lambda value, path: onnx.save(telling(value), path)


@pytest.fixture
def make_spec() -> Callable[..., ModelSpec]:
    """`make_spec(name)`: the tensors of all these models."""
    return spec_of


@pytest.fixture
def ask() -> Callable[..., float]:
    """`ask(server, model, version)`: which version answers."""

    def act(server: Any, model: str, version: int | None = None) -> float:
        x = np.array([[0.5, 0.25]], np.float32)
        with Client(server.http_url, timeout_s=10, retries=0) as client:
            return float(client.infer(model, version=version, inputs={"x": x})["y"][0, 0])

    return act


@pytest.fixture
def command(shelf: Shelf) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`command("promote", "net", before=[...])`: runs the program on the shelf, to its end."""

    def act(*words: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        line = [*before, sys.executable, "-m", "modelport", *words, "--repository", str(shelf.root)]
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)

    return act


@pytest.fixture
def untouched(shelf: Shelf) -> Callable[..., None]:
    """`untouched(server, model, versions)`: these are loaded and named, and nothing is left of any operation."""

    def check(server: Any, model: str, versions: tuple[int, ...]) -> None:
        assert server.ready_versions(model) == shelf.named(model) == versions
        assert journal.pending(shelf.root) == journal.to_load(shelf.root) == []
        assert trial.left(server.handle) == []
        assert [s for s in server.index() if s.model.endswith(".trial") and s.state not in ("", "UNAVAILABLE")] == []
        assert [stub.model for stub in stubs.find(server.handle) if stub.model.endswith(".trial")] == []

    return check


@pytest.fixture
def callers() -> type[Callers]:
    """`with callers(server, model) as load`: four clients; see `Callers`."""
    return Callers


@pytest.fixture
def moments() -> type[Moments]:
    """`promote(..., report=(seen := moments()))`, then `seen.switch(2)`: when the switch to version 2 was."""
    return Moments


@pytest.fixture
def footprint() -> Callable[..., Footprint]:
    """`footprint(server)`: see `Footprint`."""
    return Footprint.of
