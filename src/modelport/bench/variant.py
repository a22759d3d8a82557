"""A model of a repository with another configuration, in a repository of its own, so that both can be measured."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from modelport.repository import config as configs
from modelport.repository.layout import config_path


def copy(
    repository: Path,
    model: str,
    target: Path,
    *,
    instance_count: int,
    parameters: Mapping[str, str] | None = None,
    max_queue_size: int = 0,
) -> Path:
    """Copy one model into a new repository and change how it is served.

    Args:
        repository: The repository that holds it.
        model: Its name.
        target: Folder of the new repository; must not exist.
        instance_count: Copies of the model that answer side by side.
        parameters: Backend parameters to set, such as {"intra_op_thread_count": "1"}.
        max_queue_size: Triton's own bound of waiting requests; 0 for none.

    Returns:
        `target`.

    Raises:
        ManifestError: The model's `config.pbtxt` cannot be read.
    """
    config = configs.read(config_path(repository, model))
    shutil.copytree(repository / model, target / model)
    for group in config.instance_group:
        group.count = instance_count
    for key, value in (parameters or {}).items():
        config.parameters[key].string_value = value
    if max_queue_size:
        config.dynamic_batching.default_queue_policy.max_queue_size = max_queue_size
    config_path(target, model).write_text(configs.text(config), encoding="utf-8")
    return target
