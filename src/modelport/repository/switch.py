"""Read and replace a model's `config.pbtxt` as a whole: the configuration and the record, in one rename.

Whoever writes holds the model's lock (`journal.changing`), reads here, and writes what it made of that.
"""

from __future__ import annotations

from pathlib import Path

from modelport.repository import config as configs
from modelport.repository import disk, lock, record
from modelport.repository.config import ModelConfig
from modelport.repository.journal import STAGING
from modelport.repository.layout import config_path, read_config_text
from modelport.repository.record import Record


def read(repository: Path, model: str) -> tuple[ModelConfig, Record]:
    """The configuration and the record of a model, from one reading of the file.

    Raises:
        ManifestError: The file is missing, or it or the record in it is damaged.
    """
    path = config_path(repository, model)
    text = read_config_text(path)
    return configs.parse(text, where=path), record.parse(text, where=path)


def write(repository: Path, model: str, config: ModelConfig, known: Record) -> None:
    """Replace a model's `config.pbtxt` in one step; nothing is written when nothing changed.

    Args:
        repository: The model repository.
        model: The model; its lock is held by the caller.
        config: The configuration.
        known: The record that goes with it.

    Raises:
        ManifestError: The file that is there is damaged.
        RepositoryError: The disk refused.
        RepositoryLockedError: Another writer is at work.
    """
    path = config_path(repository, model)
    with disk.errors(repository), lock.writer(repository) as state:
        before = read_config_text(path) if path.exists() else ""
        after = render(config, known, before=before, where=path)
        if after != before:
            disk.replace_text(path, after, through=state / STAGING)


def render(config: ModelConfig, known: Record, *, before: str, where: Path) -> str:
    """The text of a `config.pbtxt`.

    Args:
        config: The configuration.
        known: The record; its lines come first.
        before: The text that it replaces. Where the configuration is the same, its owner's text stays as it is; where
            it changed, the owner's comments on lines of their own go in front of it.
        where: The file, for messages.

    Raises:
        ManifestError: `before` is no configuration, or the record in it is damaged.
    """
    same = bool(before) and configs.parse(before, where=where) == config
    if same and record.parse(before, where=where) == known:
        return before
    owned = [line for line in before.splitlines(keepends=True) if not _ours(line)]
    if same:
        body = "".join(owned)
    else:
        comments = [line for line in owned if line.lstrip().startswith("#")]  # a string never spans lines
        body = "".join(f"{line.rstrip()}\n" for line in comments) + configs.text(config)
    return record.lines(known) + body


def _ours(line: str) -> bool:
    return line.rstrip() == record.NOTE or line.startswith(record.MARK)
