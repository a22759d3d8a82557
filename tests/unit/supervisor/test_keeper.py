"""The server is made known, and serves also where the disk refuses that after a new start."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modelport.errors import EnvironmentUnfitError
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
    failed: dict[str, str] = field(default_factory=dict)
    loading: frozenset[str] = frozenset()

    @property
    def state_dir(self):
        return connection.state_folder(self.repository)

    @property
    def handle(self):
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

    def ended(self):
        pass

    def hung(self):
        return False


@pytest.fixture
def server(tmp_path):
    (tmp_path / "repository").mkdir()
    return Server(tmp_path / "repository")


@pytest.fixture
def keeper(server, happened, clock):
    return Keeper(server, Link(), Care(), happened.append, health_url="http://127.0.0.1:4", clock=clock)


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
    keeper.start()
    assert server.running and kinds() == ["not_taken_back", "server_started"]
