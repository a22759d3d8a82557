"""The controller drives a Triton and an Envoy that somebody else starts, as in docker-compose.yml."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.client import Client
from modelport.errors import ModelportError, ServerError
from modelport.lifecycle import trial
from modelport.repository import config as configs

X = np.array([[0.5, 0.25]], np.float32)


@pytest.fixture(scope="module")
def token(composed: Any) -> str:
    """A key, made while the gateway runs."""
    return json.loads(composed.run("keys", "create", "--tenant", "acme", "--models", "*", "--json"))["token"]


@pytest.fixture
def client(composed: Any) -> Any:
    """`with client(token) as ask`: `ask()` tells which version answers through the gateway."""

    @contextlib.contextmanager
    def connected(token: str) -> Iterator[Any]:
        ca = composed.gateway_folder / "tls" / "ca.pem"
        with Client(composed.url, token=token, ca_file=ca, timeout_s=10, retries=0) as own:

            def act(version: int | None = None) -> float:
                return float(own.infer("net", version=version, inputs={"x": X})["y"][0, 0])

            yield act

    return connected


@pytest.fixture
def ask(client: Any, token: str) -> Iterator[Any]:
    """`ask()`: as above, with one key for all."""
    with client(token) as act:
        yield act


def answers(ask: Any, value: float) -> bool:
    try:
        return bool(ask() == value)
    except ModelportError:
        return False


def ready(composed: Any) -> int:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{composed.ports['health']}/readyz", timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code


class Load:
    """One caller who asks all the time; every failure is kept."""

    def __init__(self, ask: Any) -> None:
        self.failures: list[str] = []
        self.count = 0
        self._ask, self._end = ask, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._ask()
            except ModelportError as error:
                self.failures.append(f"{error.what}: {error.why}")
            self.count += 1
            time.sleep(0.005)


def test_a_request_passes_the_gateway_to_the_server_that_the_controller_filled(composed, ask):
    composed.until(lambda: answers(ask, 1.0))
    composed.until(lambda: ready(composed) == 200)
    assert composed.driven().ready_versions("net") == (1,)


def test_no_argument_list_of_ours_shows_the_secret(composed, ask):
    secret = composed.secret
    shown = Path(f"/proc/{composed.running['controller'].pid}/cmdline").read_text()
    assert "--server" in shown and secret and secret not in shown and secret not in json.dumps(composed.services)


def test_a_server_that_refuses_the_secret_or_has_another_repository_is_not_driven(composed, tmp_path):
    (tmp_path / "model_repository" / "other").mkdir(parents=True)
    with pytest.raises(ServerError, match="does not let itself be controlled") as caught:
        composed.driven(secret="another")
    assert composed.secret not in str(caught.value)
    with pytest.raises(ServerError, match="another model repository"):
        composed.driven(repository=tmp_path / "model_repository")


def test_a_version_is_promoted_and_taken_back_with_no_request_lost(composed, shelf, ask):
    shelf.publish("net", candidate=True)
    with Load(ask) as load:
        composed.run("promote", "net", "2")
        composed.until(lambda: answers(ask, 2.0), 5)
        composed.run("rollback", "net")
        composed.until(lambda: answers(ask, 1.0), 5)
    assert load.failures == [] and load.count > 20
    assert list((composed.state / "trial").iterdir()) == []


def test_a_version_that_does_not_answer_as_its_source_did_never_serves(composed, shelf, ask):
    version = shelf.publish("net", value=5, golden=6, candidate=True).version
    assert "serves on" in composed.run("promote", f"net/{version}", fails=True)
    assert ask() == 1.0


def test_a_server_that_does_not_see_what_is_tried_is_told_of(composed, tmp_path, ask):
    handle = replace(composed.driven(), trial=tmp_path / "trial")
    config = configs.read(composed.root / "net" / "config.pbtxt")
    with (
        pytest.raises(ServerError, match="second --model-repository"),
        trial.trial(handle, composed.root / "net" / "1", config),
    ):
        raise AssertionError
    assert ask() == 1.0


def test_a_version_folder_that_is_copied_in_is_checked_and_taken(composed, make_onnx, ask):
    folder = composed.root / "net" / "7"
    folder.mkdir()
    make_onnx(7, folder / "model.onnx")
    composed.until(lambda: '"dropped"' in composed.log("controller"))
    composed.run("promote", "net", "7")
    composed.until(lambda: answers(ask, 7.0), 5)


def test_what_commands_write_lies_on_the_host_and_a_backup_can_be_put_back(composed, ask):
    """Nothing but what is served can be written in the container, and each command begins there."""
    served = composed.root.parent
    composed.run("backup", "models.tar.gz")
    composed.run("keys", "create", "--tenant", "other", "--models", "net", "--token-file", "other.token")
    composed.run("prometheus", "--write", "prometheus")
    composed.run("restore", "models.tar.gz", "--repository", "elsewhere/model_repository")
    assert (served / "models.tar.gz").stat().st_size > 1000 and (served / "other.token").read_text().count(".") == 2
    assert (served / "prometheus" / "prometheus.yml").is_file()
    assert sorted(path.name for path in (served / "elsewhere" / "model_repository" / "net").glob("[0-9]*"))[:1] == ["1"]
    assert "read-only" in composed.run("backup", "/opt/models.tar.gz", fails=True).lower()


def test_a_second_server_does_not_start_beside_the_first(composed, ask):
    """As that of the profile `cpu` would, while that of `gpu` still runs: callers would get now this one, now that."""
    first = composed.running["triton"]
    composed.triton()
    second, composed.running["triton"] = composed.running["triton"], first
    assert second.wait(30) == 1 and "another Triton serves this repository" in composed.log("triton")
    assert ask() == 7.0


def test_a_new_start_of_the_controller_loses_no_request(composed, ask):
    with Load(ask) as load:
        assert composed.end("controller") == 0
        time.sleep(0.5)
        composed.controller()
        composed.until(lambda: composed.log("controller").count("Ctrl-C") == 2)
        composed.until(lambda: ready(composed) == 200)
    assert load.failures == [] and load.count > 20
    assert ask() == 7.0


def test_a_server_that_was_started_anew_gets_its_versions_back(composed, ask):
    """Meanwhile it is said that it cannot be reached, and commands do not go on as if there were none."""
    composed.end("triton", signal.SIGKILL)
    composed.until(lambda: "server_unreachable" in composed.log("controller"), 10)
    assert ready(composed) == 503
    composed.triton()
    composed.until(lambda: answers(ask, 7.0))
    assert ask(1) == 1.0
    composed.until(lambda: "server_restarted" in composed.log("controller"), 10)
    composed.until(lambda: ready(composed) == 200)


def test_an_envoy_that_was_started_anew_goes_on_with_the_same_files_and_the_same_quota(composed, token, ask, client):
    words = ("keys", "create", "--tenant", "few", "--models", "net", "--daily", "3", "--json")
    with client(json.loads(composed.run(*words))["token"]) as few:
        composed.until(lambda: answers(few, 7.0))
        few()
    time.sleep(0.5)  # until the access log is written: what is in it is counted
    composed.end("gateway", signal.SIGKILL)
    composed.until(lambda: composed.log("controller").count("gateway_unreachable") >= 2, 10)
    composed.until(lambda: "quota" in composed.log("controller").rpartition("gateway_unreachable")[2], 10)
    composed.gateway()
    composed.until(lambda: answers(ask, 7.0))
    composed.until(lambda: ready(composed) == 200, 10)
    with client(json.loads(composed.run(*words))["token"]) as few:
        composed.until(lambda: answers(few, 7.0), 10)
        with pytest.raises(ModelportError, match="quota"):
            few()


def test_prometheus_finds_all_three_and_no_alert_fires(composed, require):
    """Though server, controller and gateway were started anew since it began to ask them."""
    require("prometheus")

    def told(page: str) -> Any:
        url = f"http://127.0.0.1:{composed.ports['prometheus']}/api/v1/{page}"
        try:
            return json.loads(urllib.request.urlopen(url, timeout=5).read())["data"]
        except urllib.error.URLError:
            return {}

    def health() -> list[tuple[str, str]]:
        found = told("targets").get("activeTargets", ())
        return sorted((one["labels"]["job"], one["health"]) for one in found)

    composed.until(lambda: health() == [("gateway", "up"), ("supervisor", "up"), ("triton", "up")], 20)
    composed.until(lambda: told("query?query=modelport_server_up")["result"] != [], 10)
    rules = [rule for group in told("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 10
    assert [rule["name"] for rule in rules if rule.get("state") == "firing" or rule.get("lastError")] == []


def test_status_tells_of_a_server_that_is_not_ours(composed):
    told = composed.run("status")
    assert "started elsewhere" in told and "process 0" not in told
