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
    name: str = "",
    instance_count: int = 0,
    batching: bool = True,
    parameters: Mapping[str, str] | None = None,
    max_queue_size: int = 0,
) -> Path:
    """Copy one model into a repository and change how it is served.

    Args:
        repository: The repository that holds it.
        model: Its name.
        target: Folder of the other repository; made where it does not exist.
        name: The copy's name; by default the model's.
        instance_count: Copies of the model that answer side by side; 0 leaves them.
        batching: False takes the dynamic batcher away: each request is a run of its own.
        parameters: Backend parameters to set, such as {"intra_op_thread_count": "1"}.
        max_queue_size: Triton's own bound of waiting requests; 0 for none.

    Returns:
        `target`.

    Raises:
        ManifestError: The model's `config.pbtxt` cannot be read.
    """
    config = configs.read(config_path(repository, model))
    config.name = name or model
    shutil.copytree(repository / model, target / config.name)
    for group in config.instance_group:
        group.count = instance_count or group.count
    if not batching:
        config.ClearField("dynamic_batching")
    for key, value in (parameters or {}).items():
        config.parameters[key].string_value = value
    if max_queue_size:
        config.dynamic_batching.default_queue_policy.max_queue_size = max_queue_size
    config_path(target, config.name).write_text(configs.text(config), encoding="utf-8")
    return target
