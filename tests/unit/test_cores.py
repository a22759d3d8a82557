"""Cores are counted within the affinity and within every quota above the process."""

from __future__ import annotations

import os

import pytest

from modelport import _cores
from modelport.server import cores

AFFINITY = len(os.sched_getaffinity(0))


@pytest.fixture
def groups(tmp_path):
    """Lays out control groups: what the process says of itself, and files below the mount."""

    def lay(own, files):
        proc = tmp_path / "cgroup"
        proc.write_text(own)
        for name, text in files.items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {"proc": proc, "sys": tmp_path / "sys"}

    return lay


@pytest.mark.parametrize(
    ("own", "files", "quotas"),
    [
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, [1.5], id="version 2"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, [], id="version 2 without a quota"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "50000 100000"}, [4, 0.5], id="above"),
        pytest.param("0::/x\n", {"cpu.max": "200000 100000\n"}, [2.0], id="a container sees its own folder as root"),
        pytest.param(
            "4:cpu,cpuacct:/d\n1:memory:/d\n",
            {"cpu/d/cpu.cfs_quota_us": "100000\n", "cpu/d/cpu.cfs_period_us": "50000\n"},
            [2.0],
            id="version 1",
        ),
        pytest.param(
            "4:cpu,cpuacct:/d\n",
            {"cpu/d/cpu.cfs_quota_us": "-1\n", "cpu/d/cpu.cfs_period_us": "100000\n"},
            [],
            id="version 1 without a quota",
        ),
    ],
)
def test_a_quota_limits_the_cores(groups, own, files, quotas):
    places = groups(own, files)
    assert _cores.quotas(**places) == quotas
    assert _cores.usable(**places) == max(1, int(min([AFFINITY, *quotas])))


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert _cores.usable(proc=tmp_path / "none", sys=tmp_path) == AFFINITY


def test_the_affinity_limits_the_cores():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores.usable() == 1
    finally:
        os.sched_setaffinity(0, before)
