"""A version that keeps the serving one from being loaded leaves the policy, and nothing points at it any more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelport.repository import config as configs
from modelport.repository import drops, events, record, switch
from modelport.repository.record import Record
from modelport.repository.route import Route, Share
from modelport.repository.shed import shed

CONFIG = 'name: "m" backend: "onnxruntime" max_batch_size: 0 version_policy { specific { versions: [1, 2, 3] } }'


@pytest.fixture
def repository(tmp_path):
    """A model of which version 3 serves and 1 and 2 are loaded as well."""
    root = tmp_path / "repository"
    for version in "123":
        (root / "m" / version).mkdir(parents=True)
    path = root / "m" / "config.pbtxt"
    path.write_text(CONFIG)
    known = Record(aliases={"old": 1, "stable": 2}, tags={1: ("x",)}, way_back=(1, 2), highest=3)
    switch.write(root, "m", configs.read(path), known)
    return root


def test_it_leaves_the_policy_the_way_back_and_its_aliases(repository):
    assert shed(repository, "m", {1: "no such operator"}) == {1: "no such operator"}
    config, known = switch.read(repository, "m")
    assert configs.versions_of(config) == (2, 3)
    assert known == Record(aliases={"stable": 2}, tags={1: ("x",)}, way_back=(2,), retired=(1,), highest=3)
    assert "no such operator" in drops.refusal(repository, "m", 1)
    (told,) = events.latest(repository, 9)
    assert (told.kind, told.model, told.version, told.level) == ("taken_out", "m", 1, "error")
    assert "no such operator" in told.text and "alias old" in told.text and "version 3" in told.text


def test_its_share_of_the_route_and_that_of_its_aliases_go_to_the_serving_version(repository):
    config, known = switch.read(repository, "m")
    shares = tuple(Share(target=name, percent=part) for name, part in (("1", 20.0), ("old", 30.0), ("stable", 50.0)))
    switch.write(repository, "m", config, replace(known, route=Route(shares=shares, shadow="1")))
    shed(repository, "m", {1: "bad"})
    assert record.read(repository / "m" / "config.pbtxt").route.words() == "3=50 stable=50"
    assert "its share of the route goes to the serving version" in events.latest(repository, 1)[0].text


def test_versions_without_a_folder_leave_as_well(repository):
    (repository / "m" / "2").rmdir()
    assert shed(repository, "m", {}) == {2: "it has no folder"}
    assert record.read(repository / "m" / "config.pbtxt").way_back == (1,)


def test_also_above_the_serving_one_which_is_the_highest_with_a_folder(repository):
    (repository / "m" / "3").rmdir()
    assert shed(repository, "m", {}) == {3: "it has no folder"}
    assert configs.versions_of(switch.read(repository, "m")[0]) == (1, 2)


@pytest.mark.parametrize("failed", [{}, {3: "bad"}, {1: "bad", 3: "bad"}, {7: "not named"}])
def test_nothing_changes_where_the_serving_version_failed_or_nothing_did(repository, failed):
    before = (repository / "m" / "config.pbtxt").read_bytes()
    assert shed(repository, "m", failed) == {}
    assert (repository / "m" / "config.pbtxt").read_bytes() == before
    assert events.latest(repository, 9) == [] and drops.refusal(repository, "m", 1) is None


def test_another_policy_than_named_versions_is_left_alone(repository):
    path = repository / "m" / "config.pbtxt"
    path.write_text('name: "m" backend: "onnxruntime" version_policy { all { } }')
    assert shed(repository, "m", {1: "bad"}) == {}
    assert "all" in path.read_text()
