"""Which versions of a model are loaded, and which one serves, by its `config.pbtxt`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelport.errors import ManifestError
from modelport.repository import printed
from modelport.repository.layout import config_path, read_config_text, version_numbers


def loaded_versions(repository: Path, model: str) -> tuple[int, ...]:
    """The versions that Triton is to load, ascending; none without a readable `config.pbtxt`.

    Raises:
        ModelNotFoundError: The repository has no such model.
    """
    numbers = version_numbers(repository, model)
    path = config_path(repository, model)
    try:
        return loaded_by(read_config_text(path), numbers, where=path)
    except ManifestError:
        return ()


def serving_version(repository: Path, model: str) -> int | None:
    """The version that answers requests which name none: the highest of those that are loaded.

    Raises:
        ModelNotFoundError: The repository has no such model.
    """
    return max(loaded_versions(repository, model), default=None)


def loaded_by(text: str, numbers: Sequence[int], *, where: Path) -> tuple[int, ...]:
    """The versions that Triton loads by the text of a `config.pbtxt`, ascending.

    Args:
        text: The text.
        numbers: The versions for which there is a folder.
        where: The file, for messages.

    Raises:
        ManifestError: The text is no configuration.
    """
    named = printed.named_versions(text)
    if named is not None:
        return tuple(v for v in sorted(numbers) if v in named)
    from modelport.repository import config  # loading protobuf takes longer than reading a thousand models

    return config.selected(config.parse(text, where=where), numbers)
