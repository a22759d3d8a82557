"""A secret in the argument list of a process of ours can be overwritten while it runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from modelport._process import Child
from modelport.server import secret


@pytest.fixture
def word():
    return secret.new_secret()


@pytest.fixture
def child(tmp_path, word):
    code = "import time; print('up', flush=True); time.sleep(60)"
    with Child([sys.executable, "-c", code, f"--a={word}", "between", f"--b={word}"], log=tmp_path / "log") as running:
        deadline = time.monotonic() + 10
        while "up" not in running.log_tail() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield running


def test_secrets_are_long_and_differ(word):
    assert len(word) >= 32
    assert word != secret.new_secret()


def test_every_place_is_overwritten_and_the_rest_kept(child, word):
    before = Path(f"/proc/{child.pid}/cmdline").read_text()
    assert secret.visible(child.pid, word)
    assert secret.scrub(child.pid, word)
    assert not secret.visible(child.pid, word)
    assert Path(f"/proc/{child.pid}/cmdline").read_text() == before.replace(word, "x" * len(word))
    assert child.returncode() is None


def test_a_process_that_is_gone_is_a_failure_and_no_exception(child, word):
    child.stop()
    assert not secret.scrub(child.pid, word)
