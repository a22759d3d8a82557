"""Routes, aliases and shadows through the gateway: who answers a call, told by the answers themselves."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import replace
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

import modelport
from modelport._process import wait_until
from modelport.client import Client
from modelport.commands.tagging import alias
from modelport.errors import ModelportError, VersionNotFoundError
from modelport.gateway.envoy.clusters import COPIES
from modelport.gateway.envoy.listener import ACCESS_LOG
from modelport.gateway.gateway import Gateway
from modelport.gateway.routes import change
from modelport.gateway.routes.calls import Calls
from modelport.gateway.settings import Settings, Upstream
from modelport.lifecycle.change import rollback
from modelport.repository import config as configs
from modelport.repository import followed, switch
from modelport.repository.route import Route, Share
from modelport.server import EmbeddedServer, connection
from modelport.supervisor.gateway import Front as Watched

X = np.array([[0.5, 0.25]], np.float32)
INPUT = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
FREE = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
HANG_S = 0.15
TAKEN_S = 0.1  # until Envoy has taken files that were replaced
FORMS = ("json", "binary", "grpc")
PROTOCOLS = ("http", "grpc")


def share(**parts: float) -> tuple[Share, ...]:
    return tuple(Share(target=name.removeprefix("v"), percent=percent) for name, percent in parts.items())


class Asking:
    """One caller with connections of its own, and no check of what it sends or gets."""

    def __init__(self, url: str, token: str) -> None:
        self._place = urlsplit(url).netloc
        self._key = f"Bearer {token}"
        self._http = http.client.HTTPConnection(self._place, timeout=10)
        self._channel = grpc.insecure_channel(self._place)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._channel.close()

    def __call__(self, form: str = "json", model: str = "net", version: str = "", **headers: str) -> float | int:
        """The number that answers: a version, or the status as in HTTP where it is refused."""
        return getattr(self, f"_{form}")(model, version, {k.replace("_", "-"): v for k, v in headers.items()})

    def _json(self, model: str, version: str, headers: dict[str, str]) -> float | int:
        status, body = self._post(model, version, json.dumps({"inputs": [{**INPUT, "data": [0.5, 0.25]}]}), headers)
        return json.loads(body)["outputs"][0]["data"][0] if status == 200 else status

    def _binary(self, model: str, version: str, headers: dict[str, str]) -> float | int:
        head = json.dumps(
            {
                "inputs": [{**INPUT, "parameters": {"binary_data_size": X.nbytes}}],
                "parameters": {"binary_data_output": True},
            }
        )
        size = {"Inference-Header-Content-Length": str(len(head))}
        status, body = self._post(model, version, head.encode() + X.tobytes(), headers | size)
        return float(np.frombuffer(body[-8:], np.float32)[0]) if status == 200 else status

    def _post(self, model: str, version: str, body: str | bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
        self._http.request("POST", path, body, {"authorization": self._key, **headers})
        answer = self._http.getresponse()
        return answer.status, answer.read()

    def _grpc(self, model: str, version: str, headers: dict[str, str]) -> float | int:
        message = service_pb2.ModelInferRequest(
            model_name=model, model_version=version, raw_input_contents=[X.tobytes()]
        )
        message.inputs.add(name="x", datatype="FP32", shape=X.shape)
        try:
            reply = self._stub.ModelInfer(
                message, timeout=10, metadata=[("authorization", self._key), *headers.items()]
            )
        except grpc.RpcError as error:
            return {grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.INTERNAL: 500}.get(error.code(), 599)
        return float(np.frombuffer(reply.raw_output_contents[0], np.float32)[0])


@pytest.fixture(scope="module")
def server(shelf):
    """`net` with versions 1 to 3 loaded, and `dark` in Python, whose version 2 hangs and whose version 3 raises."""
    for _ in range(3):
        shelf.publish("net")
    for body in ("pass", f"time.sleep({HANG_S})", "raise ValueError()"):
        shelf.publish("dark", python={"execute": body}, batch=1)
    for name in ("net", "dark"):
        config, known = switch.read(shelf.root, name)
        configs.set_versions(config, [1, 2, 3])
        switch.write(shelf.root, name, config, replace(known, aliases={"stable": 1, "canary": 2}))
    with EmbeddedServer(shelf.root, models=("net", "dark"), **FREE) as running:
        connection.write(running.state_dir, running.handle)
        yield running
        connection.remove(running.state_dir, running.handle)


@pytest.fixture(scope="module")
def front(server, make_gateway):
    return make_gateway(server)


@pytest.fixture(scope="module")
def token(front):
    return front.key("acme")


@pytest.fixture
def set_route(shelf, front):
    """`set_route(model, Route(...))`: the gateway follows it from then on; none of them is left after the test."""
    models = set()

    def act(model: str, route: Route) -> None:
        models.add(model)
        change.put(shelf.root, model, route)
        front.gateway.refresh()
        time.sleep(TAKEN_S)

    yield act
    for model in models:
        act(model, Route())


@pytest.fixture
def asking(front, token):
    with Asking(front.http_url, token) as caller:
        yield caller


@pytest.fixture(params=PROTOCOLS)
def client(request, front, token):
    """modelport's own client, through the gateway."""
    url = front.http_url if request.param == "http" else front.grpc_url
    with Client(url, token=token, retries=0) as made:
        yield made


def who(client: Client, version: int | str | None = None) -> float:
    return float(client.infer("net", version=version, x=X)["y"][0, 0])


def test_an_alias_is_addressable_like_a_version(client):
    """It is asked for inference, readiness and tensors; one that is not there is not found, and says so."""
    assert [who(client, version) for version in ("stable", "canary", 1, 2, 3)] == [1, 2, 1, 2, 3]
    assert client.ready("net", "stable") and client.ready("net", 3)
    assert not client.ready("net", "nobody") and not client.ready("net", 9)
    assert client.spec("net", "canary") == client.spec("net", 2)
    for ask in (lambda word: who(client, word), lambda word: client.spec("net", word)):
        with pytest.raises(VersionNotFoundError) as caught:
            ask("nobody")
        assert caught.value.alias == "nobody" and "no version was given this alias" in caught.value.why
        with pytest.raises(VersionNotFoundError):
            ask(9)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_a_gateway_an_alias_is_refused_with_what_to_do(server, protocol):
    with Client(getattr(server, f"{protocol}_url"), retries=0) as client:
        with pytest.raises(VersionNotFoundError, match="modelport serve --gateway") as caught:
            who(client, "stable")
        assert caught.value.alias == "stable" and who(client, 1) == 1


@pytest.mark.parametrize("form", FORMS)
def test_without_a_route_the_server_chooses_and_every_version_can_be_pinned(asking, form):
    assert asking(form) == 3
    assert [asking(form, version=word) for word in ("1", "stable", "canary", "nobody", "9")] == [1, 1, 2, 404, 404]


@pytest.mark.parametrize("form", ["json", "grpc"])
def test_a_canary_gets_its_share_and_a_pinned_call_never_moves(asking, set_route, form):
    """10 % +- 3 of 2,000 calls without a version; calls for one go there all the same."""
    set_route("net", Route(shares=share(stable=90, canary=10)))
    seen = Counter(asking(form) for _ in range(2000))
    assert set(seen) == {1, 2}
    assert 140 <= seen[2] <= 260, seen
    assert {asking(form, version="3") for _ in range(20)} == {3}
    assert {asking(form, version="stable") for _ in range(20)} == {1}


def test_calls_that_name_a_version_are_no_evidence_of_what_it_does(front, asking, set_route):
    set_route("net", Route(shares=share(stable=50, canary=50)))
    calls = Calls(front.gateway.folder / ACCESS_LOG, "net")
    seen = Counter(asking(form) for form in FORMS for _ in range(10))
    for form in FORMS:
        assert [asking(form, version=word) for word in ("1", "canary", "3")] == [1, 2, 3]
    assert wait_until(lambda: sum(did.answered for did in calls.read().values()) >= 30, timeout_s=5)
    time.sleep(0.25)  # Envoy writes each 100 ms
    assert {version: did.answered for version, did in calls.read().items()} == seen


@pytest.mark.parametrize("form", ["json", "grpc"])
def test_a_word_in_a_header_always_leads_to_the_same_version_and_words_spread_by_share(asking, set_route, form):
    set_route("net", Route(shares=share(v1=70, v2=30), sticky="header:x-user"))
    first = {number: asking(form, x_user=f"user-{number}") for number in range(1000)}
    seen = Counter(first.values())
    assert 240 <= seen[2] <= 360, seen
    again = {number: asking(form, x_user=f"user-{number}") for number in range(0, 1000, 5)}
    assert all(first[number] == version for number, version in again.items())
    assert set(Counter(asking(form) for _ in range(100))) == {1, 2}, "without the header, by chance"


def test_a_tenant_always_gets_the_same_version_and_a_growing_share_takes_nobody_back(front, set_route):
    """Over both protocols; who had the canary keeps it when its share grows."""
    tokens = [front.key(f"tenant-{number}") for number in range(6)]
    had: list[set[int]] = []
    for percent in (30, 70):
        set_route("net", Route(shares=share(v2=percent, v1=100 - percent), sticky="tenant"))
        found = set()
        for number, token in enumerate(tokens):
            with Asking(front.http_url, token) as caller:
                seen = {caller(form) for form in FORMS for _ in range(5)}
            assert len(seen) == 1, (number, seen)
            found |= {number} if seen == {2.0} else set()
        had.append(found)
    assert had[0] <= had[1] and had[0] != had[1], had


def test_what_is_not_loaded_gets_nothing_and_the_others_what_it_had(asking, set_route):
    set_route("net", Route(shares=share(v1=60, v2=20, v9=10, nobody=10)))
    seen = Counter(asking() for _ in range(800))
    assert set(seen) == {1, 2}
    assert 0.19 <= seen[2] / 800 <= 0.31, seen
    set_route("net", Route(shares=share(v9=100)))
    assert asking() == asking("grpc") == 3, "nothing of the route is left: the server chooses"


class Load:
    """Callers through the gateway that ask all the time; keeps when each call was sent, and who answered or why not."""

    def __init__(self, url: str, token: str, *, model: str = "net", version: int | str | None = None) -> None:
        self.answers: list[tuple[float, float | str]] = []
        self._ended = threading.Event()
        urls = (url, url.replace("http", "grpc", 1)) * 2
        jobs = [(one, token, model, version) for one in urls]
        self._threads = [threading.Thread(target=self._ask, args=job, daemon=True) for job in jobs]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        assert wait_until(lambda: len(self.answers) > 40, timeout_s=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(15)

    @property
    def failed(self) -> list[str]:
        return [one for _, one in self.answers if isinstance(one, str)]

    def _ask(self, url: str, token: str, model: str, version: int | str | None) -> None:
        with Client(url, token=token, retries=0) as client:
            while not self._ended.is_set():
                sent, answered = time.monotonic(), None
                try:
                    answered = float(client.infer(model, version=version, x=X)["y"][0, 0])
                except ModelportError as error:
                    answered = f"{error}"
                self.answers.append((sent, answered))
                time.sleep(0.002)


def test_shares_change_under_load_and_no_request_fails(front, token, set_route):
    """Ten changes; what is sent after each is answered by the versions of the new route alone."""
    holds: list[tuple[float, float, set[float]]] = []
    with Load(front.http_url, token) as load:
        for number in range(10):
            one, other = (1, 2) if number % 2 else (2, 3)
            set_route("net", Route(shares=share(**{f"v{one}": 50, f"v{other}": 50})))
            taken = time.monotonic()
            time.sleep(0.1)
            holds.append((taken, time.monotonic() - 0.05, {float(one), float(other)}))
    assert load.failed == []
    for taken, until, versions in holds:
        assert {who for sent, who in load.answers if taken <= sent < until} == versions


def counted(server: EmbeddedServer, model: str, version: int) -> int:
    """Requests that reached a version, answered or failed, as Triton counts them."""
    [about] = [one for one in server.handle.statistics(model) if int(one["version"]) == version]
    return sum(int(about["inference_stats"][word]["count"]) for word in ("success", "fail"))


def test_a_shadow_gets_a_copy_of_each_request_and_answers_none(server, asking, set_route):
    """Over HTTP with JSON and with raw tensors, and over gRPC; calls pinned to another version are copied too."""
    set_route("net", Route(shares=share(v1=100), shadow="3"))
    before, direct = counted(server, "net", 3), counted(server, "net", 1)
    for form in FORMS:
        assert {asking(form) for _ in range(20)} == {1}
        assert asking(form, version="2") == 2
    assert wait_until(lambda: counted(server, "net", 3) >= before + 63, timeout_s=5)
    assert asking(version="3") == 3, "who asks for it gets it, and no copy is sent"
    time.sleep(0.2)
    assert counted(server, "net", 3) == before + 64
    assert counted(server, "net", 1) == direct + 60, "nobody else gets copies"


def test_what_is_refused_behind_the_gate_is_not_copied(server, front, set_route):
    """What is beyond a quota is computed by nobody."""
    set_route("net", Route(shares=share(v1=100), shadow="3"))
    with Asking(front.http_url, front.key("spent", daily=2)) as spent:
        before = counted(server, "net", 3)
        assert [spent(form) for form in (*FORMS, *FORMS)] == [1, 1, 599, 429, 429, 599]
        time.sleep(0.3)
        assert counted(server, "net", 3) == before + 2


def test_each_rendering_and_each_thread_draws_lots_of_its_own(front, asking, set_route):
    """Else who changes something often would give a small canary the same few lots again and again."""
    drawn = []
    for version in ("1", "2", "1"):
        set_route("dark", Route(shares=(Share(target=version, percent=100),)))  # renders the gate anew
        set_route("net", Route(shares=share(v1=50, v2=50)))
        drawn.append(tuple(asking() for _ in range(30)))
    assert len({*drawn}) == 3


@pytest.mark.parametrize("shadow", [3, 2], ids=["fails", "hangs"])
def test_a_shadow_that_hangs_or_fails_touches_no_caller(server, front, asking, set_route, shadow):
    """Each of 450 calls is answered in a moment by the right version; what waits for the shadow is bounded."""
    set_route("dark", Route(shares=share(v1=100), shadow=str(shadow)))
    before, refused = counted(server, "dark", shadow), copies(front, "active_overflow")
    for form in FORMS:
        slowest = 0.0
        for _ in range(150):
            began = time.monotonic()
            assert asking(form, model="dark") == 1
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 0.5, f"{form}: {slowest:.2f} s"
    assert copies(front, "active") <= 2 * COPIES
    if shadow == 2:
        assert copies(front, "active_overflow") > refused, "it was asked for more than it has places for"
    assert wait_until(lambda: counted(server, "dark", shadow) > before, timeout_s=5)


def copies(front, what: str) -> int:
    """Of requests to shadows: those that are on their way, or were not sent for want of a place."""
    found = front.gateway.admin.ask("GET", rf"/stats?filter=^cluster\.shadow_.*\.upstream_rq_{what}$")
    return sum(int(line.rpartition(":")[2]) for line in found.splitlines())


@pytest.fixture
def watched(shelf, server, token):
    """A gateway that follows the repository by itself, as the one of `modelport serve` does."""
    ports = {f"{word}_port": urlsplit(getattr(server, f"{word}_url")).port for word in PROTOCOLS}
    settings = Settings(port=0, upstreams=(Upstream(host="127.0.0.1", **ports),))
    gateway = Gateway(shelf.root, settings, folder=shelf.root.parent / "watched")
    one = Watched(gateway, lambda _: None, lambda: settings.upstreams)
    one.start()
    yield gateway
    one.stop()


def test_a_rollback_of_a_loaded_version_is_immediate_and_loses_no_request(shelf, server, watched, token):
    """Once the command has ended, every call that names no version, or an alias, is answered by the version before."""
    for _ in range(2):
        shelf.publish("back")
    server.load("back")
    modelport.promote("back", 2, repository=shelf.root)
    alias("back", {"stable": 1, "next": 2}, repository=shelf.root)
    change.put(shelf.root, "back", Route(shares=share(next=90, stable=10)))
    assert followed.wait(shelf.root, "back")
    url = watched.settings.url
    with Load(url, token, model="back") as routed, Load(url, token, model="back", version="next") as named:
        rollback("back", repository=shelf.root)
        ended = time.monotonic()
        time.sleep(0.3)
    assert routed.failed == named.failed == []
    for load, versions in ((routed, {1, 2}), (named, {1, 2})):
        assert {who for _, who in load.answers} == versions
        assert {who for sent, who in load.answers if sent >= ended} == {1}


def test_a_rollback_to_a_version_that_is_not_loaded_loses_no_request(shelf, server, watched, token):
    """It is loaded first; then the route and the alias lead to it; then the one before is taken out."""
    for _ in range(2):
        shelf.publish("cold", python={"initialize": "time.sleep(0.2)"})
    server.load("cold")
    modelport.promote("cold", 2, repository=shelf.root, unload_old=True)
    assert server.ready_versions("cold") == (2,)
    alias("cold", {"next": 2}, repository=shelf.root)
    change.put(shelf.root, "cold", Route(shares=share(next=100)))
    assert followed.wait(shelf.root, "cold")
    url = watched.settings.url
    with Load(url, token, model="cold") as load, Client(url, token=token, retries=0) as client:
        rollback("cold", repository=shelf.root)
        ended = time.monotonic()
        assert client.infer("cold", version="next", x=X)["y"][0, 0] == 1
        time.sleep(0.3)
    assert load.failed == []
    assert {who for _, who in load.answers} == {1, 2}
    assert {who for sent, who in load.answers if sent >= ended} == {1}
    assert server.ready_versions("cold") == (1,)
