"""What loads when a server starts: one model that hangs, or one damaged version, takes nothing else away."""

from __future__ import annotations

import shutil
import time

import pytest

from modelport._process import wait_until
from modelport.errors import ServerDiedError, ServerTimeoutError
from modelport.repository import events, registry
from modelport.server import stubs

HANG = {"initialize": "time.sleep(600)"}


def test_models_that_hang_in_their_loading_do_not_keep_the_others_from_serving(models, serve, ask):
    """There are more of them than are loaded at the same time; each can be ended."""
    for number in range(5):
        models.python(f"endless{number}", 1, **HANG)
        models.config(f"endless{number}", [1], backend="python")
    models.put("good")
    server = serve(load_timeout_s=0.5)
    assert wait_until(lambda: server.ready_versions("good") == (1,), timeout_s=20)
    assert ask(server, "good", 5) == 6
    assert server.loading - {"good"} == server.failed.keys() - {"good"} == {f"endless{n}" for n in range(5)}
    assert server.failed["endless0"] == "version 1 is still loading"
    with pytest.raises(ServerTimeoutError, match=r"still loading after 0\.2 s"):
        server.load("endless0", timeout_s=0.2)
    server.handle.end_loads("endless0")
    said = lambda: server.handle.problems(["endless0"])["endless0"]  # noqa: E731
    assert wait_until(lambda: "still" not in said(), timeout_s=20), said()
    models.python("endless0", 2)
    models.config("endless0", [2], backend="python")
    assert server.load("endless0") == (2,)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 15, "it waits 25 s for those that hang"


def test_a_version_that_does_not_load_beside_the_serving_one_is_taken_out(models, serve, ask):
    """Triton loads all of them or none. One without a folder as well; the highest that has one is never taken out."""
    models.put("damaged", (1, 2, 3))
    models.put("deleted", (1, 2))
    models.put("lost", (1, 2))
    models.put("torn", (1, 2))
    (models.root / "damaged" / "2" / "model.onnx").write_bytes(b"no model")
    (models.root / "torn" / "2" / "model.onnx").write_bytes(b"no model")
    shutil.rmtree(models.root / "deleted" / "1")
    shutil.rmtree(models.root / "lost" / "2")
    server = serve()
    assert server.failed.keys() == {"torn"}
    assert (ask(server, "damaged", 10), ask(server, "damaged", 10, version=1)) == (13, 11)
    assert (ask(server, "deleted", 10), ask(server, "lost", 10)) == (12, 11)
    rows = {(row.model, row.version): row for row in registry.rows(models.root)}
    assert not rows["damaged", 2].loaded and "protobuf" in rows["damaged", 2].problem.lower()
    assert [row.loaded for row in registry.model_rows(models.root, "torn")] == [True, True], "nothing would be won"
    told = {(event.model, event.version): event for event in events.latest(models.root, 9) if event.kind == "taken_out"}
    assert told.keys() == {("damaged", 2), ("deleted", 1), ("lost", 2)}
    assert "version 3" in told["damaged", 2].text and "it has no folder" in told["deleted", 1].text


def test_a_server_that_crashes_while_it_loads_is_started_once_more_and_no_oftener(models, serve, ask, tmp_path):
    flag = str(tmp_path / "crashed")
    crash = "(time.sleep(0.3), os.kill(os.getppid(), signal.SIGSEGV), time.sleep(60))"
    models.python("once", 1, initialize=f"os.path.exists({flag!r}) or (open({flag!r}, 'w').close(), {crash})")
    models.config("once", [1], backend="python")
    models.put("good")
    server = serve()
    assert not server.failed and server.ready_versions("once") == (1,) and ask(server, "good", 5) == 6
    server.stop()
    models.python("always", 1, initialize=crash)
    models.config("always", [1], backend="python")
    with pytest.raises(ServerDiedError, match="SIGSEGV"):
        serve()


def test_an_onnx_model_that_crashes_what_loads_it_is_left_out_and_the_others_serve(models, serve, ask, native):
    """In the third start they have processes of their own, until another server is made."""
    models.crash("crash", loading=True)
    models.put("good")
    server = serve()
    assert server.isolated and server.failed.keys() == {"crash"} and server.ready_versions("good") == (1,)
    assert ask(server, "good", 5) == 6 and not server.handle.runs_inside("good")
    assert stubs.find(server.handle, "good")


def test_a_request_that_crashes_its_model(models, serve, ask, native):
    """It takes the server with it; where models have processes of their own, that one alone."""
    models.crash("crash", loading=False)
    models.put("good")
    server = serve()
    assert server.handle.runs_inside("good") and ask(server, "crash", 2) == 2.0**62
    with pytest.raises(OSError):
        ask(server, "crash", 1)
    assert wait_until(lambda: not server.running, timeout_s=5)
    with pytest.raises(ServerDiedError, match="SIGFPE") as caught:
        server.index()
    assert caught.value.crashed
    server.isolated = True
    server.start()
    assert "is not healthy" in ask(server, "crash", 1) and ask(server, "good", 5) == 6
