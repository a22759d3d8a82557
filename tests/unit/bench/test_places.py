"""Where a model is measured, and which version: also one that does not serve."""

from __future__ import annotations

import pytest

from modelport.bench import places
from modelport.bench.places import Wanted
from modelport.errors import ModelNotFoundError, UsageError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.repository.config import EnsembleStep


def test_without_a_number_the_serving_version_is_meant(shelve, stand, shelf):
    for _ in range(3):
        shelve()
    stand([1, 2])
    assert places.wanted(shelf, "net", None) == Wanted(model="net", version=2)
    assert str(places.wanted(shelf, "net", 3)) == "net/3"


def test_what_is_not_there_is_told(shelve, stand, shelf):
    shelve()
    stand([])
    with pytest.raises(VersionNotFoundError, match="no version of 'net' serves") as caught:
        places.wanted(shelf, "net", None)
    assert "net/1" in caught.value.fix
    with pytest.raises(VersionNotFoundError):
        places.wanted(shelf, "net", 7)
    with pytest.raises(ModelNotFoundError):
        places.wanted(shelf, "other", None)


def test_a_temporary_repository_has_the_wanted_versions_and_changes_nothing(shelve, stand, shelf, tmp_path):
    for _ in range(3):
        shelve()
    stand([3])
    (shelf / "net" / "labels.txt").write_text("a\n")
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    wanted = [Wanted(model="net", version=1), Wanted(model="net", version=3)]
    made = places.shelve(shelf, wanted, tmp_path / "made")
    assert sorted(path.name for path in (made / "net").iterdir()) == ["1", "3", "config.pbtxt", "labels.txt"]
    assert configs.versions_of(configs.read(made / "net" / "config.pbtxt")) == (1, 3)
    assert (made / "net" / "1" / "model.onnx").read_bytes() == b"weights"
    assert {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()} == before


def test_an_ensemble_brings_its_steps(shelve, stand, shelf, tmp_path):
    shelve()
    stand([1])
    spec = configs.spec_of(configs.read(shelf / "net" / "config.pbtxt"))
    step = EnsembleStep(model="net", inputs={"x": "x"}, outputs={"y": "y"})
    for name, inner in (("pipe", "net"), ("outer", "pipe")):
        (shelf / name / "1").mkdir(parents=True)
        own = configs.build_ensemble(spec, [step], versions=[1])
        own.name, own.ensemble_scheduling.step[0].model_name = name, inner
        (shelf / name / "config.pbtxt").write_text(configs.text(own))
    made = places.shelve(shelf, [Wanted(model="outer", version=1)], tmp_path / "made")
    assert sorted(path.name for path in made.iterdir()) == ["net", "outer", "pipe"]


@pytest.mark.parametrize(
    ("url", "protocol", "secure", "address"),
    [
        ("http://127.0.0.1:8000/", "http", False, "127.0.0.1:8000"),
        ("https://there", "http", True, "there"),
        ("grpc://[::1]:8001", "grpc", False, "[::1]:8001"),
        ("grpcs://there:443", "grpc", True, "there:443"),
    ],
)
def test_a_url_says_how_the_server_is_reached(url, protocol, secure, address):
    place = places.at(url)
    assert (place.protocol, place.secure, place.address, place.kind) == (protocol, secure, address, "url")
    assert place.headers == {}


@pytest.mark.parametrize("url", ["ftp://there", "127.0.0.1:8000", "http://", "http://me:secret@there", ""])
def test_anything_else_is_no_url(url):
    with pytest.raises(UsageError) as caught:
        places.at(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_tells_nothing_of_itself_is_no_failure():
    assert places.tell(places.at("http://127.0.0.1:1"), "/v2") is None
    assert places.tell(places.at("grpc://127.0.0.1:1"), "/v2") is None
