"""What a running server has loaded counts for aliases and for pruning, whatever the files say by now."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from modelport.commands.prune import prune
from modelport.commands.tagging import alias
from modelport.errors import ServerTimeoutError, UsageError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository import switch
from modelport.repository.manifest import Manifest
from modelport.repository.record import Record
from modelport.server import EmbeddedServer, connection

ECHO = """
inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
return [pb_utils.InferenceResponse([pb_utils.Tensor("y", array)]) for array in inputs]
"""


@pytest.fixture(scope="module")
def four(zoo):
    """Versions 1 to 4 of `echo`; 2 and 3 are loaded."""
    first = zoo.python("echo", "x:FP32[1]", "y:FP32[1]", ECHO).parent
    spec = configs.spec_of(configs.read(first.parent / "config.pbtxt"))
    for version in (1, 2, 3, 4):
        folder = first.parent / str(version)
        if version > 1:
            shutil.copytree(first, folder, ignore=shutil.ignore_patterns("manifest.json"))
        files = manifests.records(folder)
        about = {"format": "python", "backend": "python", "framework": "none", "created": ""}
        manifests.write(folder, Manifest(spec=spec, version=version, files=files, **about))
    point(zoo.root, [2, 3])
    return zoo.root


def point(repository, versions, **record) -> None:
    """Write what is loaded, without telling any server."""
    config, _ = switch.read(repository, "echo")
    configs.set_versions(config, versions)
    switch.write(repository, "echo", config, Record(**record))


@pytest.fixture(scope="module")
def server(four) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(four, http_port=0, grpc_port=0, metrics_port=0) as running:
        connection.write(running.state_dir, running.handle)
        yield running
        connection.remove(running.state_dir, running.handle)


def test_an_alias_points_at_what_the_server_has_loaded(four, server):
    assert server.handle.ready_versions("echo") == (2, 3)
    assert alias("echo", {"stable": 2, "latest": 3}, repository=four) == {"latest": 3, "stable": 2}
    alias("echo", remove=["stable", "latest"], repository=four)


def test_an_alias_at_what_the_server_has_not_loaded_is_refused(four, server):
    """Though the configuration names it."""
    point(four, [1, 2, 3])
    with pytest.raises(UsageError, match="version 1 of 'echo' is not loaded") as caught:
        alias("echo", {"old": 1}, repository=four)
    assert server.http_url in caught.value.why and "2, 3" in caught.value.why
    assert switch.read(four, "echo")[1].aliases == {}
    point(four, [2, 3])


def test_what_the_server_has_loaded_is_not_deleted(four, server):
    """Though the configuration does not name it any more."""
    point(four, [3])
    done = prune("echo", keep=0, dry_run=True, repository=four)
    assert list(done.deleted) == [1, 4] and "running server" in done.kept[2]
    point(four, [2, 3])


def test_while_a_server_does_not_answer_nothing_is_decided(four, server, free_port):
    """It may have loaded anything."""
    connection.write(server.state_dir, replace(server.handle, http_port=free_port()))
    try:
        with pytest.raises(ServerTimeoutError):
            prune("echo", keep=0, repository=four)
        with pytest.raises(ServerTimeoutError):
            alias("echo", {"stable": 2}, repository=four)
    finally:
        connection.write(server.state_dir, server.handle)
    assert sorted(path.name for path in (four / "echo").iterdir() if path.is_dir()) == ["1", "2", "3", "4"]
