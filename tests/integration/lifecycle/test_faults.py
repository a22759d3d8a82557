"""What goes wrong in the middle of a promotion: versions that hang, die or change their mind, Ctrl-C, a dead server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import modelport
from modelport._process import wait_until
from modelport.errors import ModelportError, ServerTimeoutError, VerificationError
from modelport.lifecycle.settle import settle
from modelport.repository import events, journal
from modelport.server import EmbeddedServer, connection, stubs

ON_TRIAL = 'args["model_name"].endswith(".trial")'
SOAK = pytest.mark.soak
STEPS = (
    pytest.param("comparing", marks=SOAK),
    "loading version 2 on trial",
    pytest.param("replaying", marks=SOAK),
    pytest.param("switching", marks=SOAK),
    "asking for version 2 by its number",
)


def promote(shelf, net, **options):
    return modelport.promote(net, repository=shelf.root, **options)


def stub_of(server, model, version):
    [stub] = [stub for stub in stubs.find(server.handle, model) if stub.version == version]
    return stub.pid


@pytest.fixture(scope="module")
def isolated():
    """Processes of ONNX models are killed and stopped here."""
    return True


@pytest.fixture
def snake(shelf, server, net):
    """A Python model whose version 1 is served."""
    name = f"{net}py"
    shelf.publish(name, python={})
    server.load(name)
    yield name
    if server.running:
        server.unload(name)


def test_a_version_that_hangs_on_trial_is_ended_after_the_time_it_may_take(shelf, server, snake, callers, untouched):
    shelf.publish(snake, python={"initialize": "time.sleep(600)"})
    with callers(server, snake) as load:
        with pytest.raises(ServerTimeoutError, match="still loading after 2 s"):
            promote(shelf, snake, timeout_s=2)
        load.wait(50)
    assert load.violations([1]) == []
    untouched(server, snake, (1,))
    shelf.publish(snake, python={})
    assert promote(shelf, snake).version == 3


def test_a_version_that_hangs_only_when_it_is_to_serve(shelf, server, snake, callers, untouched):
    shelf.publish(snake, python={"initialize": f"time.sleep(0 if {ON_TRIAL} else 600)"})
    with callers(server, snake) as load:
        with pytest.raises(ServerTimeoutError):
            promote(shelf, snake, timeout_s=2)
        load.wait(50)
    assert load.violations([1]) == []
    untouched(server, snake, (1,))


def test_a_version_that_answers_otherwise_when_it_serves_is_taken_back(shelf, server, snake, ask, untouched):
    shelf.publish(
        snake, value=2, python={"initialize": f"self.odd = 0 if {ON_TRIAL} else 1", "execute": "x = x + self.odd"}
    )
    with pytest.raises(VerificationError) as caught:
        promote(shelf, snake)
    assert caught.value.why.endswith("version 1 serves on")
    assert ask(server, snake) == 1
    untouched(server, snake, (1,))
    assert events.latest(shelf.root, 1)[0].kind == "promote_failed"


def test_a_version_that_dies_while_it_is_tried(shelf, server, snake, callers, untouched):
    shelf.publish(snake, python={"execute": "os._exit(3)"})
    with callers(server, snake) as load:
        with pytest.raises(ModelportError, match=r"model '.*\.trial'") as caught:
            promote(shelf, snake)
        load.wait(50)
    assert load.violations([1]) == []
    assert "version 1 serves on" in caught.value.why and "publish a corrected one" in caught.value.fix
    untouched(server, snake, (1,))
    shelf.publish(snake, python={})
    assert promote(shelf, snake).version == 3


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=SOAK)])
def test_going_back_while_the_serving_version_is_broken(shelf, server, net, ask, how):
    shelf.publish(net)
    promote(shelf, net)
    os.kill(stub_of(server, net, 2), how)
    started = time.monotonic()
    done = modelport.rollback(net, repository=shelf.root)
    assert time.monotonic() - started < 10
    assert (done.version, ask(server, net)) == (1, 1)
    assert server.ready_versions(net) == shelf.named(net) == (1,)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_going_back_to_a_version_whose_process_died(shelf, server, net, callers, how):
    """It is loaded, and Triton calls it ready: it is loaded anew before it serves."""
    shelf.publish(net)
    promote(shelf, net)
    os.kill(stub_of(server, net, 1), how)
    seen = []
    with callers(server, net, pinned=2) as load:
        done = modelport.rollback(net, repository=shelf.root, report=seen.append)
        load.wait(40)
    assert done.version == 1 and any("does not answer as it should" in line for line in seen)
    unversioned = [one for one in load.answers if one.pinned is None]
    assert {one.value for one in unversioned} == {1, 2} and not any(one.error for one in unversioned)
    assert server.ready_versions(net) == (1,)


def test_going_back_to_a_version_that_lost_one_of_its_processes(shelf, server, ask, net):
    """The other one answers the golden request, and every second caller would get an error."""
    pair = f"{net}pair"
    shelf.publish(pair, instance_count=2)
    server.load(pair)
    shelf.publish(pair)
    promote(shelf, pair)
    first = next(stub for stub in stubs.find(server.handle, pair) if stub.version == 1)
    os.kill(first.pid, signal.SIGKILL)
    assert wait_until(lambda: not first.lives(), timeout_s=5)
    modelport.rollback(pair, repository=shelf.root)
    assert [ask(server, pair) for _ in range(20)] == [1] * 20
    server.unload(pair)


def test_promoting_the_version_that_serves_proves_it_and_changes_nothing(shelf, server, net, ask, untouched, command):
    shelf.publish(net)
    promote(shelf, net)
    before = (shelf.root / net / "config.pbtxt").stat()
    for words in ([f"{net}/2"], [net, "2"]):
        said = command("promote", *words)
        assert said.returncode == 0 and f"{net} version 2 serves already" in said.stdout
    assert (shelf.root / net / "config.pbtxt").stat() == before
    untouched(server, net, (1, 2))
    dead = stub_of(server, net, 2)
    os.kill(dead, signal.SIGKILL)
    assert wait_until(lambda: dead not in {stub.pid for stub in stubs.find(server.handle, net)}, timeout_s=5)
    assert promote(shelf, net, version=2).before == 2
    assert ask(server, net) == 2, "a dead one is loaded anew"


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_at_each_step_leaves_the_old_version_serving(shelf, server, net, callers, untouched, step):
    shelf.publish(net)

    def interrupt(text):
        if text.startswith(step):
            raise KeyboardInterrupt

    with callers(server, net) as load:
        with pytest.raises(KeyboardInterrupt):
            promote(shelf, net, report=interrupt)
        load.wait(20)
    assert load.violations([1, 2]) == []
    untouched(server, net, (1,))


def test_ctrl_c_while_it_is_taken_back_is_made_good_by_whoever_watches(shelf, server, net, ask, untouched):
    shelf.publish(net)

    def interrupt(text):
        if text.startswith(("asking for version 2 by", "taking it back")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(shelf, net, report=interrupt)
    assert shelf.named(net) == (1,) and server.ready_versions(net) == (1, 2), "the server does not follow the files"
    assert journal.to_load(shelf.root) == [net]
    assert settle(shelf.root, server.handle) == [net]
    untouched(server, net, (1,))
    assert ask(server, net) == 1
    assert settle(shelf.root, server.handle) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_takes_back_what_it_began(shelf, server, snake, ask, untouched, how):
    """While the server loads the version on trial."""
    shelf.publish(snake, python={"initialize": "time.sleep(5)"})
    line = [sys.executable, "-m", "modelport", "promote", snake, "--repository", str(shelf.root)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        trial = f"{snake}.trial"
        assert wait_until(lambda: any(s.model == trial for s in server.index()), timeout_s=30)
        process.send_signal(how)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + how, said
    untouched(server, snake, (1,))
    assert ask(server, snake) == 1


@pytest.mark.parametrize("step", STEPS[2:])
def test_a_server_that_dies_in_the_middle(tmp_path, shelf, step):
    """The command says so, and the files are as before."""
    own = type(shelf)(tmp_path / "repository")
    own.publish("one")
    own.publish("one")
    with EmbeddedServer(own.root, http_port=0, grpc_port=0, metrics_port=0) as running:
        connection.write(running.state_dir, running.handle)

        def kill(text):
            if text.startswith(step):
                os.kill(running.pid, signal.SIGKILL)
                assert wait_until(lambda: not running.running, timeout_s=10)

        with pytest.raises(ModelportError) as caught:
            modelport.promote("one", repository=own.root, report=kill)
    assert "the server ended meanwhile" in caught.value.why
    assert own.named("one") == (1,) and journal.pending(own.root) == []
