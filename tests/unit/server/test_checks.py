"""Every reason not to start is found before the start, and all of them are told together."""

from __future__ import annotations

import pytest

from modelport.errors import EnvironmentUnfitError, InvalidNameError, RepositoryError
from modelport.server import checks, toolchain
from modelport.server.checks import Problem


def test_this_environment_is_fit():
    package, libpython = checks.check_environment()
    assert package.server.is_file()
    assert libpython.name.startswith("libpython3.")


@pytest.mark.parametrize(("version", "fits"), [("1.26.4", True), ("2.0.0", False), ("2.3.1", False), ("10.0", False)])
def test_numpy_2_is_refused_with_the_reason(version, fits):
    problem = checks.numpy_problem(version)
    assert (problem is None) == fits
    if problem:
        assert version in problem.what
        assert "wrong memory" in problem.why
        assert "numpy>=1.26,<2" in problem.fix


@pytest.mark.parametrize(("version", "fits"), [("2.35", True), ("2.41", True), ("2.34", False), ("", False)])
def test_an_old_c_library_is_refused(version, fits):
    assert (checks.glibc_problem(version) is None) == fits


def test_a_missing_package_and_a_missing_stub_are_told_apart(tmp_path):
    assert "not installed" in checks.package_problem(None).what
    package = toolchain.package_files(tmp_path / "pytriton", "3.99")
    assert "not installed" in checks.package_problem(package, "3.99").what
    package.server.parent.mkdir(parents=True)
    package.server.touch()
    other = package.stub.parent.parent / "3.8"
    other.mkdir(parents=True)
    problem = checks.package_problem(package, "3.99")
    assert "no Python stub for Python 3.99" in problem.what
    assert "3.8" in problem.why


def test_a_missing_libpython_names_the_debian_package():
    assert "apt-get install libpython3.11" in checks.libpython_problem(None, "3.11").fix


def test_a_module_named_model_on_the_path_is_refused(tmp_path):
    assert checks.shadow_problem([str(tmp_path)]) is None
    (tmp_path / "model.py").touch()
    assert str(tmp_path / "model.py") in checks.shadow_problem([str(tmp_path)]).what


def test_a_cache_folder_that_a_shell_would_split_is_refused(tmp_path):
    assert checks.cache_problem(tmp_path) is None
    assert "XDG_CACHE_HOME" in checks.cache_problem(tmp_path / "my cache").fix


def test_all_problems_are_in_one_error():
    problems = [Problem(what=f"what {n}", why=f"why {n}", fix=f"fix {n}") for n in range(3)]
    checks.raise_all([])
    with pytest.raises(EnvironmentUnfitError, match="for 3 reasons") as caught:
        checks.raise_all(problems)
    assert all(f"{part} {n}" in str(caught.value) for n in range(3) for part in ("what", "why", "fix"))
    with pytest.raises(EnvironmentUnfitError) as caught:
        checks.raise_all(problems[:1])
    assert (caught.value.what, caught.value.why, caught.value.fix) == ("what 0", "why 0", "fix 0")


@pytest.mark.parametrize("name", ["with blank", "semi;colon", "$(id)", "ümlaut", "quote'"])
def test_a_repository_path_that_a_shell_would_read_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InvalidNameError, match="repository path"):
        checks.check_repository(tmp_path / name)
    with pytest.raises(InvalidNameError, match="state folder's path"):
        checks.check_state_folder(tmp_path / name)
    assert checks.check_repository(tmp_path) == tmp_path.resolve()
    assert checks.check_state_folder(tmp_path / "later") == tmp_path.resolve() / "later"


def test_a_repository_that_is_a_file_or_missing_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for name in ("file", "missing"):
        with pytest.raises(RepositoryError, match="is not a folder"):
            checks.check_repository(tmp_path / name)
