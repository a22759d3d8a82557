"""The Triton services of a compose file: image, options, GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.errors import EnvironmentUnfitError, UsageError

_IMAGE = re.compile(r"tritonserver(?::(?P<tag>[0-9]{2}\.[0-9]{2}))?")

_OPTION = re.compile(r"(?:^|\s)--([A-Za-z][A-Za-z0-9-]*)")  # also within the script of a shell


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service that runs Triton.

    Attributes:
        name: In the file.
        image: As it is written there.
        release: The container's release; empty where the image does not tell it.
        options: Of `tritonserver`, without dashes and values, in their order.
        gpu: Whether it asks for GPUs.
    """

    name: str
    image: str
    release: str
    options: tuple[str, ...]
    gpu: bool


def read(path: Path) -> tuple[Service, ...]:
    """The services of a file that run Triton.

    Raises:
        UsageError: It cannot be read, is no compose file, or has none of them.
        EnvironmentUnfitError: The package that reads YAML is missing.
    """
    try:
        import yaml
    except ImportError as exc:
        raise EnvironmentUnfitError(
            "a compose file cannot be read", why="the package pyyaml is missing", fix="pip install pyyaml"
        ) from exc
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        services = content["services"].items()
        found = tuple(_service(str(name), one) for name, one in services if _IMAGE.search(str(one.get("image"))))
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as exc:
        raise UsageError(
            f"{path} cannot be read as a compose file", why=f"{type(exc).__name__}: {exc}", fix="name another file"
        ) from exc
    if not found:
        raise UsageError(
            f"no service in {path} runs Triton", why="none has an image named tritonserver", fix="name another file"
        )
    return found


def _service(name: str, content: Mapping[str, Any]) -> Service:
    image = str(content["image"])
    match = _IMAGE.search(image)
    command = content.get("command") or []
    text = command if isinstance(command, str) else " ".join(map(str, command))
    return Service(
        name=name,
        image=image,
        release=(match["tag"] or "") if match else "",
        options=tuple(dict.fromkeys(_OPTION.findall(text.partition("tritonserver")[2] or text))),
        gpu=_asks_for_gpu(content),
    )


def _asks_for_gpu(content: Mapping[str, Any]) -> bool:
    reserved = ((content.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    return bool(content.get("gpus")) or content.get("runtime") == "nvidia" or bool(reserved.get("devices"))
