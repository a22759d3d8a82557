"""The folder of a gateway's files: written anew only when Envoy has found them good."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from modelport import _process
from modelport.errors import ProcessError, ServerError
from modelport.gateway.envoy import bootstrap
from modelport.gateway.envoy.bootstrap import Facts

FILES = "followed"
SCRATCH = "check-"
BOOTSTRAP = "bootstrap.json"
CHECK_S = 30.0
_REASON = 400  # letters
CLUSTERS_S = 0.1  # until Envoy has new clusters, which what is replaced after them may lead to


class Folder:
    """The files of one gateway.

    Args:
        path: Where they are; made if it is missing, for its owner alone.
        program: Envoy.
    """

    def __init__(self, path: Path, program: Path) -> None:
        self.path = path
        self._program = program
        self._written: dict[str, str] = {}

    @property
    def bootstrap(self) -> Path:
        """What Envoy is started with."""
        return self.path / BOOTSTRAP

    @property
    def usable(self) -> bool:
        """Whether a configuration was written that Envoy had found good."""
        return bool(self._written)

    def write(self, facts: Facts) -> tuple[str, ...]:
        """Check a configuration as a whole, then replace what has changed. Gives the names of the files replaced.

        Raises:
            ServerError: Envoy refuses it; nothing is replaced.
        """
        files = {name: json.dumps(content) for name, content in bootstrap.followed(facts).items()}
        changed = tuple(name for name, text in files.items() if self._written.get(name) != text)
        if not changed:
            return ()
        followed = self.path / FILES
        followed.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check(facts, files)
        for name in changed:
            _replace(followed / f"{name}.json", files[name])
            self._written[name] = files[name]
            if name == bootstrap.CLUSTERS:
                time.sleep(CLUSTERS_S)
        _replace(self.bootstrap, json.dumps(bootstrap.running(facts, followed), indent=1))
        return changed

    def _check(self, facts: Facts, files: Mapping[str, str]) -> None:
        for left in self.path.glob(f"{SCRATCH}*"):  # by a gateway that was killed while it checked
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self.path) as scratch:
            path, followed = Path(scratch, BOOTSTRAP), Path(scratch, FILES)
            followed.mkdir()
            for name, text in files.items():
                _replace(followed / f"{name}.json", text)
            _replace(path, json.dumps(bootstrap.checked(facts, followed)))
            command = [str(self._program), "--mode", "validate", "-c", str(path), "-l", "error"]
            try:
                _process.run(command, timeout_s=CHECK_S, cwd=Path(scratch))
            except ProcessError as exc:
                raise ServerError(
                    "Envoy refuses the gateway's configuration",
                    why=_reason(exc.output_tail) or exc.why,
                    fix="the one before stays; change what was changed last",
                ) from exc


def _replace(path: Path, text: str) -> None:
    """Only its owner reads it: there are addresses, and the gate's secret, in it."""
    beside = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    beside.replace(path)


def _reason(output: str) -> str:
    """What Envoy printed from its error on: of nested ones, the innermost, which says why."""
    found = re.search(r"error initializing configuration '[^']*':?\s*(.*)", output, re.DOTALL)
    if not found:
        return ""
    whole = " ".join(found[1].split())
    return whole if len(whole) <= _REASON else f"... {whole[-_REASON:]}"
