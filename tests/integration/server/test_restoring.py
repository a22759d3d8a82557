"""Stubs that die, are stopped or hang: the model answers again, others never notice, and what stays is what is said."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import psutil
import pytest

from modelport.errors import ServerError, ServerTimeoutError
from modelport.server import restoring, stubs


@pytest.fixture
def serve(serve):
    """Servers whose ONNX models have processes of their own."""
    return partial(serve, isolated=True)


def hit(pid, number):
    os.kill(pid, number)
    wanted = psutil.STATUS_ZOMBIE if number == signal.SIGKILL else psutil.STATUS_STOPPED
    deadline = time.monotonic() + 5
    while psutil.Process(pid).status() != wanted and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_killed_stub_is_found_and_replaced_and_nothing_is_left(models, serve, ask, holding, settled, stub_of):
    """Where no request met the dead stub the server is exactly as before."""
    models.put("hurt")
    models.put("other")
    server = serve()
    before, other = holding(server), stub_of(server, "other")
    assert restoring.hurt(server.handle, "hurt") == ()
    hit(stub_of(server, "hurt"), signal.SIGKILL)
    assert restoring.hurt(server.handle, "hurt") == (1,)
    assert restoring.hurt(server.handle, "other") == ()
    assert server.ready_versions("hurt") == (1,), "Triton has not noticed"
    done = server.handle.restore("hurt")
    assert (done.versions, done.ready, done.killed) == ((1,), (1,), ())
    assert ask(server, "hurt", 5) == 6
    assert restoring.hurt(server.handle, "hurt") == ()
    assert stub_of(server, "other") == other
    assert settled(server, before).fits(before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_while_callers_ask_no_answer_is_wrong_and_what_stays_is_one_dead_process(
    models, serve, ask, holding, stub_of, number
):
    models.put("hurt", (1, 2))
    models.put("other")
    server = serve()
    before = holding(server)
    others = (stub_of(server, "hurt", 1), stub_of(server, "other"))
    answers, stop = [], threading.Event()

    def caller(model, version):
        while not stop.is_set():
            answers.append((model, version, ask(server, model, 10, version=version)))

    with ThreadPoolExecutor(4) as pool:
        for place in (("hurt", None), ("hurt", None), ("hurt", 1), ("other", None)):
            pool.submit(caller, *place)
        time.sleep(0.3)
        victim = stub_of(server, "hurt", 2)
        hit(victim, number)
        time.sleep(0.3)
        done = server.handle.restore("hurt")
        asked = len(answers)
        time.sleep(1.5)
        stop.set()
    assert done.versions == (2,) and done.ready == (1, 2)
    assert done.killed == (() if number == signal.SIGKILL else (victim,))
    right = {("hurt", None): 12, ("hurt", 1): 11, ("other", None): 11}
    wrong = [(m, v, a) for m, v, a in answers if a != right[m, v]]
    assert all(m == "hurt" and v is None and "is not healthy" in str(a) for m, v, a in wrong)
    assert 1 <= len(wrong) <= 4, "negative control, and what callers asked before the new stub was there"
    assert len(answers) > asked
    assert {ask(server, "hurt", 10) for _ in range(20)} == {12}
    assert (stub_of(server, "hurt", 1), stub_of(server, "other")) == others, "healthy ones are not touched"
    # Negative control for the rule that nothing is left: Triton keeps the dead stub's instance.
    assert stubs.dead(server.handle) == 1
    stubs.sweep(server.handle, settled_s=0)
    now = holding(server)
    assert not now.fits(before)
    assert now.fits(replace(before, stubs=before.stubs + 1, threads=before.threads + 40))


def test_a_stopped_stub_is_killed_before_it_can_go_on(models, serve, ask, stub_of):
    """Negative control below: one that goes on after a request has given it up takes the server with it."""
    models.put("hurt")
    server = serve()
    victim = stub_of(server, "hurt")
    hit(victim, signal.SIGSTOP)
    assert "is not healthy" in ask(server, "hurt")
    server.handle.restore("hurt")
    assert not psutil.pid_exists(victim) or psutil.Process(victim).status() == psutil.STATUS_ZOMBIE
    assert ask(server, "hurt", 5) == 6


def test_one_of_two_instances_is_restored_with_the_other_beside_it(models, serve, ask, stub_of):
    models.put("hurt", instances=2)
    server = serve()
    hit(stub_of(server, "hurt", 1, 1), signal.SIGKILL)
    assert restoring.hurt(server.handle, "hurt") == (1,)
    done = server.handle.restore("hurt", drain_s=1)
    assert done.versions == (1,)
    assert len(stubs.find(server.handle, "hurt")) == 2
    assert {ask(server, "hurt", 5) for _ in range(8)} == {6}


def test_a_hanging_stub_is_replaced_and_its_request_gets_an_error(models, serve, ask, stub_of):
    """A stub that hangs looks well: whoever asked it says which version does not answer."""
    models.python("hurt", 1, execute="time.sleep(60 if x[0, 0] > 100 else 0)")
    models.config("hurt", [1], backend="python")
    server = serve()
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(ask, server, "hurt", 200)
        time.sleep(0.3)
        assert restoring.hurt(server.handle, "hurt") == ()
        done = server.handle.restore("hurt", versions=[1], drain_s=1)
        assert ask(server, "hurt", 5) == 6
        assert "is not healthy" in lost.result(timeout=10)
    assert done.restored_s < 5 and len(done.killed) == 1
    assert len(stubs.find(server.handle, "hurt")) == 1


def test_requests_on_healthy_stubs_end_before_these_are_replaced(models, serve, ask):
    models.python("hurt", 1, execute="time.sleep(2 if x[0, 0] > 100 else 0)")
    models.config("hurt", [1], backend="python")
    server = serve()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, server, "hurt", 200)
        time.sleep(0.3)
        assert server.handle.restore("hurt", drain_s=10).killed == ()
        assert slow.result(timeout=10) == 201


def test_a_damaged_version_beside_the_lost_one_is_named_and_can_be_taken_out(models, serve, ask, stub_of):
    """Triton loads both or none, and calls the damaged one ready, which still runs."""
    models.put("hurt", (1, 2))
    server = serve()
    (models.root / "hurt" / "1" / "model.onnx").write_bytes(b"not a model")
    hit(stub_of(server, "hurt", 2), signal.SIGKILL)
    with pytest.raises(ServerError, match="'hurt' did not load") as caught:
        server.handle.restore("hurt", versions=[2])
    assert server.handle.shed("hurt") == {}, "the index does not tell"
    assert server.handle.shed("hurt", caught.value.why).keys() == {1}
    assert server.handle.restore("hurt", versions=[2]).ready == (2,)
    assert ask(server, "hurt", 5) == 7


def test_a_model_that_loads_no_more_is_an_error_with_the_reason(models, serve, stub_of):
    models.put("hurt", (1, 2))
    server = serve()
    (models.root / "hurt" / "2" / "model.onnx").write_bytes(b"not a model")
    hit(stub_of(server, "hurt", 2), signal.SIGKILL)
    with pytest.raises(Exception, match="'hurt' did not load"):
        server.handle.restore("hurt")
    assert server.ready_versions("hurt")[0] == 1


def test_a_version_folder_with_files_from_the_future_is_loaded_anew_all_the_same(models, serve, ask, stub_of):
    models.put("hurt")
    later = time.time() + 86400
    os.utime(models.root / "hurt" / "1" / "model.onnx", (later, later))
    server = serve()
    for _ in range(2):
        hit(stub_of(server, "hurt"), signal.SIGKILL)
        server.handle.restore("hurt")
        assert ask(server, "hurt", 5) == 6


# Unloading


def test_a_load_that_never_ends_can_be_given_up(models, serve, ask, holding, settled):
    models.put("other")
    models.python("endless", 1, initialize="time.sleep(600)")
    models.config("endless", [1], backend="python")
    server = serve(models=["other"])
    before = holding(server)
    with pytest.raises(ServerTimeoutError):
        server.load("endless", timeout_s=1)
    with pytest.raises(ServerTimeoutError, match="still loaded"):
        server.handle.unload("endless", timeout_s=0.5)
    server.handle.unload("endless", timeout_s=10, force_after_s=0)
    assert settled(server, before).fits(before)
    assert ask(server, "other", 5) == 6


def test_a_model_that_hangs_in_a_request_can_be_unloaded_by_force(models, serve, ask):
    models.put("other")
    models.python("hangs", 1, execute="time.sleep(60)")
    models.config("hangs", [1], backend="python")
    server = serve()
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(ask, server, "hangs")
        time.sleep(0.3)
        with pytest.raises(ServerTimeoutError, match="still loaded"):
            server.unload("hangs", timeout_s=0.5)
        server.handle.unload("hangs", timeout_s=10, force_after_s=0.5)
        assert "is not healthy" in lost.result(timeout=10)
    assert stubs.find(server.handle, "hangs") == ()
    assert ask(server, "other", 5) == 6
