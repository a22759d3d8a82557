"""The server is made known, and serves also where the disk refuses that after a new start."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modelport.errors import EnvironmentUnfitError, ServerDiedError
from modelport.repository import journal
from modelport.server import connection
from modelport.server.handle import ServerHandle
from modelport.server.process_id import ProcessId
from modelport.supervisor.keeper import TELL_S, Keeper
from modelport.supervisor.link import Link
from modelport.supervisor.signals import Signals


@dataclass
class Server:
    """In the place of `EmbeddedServer`: this process."""

    repository: Path
    running: bool = False
    starts: int = 0
    isolated: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    loading: frozenset[str] = frozenset()
    ended: int = 0

    @property
    def state_dir(self):
        return connection.state_folder(self.repository)

    @property
    def handle(self):
        if not self.running:
            raise ServerDiedError("the server ended", returncode=self.ended)
        ports = {"http_port": 1, "grpc_port": 2, "metrics_port": 3}
        me = ProcessId.of()
        return ServerHandle(
            repository=self.repository, host="127.0.0.1", secret=str(self.starts), server=me, shm_prefix="x_", **ports
        )

    def start(self):
        self.running, self.starts = True, self.starts + 1

    def stop(self, **options):
        self.running = False


class Care:
    """In the place of `Care`."""

    def started(self, handle, failed):
        self.failed = failed

    failed: dict[str, str]
    loading_for_ever = ""

    def ended(self):
        pass

    def hung(self):
        return False

    def stuck(self):
        said, self.loading_for_ever = self.loading_for_ever, ""
        return said


@pytest.fixture
def server(tmp_path):
    (tmp_path / "repository").mkdir()
    return Server(tmp_path / "repository")


@pytest.fixture
def care():
    return Care()


@pytest.fixture
def keeper(server, care, happened, clock):
    return Keeper(server, Link(), care, happened.append, health_url="http://127.0.0.1:4", clock=clock)


def blocked(server):
    """A folder lies where the file is to be."""
    path = server.state_dir / connection.SERVER_FILE
    path.unlink(missing_ok=True)
    (path / "in").mkdir(parents=True)
    return path


def turn(keeper, rounds=2):
    """Keep the server for some rounds."""
    with Signals() as signals:
        left = iter(range(rounds))
        signals.stop.wait = lambda _: next(left, None) is None
        keeper.keep(signals, 0.0)


def test_a_service_that_cannot_be_made_known_does_not_start(server, keeper):
    blocked(server)
    with pytest.raises(EnvironmentUnfitError, match=r"server\.json cannot be written"):
        keeper.start()
    assert not server.running


def test_a_server_that_was_started_again_serves_and_is_made_known_once_it_can_be(server, keeper, kinds, clock):
    keeper.start()
    path = blocked(server)
    server.running = False
    turn(keeper, 4)
    assert server.running and kinds() == ["server_started", "server_died", "not_made_known", "server_restarted"]
    clock.now += TELL_S
    turn(keeper)
    assert kinds()[4:] == [], "it is said once"
    shutil.rmtree(path)
    turn(keeper)
    assert connection.read(server.state_dir) is None
    clock.now += TELL_S
    turn(keeper)
    assert connection.read(server.state_dir).secret == "2"


def test_a_note_that_cannot_be_read_does_not_keep_the_service_from_starting(server, keeper, kinds):
    (server.state_dir / "journal").mkdir(parents=True)
    (server.state_dir / "journal" / "m.json").write_text("torn")
    (server.state_dir / "journal" / "n.load").touch()
    keeper.start()
    assert journal.to_load(server.repository) == [], "a new server has loaded what the files say"
    assert server.running and kinds() == ["not_taken_back", "server_started"]


@pytest.mark.parametrize(("number", "isolated"), [(signal.SIGFPE, True), (signal.SIGKILL, False)])
def test_after_crashes_in_a_row_models_get_processes_of_their_own(server, keeper, kinds, number, isolated):
    """An ONNX model may be why; somebody who kills the server is no reason."""
    keeper.start()
    for crash in range(1, 4):
        assert not server.isolated, crash
        server.running, server.ended = False, -number
        turn(keeper)
    assert server.running and server.isolated == isolated
    assert ("isolated" in kinds()) == isolated and kinds().count("server_restarted") == 3


def test_a_load_that_hangs_in_the_server_ends_with_it_and_gets_a_process_of_its_own(server, care, keeper, kinds):
    keeper.start()
    care.loading_for_ever = "version 2 of 'm' has been loading"
    turn(keeper)
    assert (server.running, server.starts, server.isolated) == (True, 2, True)
    assert kinds() == ["server_started", "isolated", "server_died", "server_restarted"]
