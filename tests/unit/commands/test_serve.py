"""What `serve` would load, and the `curl` line that it prints; starting is tested with real servers elsewhere."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pytest

from modelport.commands.export import export
from modelport.commands.serve import curl_line, servable, serve
from modelport.errors import RepositoryError, VersionNotFoundError
from modelport.repository import config as configs


def body_of(line: str) -> dict:
    return json.loads(shlex.split(line)[-1])


def test_models_with_a_version_that_is_named_and_there_are_served(repository):
    assert servable(repository) == ["mixing", "scores", "traced"]
    (repository / "empty").mkdir()
    (repository / "traced" / "config.pbtxt").write_text("broken {")
    path = repository / "scores" / "config.pbtxt"
    config = configs.read(path)
    configs.set_versions(config, [9])
    path.write_text(configs.text(config))
    assert servable(repository) == ["mixing"]


def test_a_server_is_made_for_them_and_not_started(repository):
    server = serve(repository, http_port=0, grpc_port=0, metrics_port=0)
    assert not server.running and server.repository == repository


@pytest.mark.parametrize("content", ["none", "only configurations"])
def test_a_repository_with_nothing_to_serve_is_one_clear_error(tmp_path, exported, content):
    """Such as a fresh copy of the project, where the configurations are and the versions are not."""
    root = tmp_path / "model_repository"
    root.mkdir()
    if content != "none":
        (root / "scores").mkdir()
        shutil.copy(exported / "scores" / "config.pbtxt", root / "scores")
    with pytest.raises(VersionNotFoundError) as caught:
        serve(root)
    assert "modelport demo" in caught.value.fix


def test_a_missing_repository_is_one_clear_error(tmp_path):
    with pytest.raises(RepositoryError):
        serve(tmp_path / "nowhere")


def test_the_curl_line_asks_with_one_golden_row(repository):
    for name in ("mixing", "traced"):
        shutil.rmtree(repository / name)
    line = curl_line(repository, "http://127.0.0.1:8000")
    assert shlex.split(line)[:3] == ["curl", "-s", "http://127.0.0.1:8000/v2/models/scores/infer"]
    (tensor,) = body_of(line)["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"], len(tensor["data"])) == ("x", "FP32", [1, 3], 3)


def test_a_number_per_row_is_sent_with_its_axis(tmp_path, net):
    export(
        net(lambda net, x: x * 2), name="s", repository=tmp_path / "r", format="torchscript",
        example_inputs={"x": np.arange(8, dtype=np.float32)},
    )  # fmt: skip
    (tensor,) = body_of(curl_line(tmp_path / "r", "http://h"))["inputs"]
    assert (tensor["shape"], tensor["data"]) == ([1, 1], [0.0])


def test_what_json_cannot_carry_or_is_too_long_is_left_out(tmp_path, net):
    for name, array in (("half", np.ones((4, 3), np.float16)), ("long", np.ones((4, 100), np.float32))):
        export(
            net(lambda net, x: x), name=name, repository=tmp_path / "r", format="torchscript",
            example_inputs={"x": array * np.arange(1, 5)[:, None].astype(array.dtype)},
        )  # fmt: skip
    assert servable(tmp_path / "r") == ["half", "long"]
    assert curl_line(tmp_path / "r", "http://h") == ""


def test_damaged_evidence_does_not_matter(repository):
    for path in repository.rglob("golden.npz"):
        path.write_bytes(b"")
    assert curl_line(repository, "http://h") == ""
