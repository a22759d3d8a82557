"""Where a model is measured: at a URL, in the running server of its repository, or in a temporary server.

A temporary server has a repository of its own, made of links, that has exactly the wanted versions loaded: so a
candidate can be measured beside the version that serves.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelport.errors import ServerError, UsageError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.repository import registry
from modelport.repository.layout import CONFIG_FILE, config_path, version_folder, version_numbers
from modelport.server import EmbeddedServer, connection
from modelport.server.handle import ServerHandle

HTTP, GRPC = "http", "grpc"
PROTOCOLS = (HTTP, GRPC)
Report = Callable[[str], None]
_ANSWER_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A version of a model in a repository."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A server.

    Attributes:
        url: Such as `http://127.0.0.1:8000` or `grpc://127.0.0.1:8001`.
        kind: `url`, `running` or `temporary`.
        words: The same for people.
        http_url: Where it tells of itself over HTTP; empty where that is not known.
        ca_file: PEM file with the only authorities to trust for its certificate; None for the system's.
        headers: What opens its statistics, where they are closed. Never shown or stored.
    """

    url: str
    kind: str
    words: str
    http_url: str = ""
    ca_file: Path | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def protocol(self) -> str:
        """`http` or `grpc`."""
        return GRPC if self.url.startswith("grpc") else HTTP

    @property
    def secure(self) -> bool:
        """Whether it is reached over TLS."""
        return urlsplit(self.url).scheme in ("https", "grpcs")

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc


def wanted(repository: Path, model: str, version: int | None) -> Wanted:
    """The version that is to be measured; the serving one when none is named.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version, or none serves.
    """
    if version is None:
        stands = registry.standing(repository, model)
        version = stands.serving
        if version is None:
            versions = ", ".join(map(str, stands.numbers))
            raise VersionNotFoundError(
                f"no version of {model!r} serves",
                why=stands.problem or (f"its versions are {versions}" if versions else "it has none"),
                fix=f"name a version, such as {model}/{stands.numbers[-1]}" if versions else "export the model",
                model=model,
            )
    version_folder(repository, model, version)
    return Wanted(model=model, version=version)


def at(url: str, *, repository: Path | None = None, ca_file: Path | None = None) -> Place:
    """The server at a URL; where it is the running one of the repository, what opens its statistics is known.

    Args:
        url: With `http`, `https`, `grpc` or `grpcs`.
        repository: A model repository; None to ask no server.
        ca_file: PEM file with the only authorities to trust, for https and grpcs.

    Raises:
        UsageError: It is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "grpc", "grpcs") or not parts.hostname or "@" in parts.netloc:
        raise UsageError(
            f"{url.rpartition('@')[2]!r} is no server's URL",
            why="it begins with http://, https://, grpc:// or grpcs://, and names a host, and nobody's password",
            fix="such as http://127.0.0.1:8000",
        )
    handle = _handle(repository, parts.hostname, parts.port) if repository is not None else None
    if handle is not None:
        protocol = GRPC if parts.scheme.startswith(GRPC) else HTTP
        return replace(_place(handle, protocol, "url", url), url=url.rstrip("/"))
    http_url = url.rstrip("/") if parts.scheme.startswith("http") else ""
    return Place(url=url.rstrip("/"), kind="url", words=url, http_url=http_url, ca_file=ca_file)


@contextlib.contextmanager
def serving(
    repository: Path, versions: Sequence[Wanted], *, protocol: str, own: bool, report: Report
) -> Iterator[Place]:
    """The running server of a repository where it has all the versions loaded; else a temporary one.

    Args:
        repository: The model repository.
        versions: What is to be measured.
        protocol: `http` or `grpc`.
        own: Take a temporary one in any case.
        report: Called with one line that says which.

    Raises:
        ServerError: The temporary server does not start, or does not load a version.
    """
    handle = None if own else connection.find(repository)
    missing = [str(w) for w in versions if handle is not None and w.version not in handle.ready_versions(w.model)]
    if handle is not None and not missing:
        report(f"measuring in the running server of {repository}")
        yield _place(handle, protocol, "running", "the repository's running server")
        return
    reason = f"{', '.join(missing)} is not loaded in the running server" if missing else "no server is running"
    report(f"{'as asked for' if own else reason}: starting a temporary server")
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch:
        shelf = shelve(repository, versions, Path(scratch, "repository"))
        models = sorted(path.name for path in shelf.iterdir())
        server = EmbeddedServer(shelf, models=models, http_port=0, grpc_port=0, metrics_port=0)
        try:
            _require_loaded(server.start())
            yield _place(server.handle, protocol, "temporary", "a temporary server")
        finally:
            server.stop(grace_s=0.0)  # nobody else asks it


def shelve(repository: Path, versions: Sequence[Wanted], folder: Path) -> Path:
    """A repository that has these versions loaded, of links into the other one; steps of ensembles as they are there.

    Args:
        repository: The model repository.
        versions: What it has loaded.
        folder: The new repository; it is made.

    Returns:
        `folder`.

    Raises:
        ManifestError: The `config.pbtxt` of a model cannot be read.
    """
    for model in dict.fromkeys(w.model for w in versions):
        source, target = (repository / model).resolve(), folder / model
        numbers = {w.version for w in versions if w.model == model}
        config = configs.read(config_path(repository, model))
        configs.set_versions(config, sorted(numbers))
        target.mkdir(parents=True)
        others = map(str, {*version_numbers(repository, model)} - numbers)
        left_out = {CONFIG_FILE, *others}
        for entry in source.iterdir():
            if entry.name not in left_out:
                (target / entry.name).symlink_to(entry)
        (target / CONFIG_FILE).write_text(configs.text(config), encoding="utf-8")
    asked = {w.model for w in versions}
    for model in sorted(asked):
        for step in _steps(repository, model) - asked:
            if not (folder / step).exists():
                (folder / step).symlink_to((repository / step).resolve())
    return folder


def _handle(repository: Path, host: str, port: int | None) -> ServerHandle | None:
    """The running server of the repository, if it is the one that listens there."""
    with contextlib.suppress(ServerError):  # whether it hangs is not the question here
        handle = connection.find(repository)
        if handle is not None and port in handle.ports.values() and host in (handle.host, "localhost"):
            return handle
    return None


def _steps(repository: Path, model: str) -> set[str]:
    """The models that an ensemble is made of, those of ensembles in it as well."""
    config = configs.read(config_path(repository, model))
    direct = {str(step.model_name) for step in config.ensemble_scheduling.step}
    return direct.union(*(_steps(repository, name) for name in direct))


def _require_loaded(server: EmbeddedServer) -> None:
    if server.failed:
        raise ServerError(
            f"the temporary server does not load {', '.join(server.failed)}",
            why="; ".join(server.failed.values()),
            fix="'modelport doctor' may tell more; so does 'modelport serve'",
        )


def _place(handle: ServerHandle, protocol: str, kind: str, words: str) -> Place:
    url, headers = (
        (handle.grpc_url, handle.grpc_metadata) if protocol == GRPC else (handle.http_url, handle.http_headers)
    )
    return Place(url=url, kind=kind, words=words, http_url=handle.http_url, headers=headers)


def tell(place: Place, path: str) -> dict[str, Any] | None:
    """What the server tells of itself, as JSON; None where it does not.

    Args:
        place: The server.
        path: Such as `/v2/models/digits_cnn/config`.
    """
    if not place.http_url:
        return None
    request = urllib.request.Request(place.http_url + path)  # noqa: S310 - http or https
    with contextlib.suppress(OSError, ValueError):  # an error of TLS is an OSError
        context = ssl.create_default_context(cafile=place.ca_file) if place.secure else None
        with urllib.request.urlopen(request, timeout=_ANSWER_S, context=context) as answer:  # noqa: S310
            found = json.load(answer)
            return found if isinstance(found, dict) else None
    return None
