"""requirements.lock fits pyproject.toml on every supported Python, and holds versions only."""

from __future__ import annotations

import re

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PYTHONS = ("3.10", "3.11", "3.12")
EXTRAS = ("export", "server", "gateway", "bench", "samples", "dev")


def locked_for(lines, python):
    """Name -> version for one Python version."""
    found = {}
    for line in lines:
        requirement, _, marker = line.partition(" ; ")
        if not marker or Marker(marker).evaluate({"python_version": python}):
            name, _, version = requirement.partition("==")
            assert name not in found, f"{name} twice for Python {python}"
            found[canonicalize_name(name)] = version
    return found


@pytest.fixture(scope="module")
def lines(root):
    return [line for line in (root / "requirements.lock").read_text().splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def wanted(root):
    """What pyproject.toml asks for, the extras of the lock included."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(t for extra in EXTRAS for t in project["optional-dependencies"][extra])]
    return [Requirement(text) for text in texts]


def test_every_line_is_one_exact_version(lines):
    """No hashes of local builds, no addresses, no ranges."""
    shape = re.compile(r'[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version == "3\.1\d"( or python_version == "3\.1\d")*)?')
    assert [line for line in lines if not shape.fullmatch(line)] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_the_project_on_each_python(lines, wanted, python):
    locked = locked_for(lines, python)
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        version = locked.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), f"{requirement}: locked is {version}; make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_what_must_not_drift(lines, python):
    """numpy 2 breaks the embedded server silently; torch is the build that everything was tried with."""
    locked = locked_for(lines, python)
    assert (locked["numpy"], locked["torch"]) == ("1.26.4", "2.13.0")


def test_torchs_cuda_packages_are_left_to_torch(lines):
    """With them in the lock, a CPU build of torch would drag several GB along."""
    assert [line for line in lines if re.match(r"nvidia-(?!pytriton)|triton==|cuda-", line)] == []
