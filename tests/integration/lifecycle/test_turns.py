"""Several at once on one model and on two, and promotions without a server, or with one that starts in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

import modelport
from modelport._process import wait_until
from modelport.errors import InvalidNameError, ModelNotFoundError, ServerError, VerificationError
from modelport.lifecycle.turn import TEMPORARY
from modelport.repository import journal
from modelport.repository.layout import state_folder
from modelport.server import connection, stubs


def test_two_promotions_of_one_model_take_turns(shelf, server, net, callers, untouched):
    shelf.publish(net)
    shelf.publish(net)
    line = [sys.executable, "-m", "modelport", "promote", net]
    rest = ["--repository", str(shelf.root), "--json"]
    with callers(server, net, pinned=None) as load:
        both = [
            subprocess.Popen([*line, version, *rest], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for version in ("2", "3")
        ]
        said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert load.violations([1, 2, 3]) == []
    done = [json.loads(out) for out, _ in said]
    last = next(d for d in done if d["before"] != 1)
    first = next(d for d in done if d["before"] == 1)
    assert last["before"] == first["version"], "the second one found what the first had done"
    untouched(server, net, tuple(last["loaded"]))


def test_who_waits_is_told_for_whom(shelf, server, net):
    shelf.publish(net)
    begun, go, said = threading.Event(), threading.Event(), []

    def hold():
        with journal.lock.model(shelf.root, net):
            begun.set()
            assert go.wait(30)

    def report(text):
        said.append(text)
        go.set()

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(10)
    assert modelport.promote(net, repository=shelf.root, report=report).version == 2
    assert said[0].startswith(f"waiting: model '{net}' is being changed by process {os.getpid()} (")
    thread.join()


@pytest.mark.parametrize("name", ["9" * 20, "2/triton_python_backend_stub"])
def test_what_must_not_reach_triton_is_refused_before_anything_changes(shelf, server, net, untouched, name):
    shelf.publish(net)
    (shelf.root / net / name).mkdir()
    with pytest.raises(InvalidNameError):
        modelport.promote(net, repository=shelf.root)
    untouched(server, net, (1,))


def test_one_promotion_does_not_wait_for_that_of_another_model(shelf, server, net, ask):
    shelf.publish("slow", python={})
    server.load("slow")
    shelf.publish("slow", python={"initialize": "time.sleep(600)"})
    shelf.publish(net)
    failed = []

    def promote_slow():
        with pytest.raises(ServerError) as caught:
            modelport.promote("slow", repository=shelf.root)
        failed.append(caught.value)

    thread = threading.Thread(target=promote_slow)
    thread.start()
    assert wait_until(lambda: any(s.model == "slow.trial" for s in server.index()), timeout_s=20)
    assert modelport.promote(net, repository=shelf.root).version == 2
    assert modelport.rollback(net, repository=shelf.root).version == 1
    assert any(s.model == "slow.trial" and s.state == "LOADING" for s in server.index()), "the slow one is done already"
    assert ask(server, "slow") == 1
    stubs.finish(stubs.find(server.handle, "slow.trial"))
    thread.join(60)
    assert "did not load" in str(failed[0])
    server.unload("slow")


def test_a_model_that_is_not_there_leaves_nothing(shelf, server):
    with pytest.raises(ModelNotFoundError):
        modelport.promote("nobody", repository=shelf.root)
    assert not list(state_folder(shelf.root).rglob("nobody*"))


# Without a server


@pytest.fixture
def alone(shelf, tmp_path):
    """A repository that nobody serves, with the versions 1 and 2 of `net`."""
    own = type(shelf)(tmp_path / "model_repository")
    own.publish("net")
    own.publish("net")
    return own


def test_without_a_server_a_temporary_one_proves_it(alone):
    done = modelport.promote("net", repository=alone.root)
    assert (done.version, done.before, done.loaded, done.server) == (2, 1, (1, 2), TEMPORARY)
    assert alone.named("net") == (1, 2)
    assert not connection.find(alone.root)
    back = modelport.rollback("net", repository=alone.root)
    assert (back.version, back.loaded, back.server) == (1, (1,), TEMPORARY)
    assert alone.named("net") == (1,)
    assert list((state_folder(alone.root) / "runs").iterdir()) == []


def test_without_a_server_a_wrong_version_is_refused_all_the_same(alone):
    alone.publish("net", value=99, golden=3)
    before = (alone.root / "net" / "config.pbtxt").read_bytes()
    with pytest.raises(VerificationError):
        modelport.promote("net", repository=alone.root)
    assert (alone.root / "net" / "config.pbtxt").read_bytes() == before
    assert journal.pending(alone.root) == []


def test_a_serving_version_that_does_not_load_does_not_block_its_successor(alone):
    """All versions of a policy load, or none: the broken one is not kept beside."""
    (alone.root / "net" / "1" / "model.onnx").write_bytes(b"broken")
    assert modelport.promote("net", repository=alone.root).loaded == (2,)


def test_the_first_version_is_promoted_when_it_was_a_candidate(shelf, tmp_path):
    own = type(shelf)(tmp_path / "model_repository")
    own.publish("net", candidate=True)
    done = modelport.promote("net", repository=own.root)
    assert (done.version, done.before, done.loaded) == (1, None, (1,))


def test_a_server_that_starts_in_the_middle_follows(alone, ask):
    """It read the old configuration, and nobody would tell it otherwise."""
    running = modelport.serve(alone.root, http_port=0, grpc_port=0, metrics_port=0)

    def start(text):
        if text.startswith("replaying"):
            running.start()

    try:
        done = modelport.promote("net", repository=alone.root, report=start)
        assert done.server == TEMPORARY and running.ready_versions("net") == (1, 2)
        assert ask(running, "net") == 2
        assert modelport.rollback("net", repository=alone.root).server == running.http_url
        assert ask(running, "net") == 1
    finally:
        running.stop()
