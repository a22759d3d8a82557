"""No tracked file holds a path of the machine it was written on, or the address of a package registry."""

from __future__ import annotations

import re
import subprocess

import pytest

# Names are put together here so that this file does not break its own rule.
PATHS = r"(?<![\w.])/(?:root|home/\w+|work|Users/\w+|opt/wheels|opt/pypi)(?:/|\b)(?!\w)"
NAMES = ["pypi org", "pythonhosted org", "registry npmjs", "deb debian org", "download pytorch org", "files python"]
HOSTS = "|".join([*(name.replace(" ", r"\.") for name in NAMES), "index-url[ =]+https?:"])
# The images' own registry is the name by which docker knows them, not an address of ours.
FORBIDDEN = re.compile(f"{PATHS}|{HOSTS}")
FOREIGN = ("tests/data/", "LICENSE")


def found_in(text: str) -> list[str]:
    """The forbidden pieces of a text."""
    return [match.group() for match in FORBIDDEN.finditer(text)]


def tracked_files(root):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True).stdout
    return [root / name for name in listed.split("\0") if name and not name.startswith(FOREIGN)]


def test_tracked_files_name_no_machine_and_no_registry(root, require):
    require("git")
    require("a git checkout", present=(root / ".git").exists())
    found = {}
    for path in tracked_files(root):
        if not path.is_file():  # removed in the work tree
            continue
        pieces = found_in(path.read_bytes().decode("utf-8", "ignore"))
        if pieces:
            found[str(path.relative_to(root))] = pieces
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "cd /" + "root/project",
        "see /" + "work/main/x.py",
        "/" + "home/jane/models",
        "https://pypi" + ".org/simple",
        "--extra-index-url https" + "://example.com/simple",
    ],
)
def test_the_pattern_finds_what_it_should(text):
    assert found_in(text)


@pytest.mark.parametrize("text", ["src/work/thing", "/models/work", "--extra-index-url ADDRESS", "a rooted /rooted"])
def test_the_pattern_leaves_the_rest_alone(text):
    assert not found_in(text)
