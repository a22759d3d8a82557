"""Prometheus itself, over a service that really runs."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from modelport._process import wait_until

START_S = 20.0
Sample = tuple[Mapping[str, str], float]


class Prometheus:
    """A Prometheus on loopback, with its data in a scratch folder.

    Args:
        config: The folder or file of its configuration; the rules are where that says.
        scratch: For data and log.
        port: Where it listens.
    """

    def __init__(self, config: Path, scratch: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = scratch / "prometheus.log"
        file = config / "prometheus.yml" if config.is_dir() else config
        command = [
            *("prometheus", f"--config.file={file}", f"--storage.tsdb.path={scratch / 'data'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle", "--log.level=warn"),
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

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
    """`prometheus(config)`: a running Prometheus with this configuration, a folder or a file; see `Prometheus`."""
    require("prometheus")
    running: list[Prometheus] = []

    def start(config: Path) -> Prometheus:
        scratch = tmp_path_factory.mktemp("prometheus")
        made = Prometheus(config, scratch, _free_port())
        running.append(made)
        ended = wait_until(
            lambda: made.answers() or made.process.poll() is not None, timeout_s=START_S, interval_s=0.05
        )
        assert ended and made.process.poll() is None, made.log.read_text()
        return made

    yield start
    for one in running:
        one.stop()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
