"""The names of an output's classes: the label file of a version, or else of its model."""

from __future__ import annotations

from pathlib import Path

from modelport.repository import config as configs
from modelport.repository.layout import version_folder


def names(repository: Path, model: str, version: int, output: str) -> tuple[str, ...]:
    """What the elements of an output are called, in their order; empty where nobody said.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ManifestError: A configuration is damaged.
    """
    folder = version_folder(repository, model, version)
    for place in (folder, folder.parent):
        if not (place / configs.CONFIG_FILE).is_file():
            continue
        for tensor in configs.read(place / configs.CONFIG_FILE).output:
            name = tensor.label_filename if tensor.name == output else ""
            if name and name == Path(name).name and (place / name).is_file():
                return tuple((place / name).read_text(encoding="utf-8").splitlines())
    return ()
