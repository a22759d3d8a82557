"""The OpenAPI documents that the gate hands to callers: one file for each served model, in the gateway's own folder.

Envoy runs in that folder, and the gate opens `openapi/<model>.json`, after it has seen that the key is for the model.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelport._version import __version__
from modelport.describe import facts, openapi
from modelport.errors import ModelportError
from modelport.gateway import private
from modelport.repository import disk
from modelport.repository.manifest import MANIFEST_FILE
from modelport.repository.versions import loaded_versions

FOLDER = "openapi"
SEEN = ".seen"


class Documents:
    """The documents of one gateway. A model is read again only when its files have changed.

    Args:
        repository: The model repository.
        folder: The gateway's; it is there.
    """

    def __init__(self, repository: Path, folder: Path) -> None:
        self._repository = repository
        self._folder = folder / FOLDER
        self._seen: dict[str, Any] | None = None
        self._inputs: dict[str, object] = {}

    def write(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        """Write those that are missing or old, and remove those of other models.

        Args:
            models: What the gate knows of models; the inputs of one that has not changed are the same object as before.
                One that cannot be read any more has no document.

        Raises:
            RepositoryError: The disk refuses.
        """
        with disk.errors(self._repository):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            before = self._known() if self._seen is None else self._seen
            now = {}
            for name, known in models.items():
                with contextlib.suppress(ModelportError):
                    same = name in before and self._inputs.get(name) is known["inputs"]
                    look = before[name] if same else self._look(name)
                    if before.get(name) != look or not self._path(name).exists():
                        self._write(name)
                    now[name] = look
            for path in (*self._folder.glob("*.json"), *self._folder.glob(".*.tmp")):  # the latter by who was killed
                if path.stem not in now:
                    path.unlink()
            if now != before:
                private.write(self._folder / SEEN, json.dumps(now).encode())
            self._seen = now
            self._inputs = {name: models[name]["inputs"] for name in now}

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _write(self, name: str) -> None:
        content = openapi.document(facts.read(self._repository, name))
        private.write(self._path(name), json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))

    def _known(self) -> dict[str, Any]:
        """What the documents that are there were written from."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self._folder / SEEN).read_bytes()))
        return {}

    def _look(self, name: str) -> list[Any]:
        """What changes with anything that a document tells."""
        versions = loaded_versions(self._repository, name)
        model = self._repository / name
        files = sorted(path for path in model.iterdir() if not path.name.isdecimal())
        return [
            __version__,
            *versions,
            *map(_stat, files),
            *(_stat(model / str(one) / MANIFEST_FILE) for one in versions),
        ]


def _stat(path: Path) -> list[Any]:
    with contextlib.suppress(OSError):
        found = path.stat()
        return [path.name, found.st_ino, found.st_mtime_ns, found.st_size]
    return [path.name]
