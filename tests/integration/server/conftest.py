"""Models whose answers tell their version, a server for them, and what a server holds: stubs, memory, descriptors."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from modelport._process import wait_until
from modelport.server import EmbeddedServer, shared_memory

FREE = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
CONFIG = """
name: "{name}"
backend: "{backend}"
max_batch_size: 8
input {{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }}
output {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] {output} }}
instance_group {{ kind: KIND_CPU count: {instances} }}
version_policy {{ specific {{ versions: {versions} }} }}
"""


class Models:
    """Writes models that answer x + version."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def version(self, name: str, number: int, *, answers: int | None = None, root: Path | None = None) -> Path:
        """An ONNX version; `answers` in place of its number. Gives its folder."""
        value = helper.make_tensor("c", TensorProto.FLOAT, [1], [float(number if answers is None else answers)])
        nodes = [helper.make_node("Constant", [], ["c"], value=value), helper.make_node("Add", ["x", "c"], ["y"])]
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1]) for n in "xy")
        model = helper.make_model(
            helper.make_graph(nodes, "graph", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        )
        folder = (root or self.root) / name / str(number)
        folder.mkdir(parents=True)
        onnx.save(model, folder / "model.onnx")
        return folder

    def crash(self, name: str, number: int = 1, *, loading: bool) -> None:
        """An ONNX model that ends its process, while it is loaded or when it is asked for 1: a quotient too large."""
        folder = self.version(name, number)
        model = onnx.load(folder / "model.onnx")
        least, minus = (helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("l", -(2**63)), ("m", -1)))
        del model.graph.node[:]
        model.graph.initializer.extend([least, minus])
        nodes = [("Cast", ["x"], ["i"], {"to": TensorProto.INT64}), ("Mul", ["i", "m"], ["d"], {})]
        nodes += [("Div", ["l", "m" if loading else "d"], ["q"], {}), ("Cast", ["q"], ["c"], {"to": TensorProto.FLOAT})]
        nodes += [("Add", ["x", "c"], ["y"], {})]
        model.graph.node.extend(helper.make_node(op, ins, outs, **more) for op, ins, outs, more in nodes)
        onnx.save(model, folder / "model.onnx")
        self.config(name, [number])

    def python(self, name: str, number: int, *, initialize: str = "pass", execute: str = "pass") -> Path:
        """A Python version that does something before it starts and before it answers."""
        folder = self.root / name / str(number)
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(
            "import os, signal, time\nimport triton_python_backend_utils as pb_utils\n\nclass TritonPythonModel:\n"
            f"    def initialize(self, args):\n        {initialize}\n    def execute(self, requests):\n"
            "        x = pb_utils.get_input_tensor_by_name(requests[0], 'x').as_numpy()\n"
            f"        {execute}\n"
            f"        return [pb_utils.InferenceResponse([pb_utils.Tensor('y', x + {number})]) for r in requests]\n"
        )
        return folder

    def config(
        self,
        name: str,
        versions: Sequence[int],
        *,
        instances: int = 1,
        backend: str = "onnxruntime",
        output: str = "",
        before: str = "",
        root: Path | None = None,
    ) -> None:
        """Replace a model's configuration in one step."""
        text = before + CONFIG.format(
            name=name, backend=backend, instances=instances, versions=list(versions), output=output
        )
        folder = (root or self.root) / name
        folder.mkdir(parents=True, exist_ok=True)
        new = self.root.parent / f"new-{time.monotonic_ns()}"
        new.write_text(text)
        new.replace(folder / "config.pbtxt")

    def put(self, name: str, versions: Sequence[int] = (1,), *, serve: Sequence[int] = (), instances: int = 1) -> None:
        """A whole model; `serve` are the versions that its policy names, by default all."""
        for number in versions:
            self.version(name, number)
        self.config(name, serve or versions, instances=instances)


@dataclass(frozen=True)
class Holding:
    """What a server holds: none of it may grow."""

    stubs: int
    shared_memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, server: EmbeddedServer) -> Holding:
        """Now; processes that have ended and are kept count as stubs."""
        process = psutil.Process(server.handle.server_pid)
        return cls(
            stubs=len(process.children()),
            shared_memory=len(shared_memory.entries(server.handle.shm_prefix)),
            descriptors=process.num_fds(),
            threads=process.num_threads(),
        )

    def fits(self, wanted: Holding) -> bool:
        """Whether this is no more than wanted; descriptors and threads come and go with connections."""
        return (self.stubs, self.shared_memory) == (wanted.stubs, wanted.shared_memory) and (
            self.descriptors <= wanted.descriptors + 6 and self.threads <= wanted.threads + 4
        )


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """An empty repository."""
    return Models(tmp_path / "repository")


@pytest.fixture
def serve(models: Models) -> Iterator[Callable[..., EmbeddedServer]]:
    """`serve(**options)`: a started server for `models`; it leaves nothing behind."""
    started: list[EmbeddedServer] = []

    def start(**options: Any) -> EmbeddedServer:
        server = EmbeddedServer(models.root, **(FREE | options))
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop(grace_s=8)
        assert server._handle is None or not shared_memory.entries(server._handle.shm_prefix)


@pytest.fixture
def ask() -> Callable[..., float | str]:
    """`ask(server, model, x, version=None)`: the answer to one number, or the error's text."""
    return _ask


def _ask(
    server: EmbeddedServer, model: str, x: float = 1.0, *, version: int | None = None, timeout_s: float = 30.0
) -> Any:
    connection = http.client.HTTPConnection(server.http_url.partition("://")[2], timeout=timeout_s)
    try:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [x]}]}
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        connection.request("POST", f"{path}/infer", body=json.dumps(body))
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return answer["outputs"][0]["data"][0] if "outputs" in answer else answer["error"]


@pytest.fixture
def holding() -> Callable[[EmbeddedServer], Holding]:
    """`holding(server)`: what it holds now."""
    return Holding.of


@pytest.fixture
def settled() -> Callable[[EmbeddedServer, Holding], Holding]:
    """`settled(server, wanted)`: what it holds once that is no more than wanted, or after 15 s."""

    def wait(server: EmbeddedServer, wanted: Holding) -> Holding:
        wait_until(lambda: Holding.of(server).fits(wanted), timeout_s=15.0, interval_s=0.1)
        return Holding.of(server)

    return wait


@pytest.fixture
def stub_of() -> Callable[..., int]:
    """`stub_of(server, model, version, instance)`: the process number of a stub."""

    def find(server: EmbeddedServer, model: str, version: int = 1, instance: int = 0) -> int:
        place = str(server.handle.repository / model / str(version)) + os.sep
        (pid,) = (
            child.pid
            for child in psutil.Process(server.handle.server_pid).children()
            if child.status() != psutil.STATUS_ZOMBIE
            and any(word.startswith(place) for word in child.cmdline())
            and f"{model}_0_{instance}" in child.cmdline()
        )
        return pid

    return find
