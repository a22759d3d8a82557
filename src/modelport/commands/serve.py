"""The verb `serve`: the embedded Triton over a repository, watched over in the foreground, or as a context manager."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.errors import UsageError, VersionNotFoundError
from modelport.gateway import golden
from modelport.gateway.settings import upstreams
from modelport.repository.layout import DEFAULT_REPOSITORY, model_names
from modelport.repository.versions import serving_version
from modelport.server import EmbeddedServer, connection, tracing

if TYPE_CHECKING:
    from modelport.server.remote import RemoteServer
    from modelport.supervisor.supervisor import Supervisor

SECRET_VARIABLE = "MODELPORT_TRITON_SECRET"  # noqa: S105
MAX_CURL_ELEMENTS = 64
LOADING_S = 30.0  # until the service goes on without a model that still loads


def serve(
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    *,
    models: Sequence[str] | None = None,
    http_port: int = 8000,
    grpc_port: int = 8001,
    metrics_port: int = 8002,
    **options: Any,
) -> EmbeddedServer:
    """The embedded server for a repository, to be used in a `with` statement (or with `start` and `stop`).

    Other commands, such as `modelport promote`, find it while it runs. It is not watched over: `modelport serve` does.

    Args:
        repository: Folder of the model repository.
        models: Models to load; left out, all that have a version to serve.
        http_port: 0 takes a free one; so do the other two.
        grpc_port: For gRPC.
        metrics_port: For Prometheus metrics.
        options: Further options of `modelport.server.EmbeddedServer`.

    Raises:
        RepositoryError: There is no such repository.
        VersionNotFoundError: None of its models has a version to serve.
    """
    return _Known(**_arguments(repository, models, http_port, grpc_port, metrics_port), **options)


def unwatched(
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    *,
    models: Sequence[str] | None = None,
    http_port: int = 8000,
    grpc_port: int = 8001,
    metrics_port: int = 8002,
    isolated: bool = False,
    traces: str | None = None,
) -> EmbeddedServer:
    """The same for `supervise`, which makes it known itself; with `traces`, it sends its part of them to this URL.

    Raises:
        ModelportError: As `serve`.
    """
    arguments = _arguments(repository, models, http_port, grpc_port, metrics_port)
    sent = tracing.options(traces) if traces else ()
    return EmbeddedServer(**arguments, load_timeout_s=LOADING_S, isolated=isolated, extra_args=sent)


def remote(
    repository: str | os.PathLike[str],
    url: str,
    secret: str,
    *,
    models: Sequence[str] | None = None,
    metrics_port: int = 8002,
) -> RemoteServer:
    """A Triton that somebody else starts, for `supervise`.

    Args:
        repository: Folder of the model repository; the server sees the same.
        url: `http://HOST:PORT[,grpc://HOST:PORT]`; without the second, the gRPC port is the next one.
        secret: What opens its restricted APIs.
        models: Models to load; left out, all that have a version to serve.
        metrics_port: Of its Prometheus metrics.

    Raises:
        UsageError: The URL cannot be read.
    """
    from modelport.server.remote import RemoteServer

    root, [place] = Path(repository), upstreams([url])
    return RemoteServer(
        root,
        host=place.host,
        http_port=place.http_port,
        grpc_port=place.grpc_port,
        metrics_port=metrics_port,
        secret=secret,
        models=list(models) if models is not None else lambda: servable(root),
        load_timeout_s=LOADING_S,
    )


def control_secret(file: Path | None) -> str:
    """The secret of a server that somebody else starts: in a file, or in `MODELPORT_TRITON_SECRET`.

    Raises:
        UsageError: There is none.
    """
    from modelport.server.remote import check_secret

    if file is None:
        return check_secret(os.environ.get(SECRET_VARIABLE, ""), f"the variable {SECRET_VARIABLE}")
    try:
        return check_secret(file.read_text(encoding="utf-8", errors="replace"), str(file))
    except OSError as exc:
        raise UsageError(
            f"the secret in {file} cannot be read", why=str(exc), fix="name a file that this user may read"
        ) from exc


def servable(repository: Path) -> list[str]:
    """The models for which a version that `config.pbtxt` names is there."""
    return [name for name in model_names(repository) if serving_version(repository, name)]


def supervise(
    server: EmbeddedServer | RemoteServer,
    started: Callable[[Supervisor], None],
    *,
    only: Sequence[str] | None = None,
    write: Callable[[str], None],
    **options: Any,
) -> None:
    """Start the server and watch over it, until Ctrl-C or SIGTERM; then let it answer what it accepted, and stop it.

    Args:
        server: What `unwatched` or `remote` gave.
        started: Called once when the server answers.
        only: The models that are served; None for all, also those that come later.
        write: Called with one line for each event.
        options: Of `modelport.supervisor.supervisor.Options`.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came while it started; it is stopped.
        ServerDiedError: The server died again and again.
        ServerError: The repository is served already, or the server does not start.
    """
    from modelport.supervisor.supervisor import Options, Supervisor  # its metrics take a while to import

    Supervisor(server, Options(**options), only=only, write=write).run(started)


def _arguments(
    repository: str | os.PathLike[str],
    models: Sequence[str] | None,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
) -> dict[str, Any]:
    """What the server is made with, once there is something to serve; what that is is asked again at each start."""
    root = Path(repository)
    if not (servable(root) if models is None else models):
        raise VersionNotFoundError(
            f"{root} holds no version to serve",
            why="its models have no version that their configuration names" if model_names(root) else "it is empty",
            fix="build the sample models with 'modelport demo', or export your own",
            path=str(root),
        )
    chosen = list(models) if models is not None else lambda: servable(root)
    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    return {"repository": root, "models": chosen, **ports}


class _Known(EmbeddedServer):
    """An embedded server that other commands find, as they find the one of `modelport serve`."""

    def start(self) -> EmbeddedServer:
        super().start()
        other = connection.read(self.state_dir)
        if other is None or not other.running():
            connection.write(self.state_dir, self.handle)
        return self

    def stop(self, **options: Any) -> None:
        if self._handle is not None:
            connection.remove(self.state_dir, self._handle)
        super().stop(**options)


def curl_line(repository: Path, http_url: str) -> str:
    """A `curl` command that asks the model with the smallest golden input; empty when there is none."""
    best = golden.smallest(repository, most=MAX_CURL_ELEMENTS)
    if best is None:
        return ""
    url = f"{http_url}/v2/models/{best.model}/infer"
    return f"curl -s {url} -H 'Content-Type: application/json' -d {shlex.quote(best.body)}"
