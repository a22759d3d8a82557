"""The verbs `openapi` and `client-code`: what a served model says of itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelport.describe import facts, openapi
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.spec import check_model_name


def openapi_document(
    name: str, *, url: str | None = None, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a model, as the gateway serves it.

    Args:
        name: Model name.
        url: Where the gateway is, such as `https://host:8443`; None for the place that the document is read from.
        repository: Folder of the model repository.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such model, or it is not served.
        ManifestError: Its `config.pbtxt` cannot be read.
        UsageError: The URL is none of a gateway.
    """
    if url is not None and not _is_address(url):
        raise UsageError(
            f"{url!r} is no gateway's URL", why="it is not http://HOST:PORT or https://HOST:PORT", fix="give it so"
        )
    return openapi.document(facts.read(Path(repository), check_model_name(name)), url=url)


def client_code(name: str, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> str:
    """The text of a typed Python client for a model: one file, over `modelport.Client`.

    Args:
        name: Model name.
        repository: Folder of the model repository.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such model, or it is not served.
        ManifestError: Its `config.pbtxt` cannot be read.
        UsageError: numpy cannot hold a tensor's element type.
    """
    from modelport.describe import client_code as code  # jinja2 is not needed by others

    return code.written(facts.read(Path(repository), check_model_name(name)))


def save(path: Path, text: str) -> None:
    """Write a file in one step.

    Raises:
        UsageError: It cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as exc:
        new.unlink(missing_ok=True)
        raise UsageError(
            f"{path} cannot be written", why=exc.strerror or str(exc), fix="give a file in a folder that you may write"
        ) from exc


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/") and parts.port != 0
        )
    except ValueError:
        return False
