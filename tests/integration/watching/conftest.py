"""`modelport serve --gateway` over a small model in two versions, and Prometheus itself to watch it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2, service_pb2_grpc

import modelport
from modelport._process import wait_until
from modelport.client import Client
from modelport.errors import ModelportError

START_S = 20.0
PORTS = [word for name in ("http", "grpc", "metrics", "gateway") for word in (f"--{name}-port", "0")]
X = np.array([[0.5, 0.25]], np.float32)
FAILING = X + 7  # no index of the table that `net` looks into
Sample = tuple[Mapping[str, str], float]


class Prometheus:
    """A Prometheus on loopback, with its data in a scratch folder. It asks nobody until it is given a configuration.

    Args:
        scratch: For configuration, data and log.
        port: Where it listens.
    """

    def __init__(self, scratch: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = scratch / "prometheus.log"
        self._config = scratch / "config"
        self._config.mkdir()
        (self._config / "prometheus.yml").write_text("")
        command = [
            *(
                "prometheus",
                f"--config.file={self._config / 'prometheus.yml'}",
                f"--storage.tsdb.path={scratch / 'data'}",
            ),
            *(f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle", "--log.level=warn"),
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def take(self, config: Path) -> None:
        """Take the configuration, with its rules, from a folder."""
        shutil.copytree(config, self._config, dirs_exist_ok=True)
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/reload", method="POST"), timeout=10):
            pass

    def ask(self, path: str, **query: str) -> Any:
        """What a page of its API answers: the content of `data`."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expression: str) -> list[Sample]:
        """Labels and value of each series that an expression gives now."""
        found = self.ask("query", query=expression)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def until(self, expression: str, *, timeout_s: float = 15.0) -> list[Sample]:
        """The same as soon as there is something."""
        assert wait_until(lambda: bool(self.query(expression)), timeout_s=timeout_s, interval_s=0.1), expression
        return self.query(expression)

    def targets(self) -> dict[str, str]:
        """Job to `up`, or to why it is not."""
        found = self.ask("targets", state="active")["activeTargets"]
        return {one["labels"]["job"]: one["lastError"] or one["health"] for one in found}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with `name`, `type`, `health`, `lastError`; of alerts also `state` and `alerts`."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def answers(self) -> bool:
        """Whether it is ready to be asked."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[..., None]
) -> Iterator[Callable[[Path], Prometheus]]:
    """`prometheus(folder)`: a Prometheus that has taken the configuration in it; see `Prometheus`.

    After its start it takes five seconds until it asks anybody: name it before `service`, which starts meanwhile.
    """
    require("prometheus")
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), _free_port())

    def take(config: Path) -> Prometheus:
        running.take(config)
        return running

    try:
        ended = wait_until(
            lambda: running.answers() or running.process.poll() is not None, timeout_s=START_S, interval_s=0.05
        )
        assert ended and running.process.poll() is None, running.log.read_text()
        yield take
    finally:
        running.stop()


class Service:
    """`modelport serve --gateway` without TLS, as a process of its own, on free ports.

    Args:
        root: The repository.
        words: Further options.
    """

    def __init__(self, root: Path, *words: str) -> None:
        self.root = root
        command = [sys.executable, "-m", "modelport", "serve", "--repository", str(root), "--gateway", "--plain"]
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            [*command, *PORTS, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=lambda: self._lines.extend(self.process.stdout), daemon=True).start()
        assert wait_until(lambda: any("Ctrl-C" in line for line in self._lines), timeout_s=60), self._lines

    def url(self, name: str) -> str:
        """Of `HTTP`, `gRPC`, `metrics`, `gateway`; `health` with the page."""
        found = [re.search(rf"^ +{name} +(\S+)", line) for line in self._lines]
        return next(match[1] for match in found if match)

    def page(self, name: str) -> str:
        """A page of the supervisor."""
        with urllib.request.urlopen(self.url("health").replace("readyz", name), timeout=5) as answer:
            return str(answer.read().decode())

    def ask(
        self,
        token: str,
        *,
        model: str = "net",
        version: int | None = None,
        grpc: bool = False,
        n: int = 1,
        failing: bool = False,
    ) -> int:
        """So many inferences through the gateway, or such as the model fails at; how many were answered."""
        url = self.url("gateway")
        answered = 0
        with Client(url.replace("http", "grpc", 1) if grpc else url, token=token, retries=0) as client:
            for _ in range(n):
                with contextlib.suppress(ModelportError):
                    client.infer(model, version=version, inputs={"x": FAILING if failing else X})
                    answered += 1
        return answered

    def ask_wrong(self, token: str, *, model: str = "net") -> None:
        """An inference without inputs, over HTTP and over gRPC: the gateway refuses it. A client would not send it."""
        url, bearer = self.url("gateway"), f"Bearer {token}"
        wrong = urllib.request.Request(
            f"{url}/v2/models/{model}/infer", data=b'{"inputs":[]}', headers={"authorization": bearer}
        )
        with pytest.raises(urllib.error.HTTPError), urllib.request.urlopen(wrong, timeout=10):
            pass
        with grpc.insecure_channel(urllib.parse.urlsplit(url).netloc) as channel, pytest.raises(grpc.RpcError):
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
                service_pb2.ModelInferRequest(model_name=model), metadata=(("authorization", bearer),), timeout=10
            )

    def until(self, token: str) -> None:
        """Until the gateway knows a key."""
        assert wait_until(lambda: self.ask(token) == 1, timeout_s=10, interval_s=0.1)

    def stop(self) -> None:
        """End it, as Ctrl-C does."""
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, make_graph: Callable[..., onnx.GraphProto]) -> Iterator[Service]:
    """A service with `net`, of which version 2 serves and version 1 is loaded; see `Service`.

    It adds what stands in a table of one line at the input's whole number, and fails where there is none.
    """
    scratch = tmp_path_factory.mktemp("watching")
    root, file = scratch / "model_repository", scratch / "net.onnx"
    table = helper.make_tensor("table", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Constant", [], ["table"], value=table),
        helper.make_node("Cast", ["x"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["found"]),
        helper.make_node("Add", ["x", "found"], ["y"]),
    ]
    graph = make_graph(nodes, "x:FLOAT[n,2]", "y:FLOAT[n,2]")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    for _ in range(2):
        modelport.export(file, name="net", repository=root, example_inputs={"x": np.repeat(X, 4, axis=0)})
    config = root / "net" / "config.pbtxt"
    config.write_text(config.read_text().replace("versions: 1\n", "versions: [ 1, 2 ]\n"))
    running = Service(root, "--probe-interval", "0.5")
    yield running
    running.stop()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
