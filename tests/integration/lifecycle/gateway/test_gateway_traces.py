"""A request is followed from the gateway through Triton, in the spans that a real OTLP receiver got."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import rotel

from modelport._process import wait_until
from modelport.commands.gateway import receiver
from modelport.commands.serve import unwatched

AGENT = Path(rotel.__file__).parent / "rotel-agent"
FREE = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
TRITON, GATEWAY = "triton", "modelport-gateway"
SOME = 5  # requests of a kind
FIELDS = {"Trace ID": "trace", "Parent ID": "parent", "ID": "id", "Name": "name"}


@dataclass
class Span:
    """As the receiver printed it."""

    service: str
    trace: str = ""
    parent: str = ""
    id: str = ""
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)


class Receiver:
    """The collector `rotel`, which prints what it gets."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "spans.txt"
        ports = [free_port(), free_port()]
        self.url = f"http://127.0.0.1:{ports[0]}"
        places = ["--otlp-http-endpoint", f"127.0.0.1:{ports[0]}", "--otlp-grpc-endpoint", f"127.0.0.1:{ports[1]}"]
        files = ["--pid-file", str(folder / "pid"), "--log-file", str(folder / "log")]
        printed = ["--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([AGENT, "start", *places, *files, *printed], stdout=log, stderr=log)
        assert wait_until(lambda: listens(ports[0]), timeout_s=10), self.log.read_text()

    def spans(self) -> list[Span]:
        service, found, tags = "", [], {}
        for line in map(str.strip, self.log.read_text().splitlines()):
            if line.startswith("Resource attributes"):
                tags = {}
            elif line.startswith("-> ") and (pair := re.fullmatch(r"-> (\S+): Str\((.*)\)", line)):
                tags[pair[1]] = pair[2]
                service = pair[2] if pair[1] == "service.name" else service
            elif pair := re.fullmatch(r"(Trace ID|Parent ID|ID|Name)\s+: ?(.*)", line):
                if pair[1] == "Trace ID":
                    found.append(Span(service))
                    tags = found[-1].tags
                setattr(found[-1], FIELDS[pair[1]], pair[2])
        return found

    def of(self, *traces: str, most: int) -> list[Span]:
        """The spans of these traces, once so many are there."""

        def got() -> list[Span]:
            return [one for one in self.spans() if one.trace in traces]

        assert wait_until(lambda: len(got()) >= most and any(one.service == GATEWAY for one in got()), timeout_s=10), (
            sorted((one.trace, one.name) for one in got())
        )
        time.sleep(0.05)  # until a span that is being printed is there as a whole
        return got()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def collector(tmp_path_factory: Any) -> Iterator[Receiver]:
    made = Receiver(tmp_path_factory.mktemp("otlp"))
    yield made
    made.process.terminate()
    made.process.wait(10)


@pytest.fixture(scope="module")
def traced(shelf: Any, collector: Receiver) -> Iterator[Any]:
    """The embedded server, which sends its part of a trace."""
    shelf.publish("net")
    with unwatched(shelf.root, traces=f"{collector.url}/v1/traces", **FREE) as server:
        yield server


@pytest.fixture
def start(traced: Any, collector: Receiver, make_gateway: Any, tmp_path: Path) -> Callable[..., Any]:
    """`start(sample)`: a gateway that sends traces, with one thread; `url` for another receiver."""

    def made(sample: str, url: str = collector.url, **more: Any) -> Any:
        return make_gateway(traced, otlp=receiver(url, sample, **more), workers=1, folder=tmp_path / "gateway")

    return made


def infer(front: Any, token: str, body: str, traceparent: str = "", path: str = "/v2/models/net/infer") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", front.gateway.settings.port, timeout=10)
    sent = {"authorization": f"Bearer {token}", **({"traceparent": traceparent} if traceparent else {})}
    connection.request("POST", path, body, sent)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def logged(front: Any, count: int) -> list[dict[str, Any]]:
    """The last lines of the access log."""
    log = front.gateway.folder / "access.log"
    assert wait_until(lambda: len(log.read_text().splitlines()) >= count, timeout_s=5)
    return [json.loads(line) for line in log.read_text().splitlines()][-count:]


def test_a_request_is_followed_through_triton_and_found_from_its_line_in_the_log(start, collector):
    """Over both protocols, also where a tenant's limit sends it through a turnstile; no key, body or query is told.

    Over gRPC, Triton 2.51 leaves its part of one trace in twenty out: there one of five is enough.
    """
    front = start("100%")
    token, limited = front.key("acme"), front.key("small", concurrency=4)
    parent = f"00-{'c' * 32}-{'d' * 16}-01"
    number = '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 42.4242]}]}'
    assert infer(front, token, number, parent, "/v2/models/net/versions/1/infer?secret=in-a-query") == 200
    assert front.ask(limited).status == 200
    kinds = [(token, "grpc")] * SOME + [(limited, "grpc")] * SOME
    assert [front.ask(*kind).status for kind in kinds] == [200] * len(kinds)
    assert front.ask("wrong").status == 401
    *lines, refused = logged(front, 3 + len(kinds))

    def complete() -> bool:
        found = [followed(collector, line) for line in lines]
        return all(found[:2]) and any(found[2 : 2 + SOME]) and any(found[2 + SOME :])

    assert wait_until(complete, timeout_s=10)
    [ended] = collector.of(refused["trace"], most=1)
    assert (ended.name, ended.tags["http.status_code"]) == ("ingress", "401")
    told = collector.log.read_text()
    assert not [word for word in (token, limited, "42.4242", "in-a-query", "c" * 32) if word in told]


def followed(collector: Receiver, line: dict[str, Any]) -> bool:
    """Whether Triton's part of the trace of a line is there, in its place below ours."""
    spans = collector.of(line["trace"], most=1)
    [ours] = [one for one in spans if one.service == GATEWAY]
    assert (ours.parent, ours.name) == ("", "infer")  # the caller's own context is not gone on with
    about = {"model": "net", "tenant": line["tenant"], **({"version": line["version"]} if line["version"] else {})}
    assert {f"modelport.{name}": value for name, value in about.items()}.items() <= ours.tags.items()
    assert ours.tags["guid:x-request-id"] == line["id"]
    theirs = {one.name: one for one in spans if one.service == TRITON}
    return (
        sorted(theirs) == ["InferRequest", "compute", "net"]
        and theirs["InferRequest"].parent == ours.id
        and theirs["net"].parent == theirs["InferRequest"].id
        and theirs["compute"].parent == theirs["net"].id
    )


def test_a_trusted_callers_own_trace_is_gone_on_with_and_says_whether_it_is_sampled(start, collector):
    """What is not sampled has no span of Triton's either, which would make one for each context that it sees."""
    front = start("0.01%", trusted=True)
    token = front.key("acme")
    wanted, unwanted = ("a" * 32, "b" * 32)
    body = '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}'
    for trace, flags in ((unwanted, "00"), (wanted, "01")):
        for _ in range(SOME):
            assert infer(front, token, body, f"00-{trace}-{'1' * 16}-{flags}") == 200
    spans = collector.of(wanted, unwanted, most=SOME * 4)
    assert Counter((one.trace, one.service) for one in spans) == {(wanted, GATEWAY): SOME, (wanted, TRITON): 15}
    assert {one.parent for one in spans if one.service == GATEWAY} == {"1" * 16}


def test_a_receiver_that_is_away_costs_no_request(start):
    front = start("100%", f"http://127.0.0.1:{free_port()}")
    token = front.key("acme")
    began = time.monotonic()
    assert [front.ask(token).status for _ in range(3 * SOME)] == [200] * 3 * SOME
    assert time.monotonic() - began < 5
