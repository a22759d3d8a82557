"""The verbs `backup` and `restore`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from modelport.errors import RepositoryError
from modelport.gateway import private
from modelport.gateway.envoy.listener import ACCESS_LOG
from modelport.repository.backup import restore as putting_back
from modelport.repository.backup import write as writing
from modelport.repository.backup.contents import Backup
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.repository.lock import Report
from modelport.usage.counter import Counter
from modelport.usage.store import Store


def backup(
    target: str | os.PathLike[str],
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    report: Report = lambda _: None,
) -> Backup:
    """Write the repository, its keys, quota and usage into one file, while all of it is in use.

    Args:
        target: The file to write; compressed where its name ends with `.gz` or `.xz`.
        repository: Folder of the model repository.
        report: Told which model is read.

    Raises:
        RepositoryError: There is no repository, the file is there already, or the disk refused.
        RepositoryLockedError: A model was being changed for minutes.
    """
    root = Path(repository)
    _count_usage(root, report)
    return writing.write(root, Path(target), report=report)


def restore(
    source: str | os.PathLike[str],
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    report: Report = lambda _: None,
) -> Backup:
    """Put a backup back where no repository is, after comparing every version with its manifest.

    Args:
        source: A file that `backup` wrote.
        repository: Where the repository is to be.
        report: Told what is being done.

    Raises:
        RepositoryError: Something is there already, the file is no backup, or the disk refused.
        ManifestError: A version is not what was published.
    """
    return putting_back.restore(Path(source), Path(repository), report=report)


def _count_usage(root: Path, report: Report) -> None:
    """Count what the gateway logged and nobody counted yet, as where the service is stopped: a backup has no logs."""
    if not private.folder(root, ACCESS_LOG).exists():
        return
    report("usage")
    with contextlib.suppress(RepositoryError, OSError), Store(root) as store:  # what is damaged is saved as it is
        Counter(root, store).take_in()
