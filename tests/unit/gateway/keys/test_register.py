"""The register: two writers at once both count, who is killed leaves the old or the new one, damage is told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from modelport.errors import ManifestError, RepositoryError
from modelport.gateway.keys import issue, keyring, register
from modelport.gateway.keys.keyring import Keyring

NOW = 1_800_000_000
DAY = 86400


@pytest.fixture
def root(tmp_path):
    return tmp_path / "models"


def create(root, tenant="acme"):
    return issue.create(root, tenant, ("*",), expires_s=DAY, limits={}, now=NOW).key.id


def test_without_a_register_nobody_is_let_in_and_nothing_is_made(root):
    assert keyring.read(root) == Keyring(jwks={"keys": []}, revoked=frozenset(), tenants={}, changes_at=None)
    assert list(root.parent.iterdir()) == []


def test_keys_that_are_made_at_the_same_time_are_all_kept(root):
    """Threads of two processes, on an empty folder: the signing key, too, is made only once."""
    code = (
        "import sys, pathlib, concurrent.futures as f; from modelport.gateway.keys import issue\n"
        "root, name, limits = pathlib.Path(sys.argv[1]), sys.argv[2], {}\n"
        "make = lambda n: issue.create(root, f'{name}{n}', ('*',), expires_s=9, limits=limits, now=9)\n"
        "print(*(made.key.id for made in f.ThreadPoolExecutor(4).map(make, range(8))))"
    )
    command = [sys.executable, "-c", code, str(root)]
    started = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "ab"]
    ids = [word for process in started for word in process.communicate(timeout=60)[0].split()]
    known = register.read(root)
    assert len(ids) == 16 and set(known.keys) == set(ids) and len(known.tenants) == 16
    assert len(known.signing) == 1


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_who_is_killed_while_writing_leaves_the_register_as_it_was(root, call):
    kept = create(root)
    before = register.path(root).read_bytes()
    code = (
        "import os, sys, signal, pathlib; from modelport.gateway.keys import issue\n"
        "def act(event, arguments):\n"
        f"    if event == 'os.{call}' and 'register.json' in str(arguments[0]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(act); real = os.fsync\n"
        "def fsync(descriptor):\n"
        "    sys.audit('os.fsync', os.readlink(f'/proc/self/fd/{descriptor}')); real(descriptor)\n"
        "os.fsync = fsync\n"
        "issue.create(pathlib.Path(sys.argv[1]), 'b', ('*',), expires_s=9, limits={}, now=1_800_000_000)"
    )
    assert subprocess.run([sys.executable, "-c", code, root], check=False).returncode == -signal.SIGKILL
    assert register.path(root).read_bytes() == before
    assert len(list(register.path(root).parent.glob(".*.tmp"))) == 1
    new = create(root)  # the lock is free, and what was left is gone
    assert set(register.read(root).keys) == {kept, new}
    assert list(register.path(root).parent.glob(".*.tmp")) == []


def test_expired_keys_are_forgotten_after_a_while(root):
    old = create(root)
    issue.create(root, "b", ("*",), expires_s=9, limits={}, now=NOW + 2 * DAY)
    assert old in register.read(root).keys
    issue.create(root, "b", ("*",), expires_s=9, limits={}, now=NOW + DAY + register.KEPT_S)
    assert old not in register.read(root).keys and "acme" in register.read(root).tenants


def damaged(content, **change):
    return json.dumps({**json.loads(content), **change})


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: damaged(text, format=2),
        lambda text: damaged(text, signing=[{}]),
        lambda text: text.replace('"EC"', '"oct"'),
        lambda text: text.replace('"use"', '"d": "x", "use"'),
        lambda text: text.replace('"accepted_until": null', '"accepted_until": 5'),
        lambda text: damaged(text, tenants={"a b": {}}),
        lambda text: damaged(text, tenants={"acme": {"daily": -1}}),
        lambda text: text.replace('"revoked_at": null', '"revoked_at": "now"'),
        lambda text: text.replace('"*"', '"../x"'),
    ],
)
def test_a_damaged_register_is_told_and_nothing_is_written_over_it(root, damage):
    create(root)
    path = register.path(root)
    text = damage(path.read_text())
    path.write_text(text)
    with pytest.raises(ManifestError, match="register of keys cannot be read") as caught:
        keyring.read(root)
    assert caught.value.why and str(path) in str(caught.value)
    with pytest.raises(ManifestError):
        create(root)
    assert path.read_text() == text


def test_what_the_disk_refuses_is_told(root):
    create(root)
    folder = register.path(root).parent
    folder.rename(folder.with_name("away"))
    folder.write_text("in the way")
    with pytest.raises(RepositoryError):
        create(root)
