"""The tests' own tools can fail: each detector fires when it must."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def inner_pytest(tmp_path, root):
    """Runs pytest on one test file beside a copy of the shared conftest; gives (exit code, output)."""

    def run(body: str, *options: str, **env: str) -> tuple[int, str]:
        (tmp_path / "conftest.py").write_text((root / "tests" / "conftest.py").read_text())
        (tmp_path / "test_inner.py").write_text(body)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, *options, tmp_path],
            env={**{k: v for k, v in os.environ.items() if k != "CI"}, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "workers"])
def test_a_forgotten_shared_memory_entry_fails_the_session(inner_pytest, options):
    entry = Path(f"/dev/shm/modelport-test-{os.getpid()}")
    try:
        code, output = inner_pytest(f"def test_it():\n    open({str(entry)!r}, 'w').close()\n", *options)
    finally:
        entry.unlink(missing_ok=True)
    assert code != 0 and output.count(f"left behind: {entry}") == 1


def test_a_forgotten_server_process_fails_the_session(inner_pytest, tmp_path):
    # A copy of `sleep` under the server's name stands for a server that a test forgot.
    server = tmp_path / "tritonserver"
    server.write_bytes(Path("/bin/sleep").read_bytes())
    server.chmod(0o755)
    code, output = inner_pytest(
        f"import subprocess\ndef test_it():\n    subprocess.Popen([{str(server)!r}, '20'], start_new_session=True)\n"
    )
    assert code != 0 and "(tritonserver)" in output


def test_a_clean_session_passes(inner_pytest):
    assert inner_pytest("def test_it():\n    pass\n")[0] == 0


def test_something_missing_is_skipped_by_a_person_and_fails_in_ci(inner_pytest):
    body = "def test_it(require):\n    require('no-such-program')\n"
    code, output = inner_pytest(body)
    assert code == 0 and "1 skipped" in output
    code, output = inner_pytest(body, CI="true")
    assert code != 0 and "no-such-program is missing" in output


def test_something_present_is_not_skipped(require):
    require("sh")
    require("a thing that the test found itself", present=True)


def test_free_ports_differ(free_port):
    assert len({free_port() for _ in range(20)}) == 20
