"""Packages that are made in the test, and places to fetch them from without a network."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from modelport.recipes.packages import Package

CONTENT = b"1,2,3\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package that pip finds in a folder; no index is asked."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    files = {
        "tiny_numbers/data/numbers.csv": CONTENT,
        "tiny_numbers-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-numbers\nVersion: 1.0\n",
        "tiny_numbers-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "tiny_numbers-1.0-py3-none-any.whl", "w") as archive:
        record = ""
        for name, content in files.items():
            archive.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(content)}\n"
        archive.writestr("tiny_numbers-1.0.dist-info/RECORD", record + "tiny_numbers-1.0.dist-info/RECORD,,\n")
    return Package(
        kind="wheel",
        name="tiny-numbers",
        version="1.0",
        size_mb=0.1,
        files={"tiny_numbers/data/numbers.csv": DIGEST},
    )


@pytest.fixture
def deb(tmp_path, monkeypatch, require):
    """A Debian package that apt finds in a folder; no other source is known."""
    require("apt-get")
    require("dpkg-deb")
    content, folder = tmp_path / "content", tmp_path / "archive"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "usr/share/tiny").mkdir(parents=True)
    folder.mkdir()
    control = (
        "Package: tiny-numbers\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\n"
        "Description: numbers\n"
    )
    (content / "DEBIAN/control").write_text(control)
    (content / "usr/share/tiny/numbers.csv").write_bytes(CONTENT)
    file = folder / "tiny-numbers_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(content), str(file)], check=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "Packages").write_text(
        f"{control}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n"
    )
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    settings = tmp_path / "apt.conf"
    settings.write_text(f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "-";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    return Package(kind="debian", name="tiny-numbers", size_mb=0.1, files={"usr/share/tiny/numbers.csv": DIGEST})


@pytest.fixture
def content() -> bytes:
    """What the file in either package holds."""
    return CONTENT


@pytest.fixture
def scripts(tmp_path) -> Path:
    """An empty folder for recipes."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    return folder
