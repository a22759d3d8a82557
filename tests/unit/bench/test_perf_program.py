"""perf_analyzer is found where it is, and what only has its name is refused."""

from __future__ import annotations

import pytest

from modelport.bench import perf_program
from modelport.errors import EnvironmentUnfitError


def script(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def elsewhere(tmp_path):
    """A folder to look in, where this environment's programs are not."""
    return tmp_path / "bin"


def test_without_one_the_message_says_what_to_do(elsewhere, tmp_path):
    with pytest.raises(EnvironmentUnfitError) as caught:
        perf_program.find(tmp_path / "data", path=str(elsewhere))
    assert caught.value.fix == "modelport bench --install" and caught.value.why


def test_the_one_on_path_is_found(elsewhere, tmp_path):
    path = script(elsewhere / "perf_analyzer", "echo 'Perf Analyzer Version 2.60.0 (commit 1234567)'")
    found = perf_program.find(tmp_path / "data", path=str(elsewhere))
    assert (found.path, found.version, found.libraries) == (path, "2.60.0 (commit 1234567)", None)
    assert len(found.sha256) == 64


def test_the_installed_one_comes_first_and_finds_its_libraries(elsewhere, tmp_path):
    script(elsewhere / "perf_analyzer", "echo Perf Analyzer Version 1")
    own = script(tmp_path / "data" / "perf_analyzer" / "perf_analyzer", 'echo "Perf Analyzer $LD_LIBRARY_PATH"')
    (own.parent / "lib").mkdir()
    (own.parent / "installed.json").write_text('{"wheel": "tritonclient 2.50.0"}')
    found = perf_program.find(tmp_path / "data", path=str(elsewhere))
    assert (found.path, found.version) == (own, "tritonclient 2.50.0")
    assert found.environment()["LD_LIBRARY_PATH"].startswith(str(own.parent / "lib"))


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        ("echo 'p: error while loading shared libraries: libb64.so.0d: cannot open'; exit 127", "libb64-0d"),
        ("echo 'p: error while loading shared libraries: libnew.so.9: cannot open'; exit 127", "libnew.so.9"),
        ("echo 'version GLIBC_2.38 not found'; exit 1", "--install"),
        ("echo something else", "--install"),
    ],
)
def test_one_that_does_not_run_is_refused_with_its_words(elsewhere, tmp_path, body, fix):
    script(elsewhere / "perf_analyzer", body)
    with pytest.raises(EnvironmentUnfitError) as caught:
        perf_program.find(tmp_path / "data", path=str(elsewhere))
    assert fix in caught.value.fix
    assert caught.value.why


def test_the_data_folder_follows_the_standard(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert perf_program.data_folder() == tmp_path / "modelport"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert perf_program.data_folder() == tmp_path / ".local" / "share" / "modelport"
