"""Control calls: answers are read, refusals keep the server's reason, and silence has an end."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelport.errors import ServerError, ServerTimeoutError
from modelport.server import control, ports

HOST = "127.0.0.1"


@pytest.fixture
def seam():
    """A server at our own seam: `seam.answers[path] = (status, text)`; `seam.seen` lists (path, header)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.seen.append((self.path, self.headers.get("modelport-control")))
            status, text = server.answers[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.answers, server.seen = {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def caller(seam):
    return control.Control(HOST, seam.server_port, {"modelport-control": "word"})


def test_the_index_is_read_and_the_secret_sent(seam, caller):
    entries = [
        {"name": "never"},
        {"name": "good", "version": "2", "state": "READY"},
        {"name": "bad", "version": "1", "state": "UNAVAILABLE", "reason": "Internal: TritonModelException: too big"},
    ]
    seam.answers["/v2/repository/index"] = (200, json.dumps(entries))
    never, good, bad = caller.index()
    assert (never.version, never.state, never.ready) == (None, "", False)
    assert (good.model, good.version, good.ready) == ("good", 2, True)
    assert (bad.ready, bad.reason) == (False, "too big")
    assert seam.seen == [("/v2/repository/index", "word")]


def test_a_refusal_keeps_status_and_reason(seam, caller):
    seam.answers["/v2/repository/models/m/unload"] = (400, '{"error": "no such file"}')
    with pytest.raises(ServerError, match=r"refused POST .*m/unload with status 400") as caught:
        caller.unload("m", timeout_s=5)
    assert caught.value.why == "no such file"
    seam.answers["/v2/repository/models/m/unload"] = (500, "not json")
    with pytest.raises(ServerError, match="status 500") as caught:
        caller.unload("m", timeout_s=5)
    assert caught.value.why == "not json"


def test_problems_are_models_without_a_ready_version_and_versions_that_the_policy_misses(seam, caller):
    entries = [
        {"name": "good", "version": "1", "state": "READY"},
        {"name": "bad", "version": "1", "state": "UNAVAILABLE", "reason": "too big"},
        {"name": "quiet", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "gap", "version": "1", "state": "READY"},
        {"name": "slow", "version": "1", "state": "LOADING"},
    ]
    seam.answers["/v2/repository/index"] = (200, json.dumps(entries))
    assert caller.problems({"good": (1,), "bad": (1,), "quiet": None, "gap": (1, 2), "absent": (), "slow": (1,)}) == {
        "bad": "version 1: too big",
        "quiet": "",
        "gap": "version 2 is not served, though version_policy names it",
        "absent": "",
        "slow": "version 1 is still loading",
    }
    assert [caller.gone(model) for model in ("good", "bad", "quiet", "absent")] == [False, True, True, True]


def test_coming_going_and_gone_are_told_apart(seam, caller):
    entries = [
        {"name": "new", "version": "1", "state": "LOADING"},
        {"name": "new", "version": "2", "state": "READY"},
        {"name": "old", "version": "1", "state": "UNLOADING"},
        {"name": "old", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    seam.answers["/v2/repository/index"] = (200, json.dumps(entries))
    models = ("new", "old", "absent")
    assert [caller.loading(model) for model in models] == [True, False, False]
    assert [caller.unloading(model) for model in models] == [False, True, True]
    assert [caller.gone(model) for model in models] == [False, False, True]


@pytest.mark.parametrize(
    ("groups", "instances"),
    [
        ([], 0),
        ([{"count": 2, "kind": "KIND_CPU", "gpus": []}], 2),
        ([{"count": 2, "kind": "KIND_GPU", "gpus": [0, 1]}, {"count": 1, "kind": "KIND_CPU"}], 5),
    ],
)
def test_instances_are_counted_on_all_devices(seam, caller, groups, instances):
    seam.answers["/v2/models/m/config"] = (200, json.dumps({"instance_group": groups} if groups else {}))
    assert caller.instances("m") == instances


@pytest.mark.parametrize(
    ("policy", "versions"),
    [({"specific": {"versions": ["1", "3"]}}, (1, 3)), ({"latest": {"num_versions": 1}}, ()), (None, ())],
)
def test_the_policys_versions_are_read(seam, caller, policy, versions):
    seam.answers["/v2/models/m/config"] = (200, json.dumps({"version_policy": policy} if policy else {}))
    assert caller.policy("m") == versions


def test_nobody_there_is_a_server_error_and_not_live():
    caller = control.Control(HOST, ports.choose(HOST, {"HTTP": 0})["HTTP"], {})
    with pytest.raises(ServerError, match="does not answer"):
        caller.index()
    assert not caller.live()


def test_silence_ends_at_the_timeout():
    with socket.create_server((HOST, 0)) as silent:
        caller = control.Control(HOST, silent.getsockname()[1], {})
        started = time.monotonic()
        with pytest.raises(ServerTimeoutError, match=r"within 0\.2 s"):
            caller.index(timeout_s=0.2)
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("reason", "plain"),
    [
        ("no file", "no file"),
        ("Internal: TritonModelException: bad dims\n\nAt:\n  /a/model.py(7): initialize\n", "bad dims"),
        ("load failed: bad;\n\nAt:\n  /a/model.py(7): f\n  /a/model.py(9): g\n;", "load failed: bad"),
    ],
)
def test_source_locations_are_left_out(reason, plain):
    assert control.tidy(reason) == plain


def test_which_versions_did_not_load_is_read_from_the_answer_to_a_load():
    parts = ["load failed for model 'm': version 1", "Bad: file; line 2;version 12", "late;version 3", "unloaded;"]
    said = " is at UNAVAILABLE state: ".join(parts)
    assert control.refused_versions(said) == {1: "Bad: file; line 2", 12: "late"}
    assert control.refused_versions("load failed for model 'm': no such file") == {}
