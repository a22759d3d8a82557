"""Writes requirements.lock: one exact version of everything, for each Python that the project supports.

The packages of pyproject.toml and its extras are resolved once per Python version for Linux on x86-64, and the
answers are merged: a line that is the same everywhere stands alone, others carry a `python_version` marker.
torch's own CUDA packages are left out, so that the same file installs with a CPU build of torch and with a
CUDA build, which brings them itself.

    python scripts/lock.py path/to/uv          (`make lock` does this)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12")
EXTRAS = ("export", "server", "gateway", "bench", "samples", "optimise", "dev")
# What must not drift: numpy 2 breaks the embedded server, and the torch build that the tests ran with.
FIXED = ("torch==2.13.0", "numpy==1.26.4")
CUDA = re.compile(r"^(nvidia-(?!pytriton)|triton==|cuda-)")
HEADER = """\
# Written by `make lock` from pyproject.toml; do not edit.
# Linux on x86-64, Python {pythons}. torch brings its CUDA packages itself where its build needs them.
"""


def resolve(uv: str, python: str) -> set[str]:
    """The `name==version` lines for one Python version, from binary packages only."""
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--no-python-downloads", "--python-version", python, "--python-platform", "x86_64-manylinux_2_35"]
    command += [part for extra in EXTRAS for part in ("--extra", extra)]
    command += ["--constraints", "-", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, input="\n".join(FIXED), text=True, stdout=subprocess.PIPE, check=True)
    return {line for line in done.stdout.split("\n") if line and not CUDA.match(line)}


def merge(answers: dict[str, set[str]]) -> list[str]:
    """All lines of `answers` (Python version -> lines), with a marker where the versions differ."""
    lines = []
    for line in sorted(set().union(*answers.values()), key=lambda line: line.split("==")):
        where = [python for python in answers if line in answers[python]]
        marker = " or ".join(f'python_version == "{python}"' for python in where)
        lines.append(line if len(where) == len(answers) else f"{line} ; {marker}")
    return lines


def main(uv: str) -> None:
    """Resolve for every Python version and replace requirements.lock."""
    answers = {}
    for python in PYTHONS:
        print(f"   resolving for Python {python}", flush=True)
        answers[python] = resolve(uv, python)
    text = HEADER.format(pythons=", ".join(PYTHONS)) + "\n".join(merge(answers)) + "\n"
    new = ROOT / "requirements.lock.new"
    new.write_text(text, encoding="utf-8")
    new.replace(ROOT / "requirements.lock")


if __name__ == "__main__":
    main(sys.argv[1])
