"""A virtual environment for each peer, made once and kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from modelport._process import Child, run
from modelport.bench import results
from modelport.errors import EnvironmentUnfitError
from modelport.server.toolchain import cache_folder

REQUIREMENTS = Path(__file__).with_name("requirements")
COMPLETE = ".complete"
TOLD_S = 10.0
TIMEOUT_S = 1800.0


def make(peer: str, report: Callable[[str], None]) -> Path:
    """The interpreter of a peer's environment; it is made if it is not there.

    The environment variable PIP_ARGS is passed on to pip, as for the project's own environment.

    Args:
        peer: Name of a file in `requirements/`.
        report: Called with a line at each step.

    Raises:
        EnvironmentUnfitError: pip could not install what is needed.
    """
    requirements = REQUIREMENTS / f"{peer}.txt"
    wanted = requirements.read_bytes() + repr(sys.version_info[:2]).encode()
    folder = cache_folder() / "peers" / f"{peer}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if (folder / COMPLETE).exists():
        return python
    report(f"making the environment of {peer}, once: {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(folder)])
    command = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    command += [*shlex.split(os.environ.get("PIP_ARGS", "")), "-r", str(requirements)]
    _install(command, folder / "pip.log", report)
    (folder / COMPLETE).touch()
    return python


def _install(command: list[str], log: Path, report: Callable[[str], None]) -> None:
    """Run pip; every few seconds tell what it is at.

    Raises:
        EnvironmentUnfitError: It failed, or took too long.
    """
    began = told = time.monotonic()
    with Child(command, log=log, env=results.environment()) as pip:
        while (code := pip.wait(1.0)) is None and time.monotonic() - began < TIMEOUT_S:
            if time.monotonic() - told > TOLD_S:
                told = time.monotonic()
                report(f"{told - began:5.0f} s  {pip.log_tail(1).strip()[:100]}")
        if code != 0:
            raise EnvironmentUnfitError(
                f"the environment {log.parent} cannot be made",
                why=pip.log_tail(8),
                fix="check the network, and how pip is set up; PIP_ARGS is passed on to it",
            )


def versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of packages, as the interpreter of an environment finds them."""
    code = "import importlib.metadata as m, json, platform, sys\n"
    code += "print(json.dumps({'python': platform.python_version(), **{n: m.version(n) for n in sys.argv[1:]}}))"
    return dict(json.loads(run([str(python), "-c", code, *packages])))
