"""A running server is found by its file; a file that is not true any more finds nothing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from modelport.errors import EnvironmentUnfitError, ServerTimeoutError
from modelport.server import connection
from modelport.server.handle import ServerHandle
from modelport.server.process_id import ProcessId


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()
    return root.resolve()


@pytest.fixture
def handle(repository, free_port):
    """A server whose process is this one, and that does not answer."""
    return ServerHandle(
        repository=repository,
        host="127.0.0.1",
        http_port=free_port(),
        grpc_port=free_port(),
        metrics_port=free_port(),
        secret="word",
        server=ProcessId.of(),
        shm_prefix="modelport_0_",
        trial=repository.parent / "trial",
        supervisor=ProcessId.of(os.getppid()),
        health_url="http://127.0.0.1:1",
    )


def ended():
    """A process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = ProcessId.of(process.pid)
        process.communicate(b"\n")
    return found


def test_what_was_written_is_read_again_and_only_its_owner_may_read_it(repository, handle):
    state = connection.state_folder(repository)
    path = connection.write(state, replace(handle, log=None))
    assert connection.read(state) == handle
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in state.iterdir()] == ["server.json"]
    assert handle.secret not in repr(handle)


def test_no_file_and_a_damaged_one_are_no_server(repository, handle):
    assert connection.find(repository) is None
    path = connection.write(connection.state_folder(repository), handle)
    whole = path.read_text()
    no_process = json.dumps(json.loads(whole) | {"server": None})
    for text in ("", "{", "[]", "null", "{}", whole[: len(whole) // 2], whole.replace("http_port", "port"), no_process):
        path.write_text(text)
        assert connection.find(repository) is None


def test_a_file_that_cannot_be_read_is_not_taken_for_no_server(repository, handle):
    """Another user's service may run."""
    path = connection.write(connection.state_folder(repository), handle)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(EnvironmentUnfitError, match="cannot be told"):
        connection.find(repository)


def test_a_process_that_ended_and_one_that_got_its_number_are_no_server(repository, handle):
    state = connection.state_folder(repository)
    connection.write(state, replace(handle, server=ended()))
    assert connection.find(repository) is None
    connection.write(state, replace(handle, server=ProcessId(pid=os.getpid(), started=handle.server.started + "1")))
    assert connection.find(repository) is None


def test_a_repository_that_was_moved_has_no_server(repository, handle):
    connection.write(connection.state_folder(repository), replace(handle, repository=repository / "elsewhere"))
    assert connection.find(repository) is None


def test_a_server_that_lives_and_does_not_answer_is_an_error(repository, handle):
    connection.write(connection.state_folder(repository), handle)
    with pytest.raises(ServerTimeoutError, match=f"process {os.getpid()}"):
        connection.find(repository, timeout_s=0.1)


def test_only_the_file_of_the_same_server_is_removed(repository, handle):
    state = connection.state_folder(repository)
    path = connection.write(state, handle)
    connection.remove(state, replace(handle, server=ended()))
    assert path.exists()
    connection.remove(state, handle)
    assert not path.exists()
    connection.remove(state, handle)


def test_a_state_folder_that_cannot_be_written_is_an_error(tmp_path, handle):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnfitError, match="cannot be written"):
        connection.write(tmp_path / "file", handle)


def test_the_file_has_no_more_than_the_handle(repository, handle):
    """Whatever is added to the handle is written; nothing else is."""
    fields = json.loads(connection.write(connection.state_folder(repository), handle).read_text())
    assert set(fields) == set(ServerHandle.__dataclass_fields__)
