"""The table of releases: whole, sourced, and of one mind with what `modelport doctor` knows of containers."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from modelport.errors import UsageError
from modelport.repository.doctor.targets import TARGETS
from modelport.server.arguments import command
from modelport.server.tracing import options
from modelport.upgrade.conditions import NAMES
from modelport.upgrade.releases import table

ADDRESS = re.compile(r"https://(github\.com/triton-inference-server|docs\.nvidia\.com|docs\.pytorch\.org)/\S+")


def test_every_row_names_where_it_stands():
    known = table()
    for one in known.releases:
        assert ADDRESS.fullmatch(one.source), one
        assert (one.cuda is None) == (one.cuda_source is None)
        assert one.cuda_source is None or one.container.replace(".", "-") in one.cuda_source
        assert (one.backends is None) == (one.onnxruntime is None)
    for change in known.changes:
        assert ADDRESS.fullmatch(change.source), change
        assert change.when in NAMES and change.kind in ("removed", "changed", "mended", "demand")
    assert all(ADDRESS.fullmatch(source) for _, source in known.abilities.values())


def test_releases_are_in_order_and_changes_have_names_of_their_own():
    known = table()
    assert all(first.container < second.container for first, second in pairwise(known.releases))
    names = [change.id for change in known.changes]
    assert len(names) == len(set(names))
    containers = {one.container for one in known.releases}
    assert {change.since for change in known.changes} - {None} <= containers
    assert set(known.added.values()) <= containers


@pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.name)
def test_the_doctor_and_the_table_say_the_same_of_a_container(target):
    assert table().target(table().release(target.name)) == target


@pytest.mark.parametrize("name", ["26.09", "26.09-py3", "2.73", "2.73.0"])
def test_a_release_is_found_by_its_container_and_by_its_version(name):
    assert table().release(name).container == "26.09"


@pytest.mark.parametrize("name", ["99.01", "2.5", "", "latest"])
def test_a_release_that_is_not_in_the_table_is_refused(name):
    with pytest.raises(UsageError, match="nothing is known here about a release"):
        table().release(name)


def test_the_embedded_server_is_given_no_option_that_its_release_does_not_have(tmp_path):
    """The same goes for the table: it would call one of ours unknown."""

    class Tools:
        server = backends = tmp_path
        onnxruntime = None

    words = command(
        Tools(),
        tmp_path,
        tmp_path,
        host="127.0.0.1",
        ports={"HTTP": 1, "gRPC": 2, "metrics": 3},
        secret="s",
        shm_prefix="p",
        extra=options("http://127.0.0.1:4318/v1/traces"),
    )
    names = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    assert names and names <= table().options_of(table().release("24.10"))
