"""The verb `serve`: the embedded Triton server over a repository, in the foreground or as a context manager."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modelport.convert.types import first_row
from modelport.errors import ManifestError, ServerDiedError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.layout import DEFAULT_REPOSITORY, model_names
from modelport.repository.versions import serving_version
from modelport.server import EmbeddedServer
from modelport.spec import dtype_of
from modelport.verify import evidence as evidences

POLL_S = 0.2
MAX_CURL_ELEMENTS = 64


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
    root = Path(repository)
    chosen = servable(root) if models is None else list(models)
    if not chosen:
        raise VersionNotFoundError(
            f"{root} holds no version to serve",
            why="its models have configurations, but no version that was published here",
            fix="build the sample models with 'modelport demo', or export your own",
            path=str(root),
        )
    return EmbeddedServer(
        root, models=chosen, http_port=http_port, grpc_port=grpc_port, metrics_port=metrics_port, **options
    )


def servable(repository: Path) -> list[str]:
    """The models for which a version that `config.pbtxt` names is there."""
    return [name for name in model_names(repository) if serving_version(repository, name)]


def serve_forever(server: EmbeddedServer, ready: Callable[[EmbeddedServer], None]) -> None:
    """Start the server, call `ready`, and wait until Ctrl-C or SIGTERM; then stop it.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came while it started; it is stopped.
        ServerDiedError: The server ended by itself.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with server:
            for number in before:
                signal.signal(number, lambda *_: stop.set())
            ready(server)
            while not stop.wait(POLL_S):
                if not server.running:
                    raise _died(server)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def curl_line(repository: Path, http_url: str) -> str:
    """A `curl` command that asks the model with the smallest golden input; empty when there is none."""
    best = min(_requests(repository), default=None)
    if best is None:
        return ""
    _, name, body = best
    return f"curl -s {http_url}/v2/models/{name}/infer -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _requests(repository: Path) -> list[tuple[int, str, str]]:
    """(number of elements, model, JSON body) for each model whose golden input is short and goes into JSON."""
    found: list[tuple[int, str, str]] = []
    for name in servable(repository):
        version = serving_version(repository, name)
        try:
            proof, golden = evidences.read(repository / name / str(version))
            spec = manifests.read(repository / name / str(version)).spec
        except ManifestError:
            continue
        inputs = configs.outside(first_row(golden.inputs) if proof.batched else golden.inputs, spec.inputs)
        size = sum(array.size for array in inputs.values())
        if size > MAX_CURL_ELEMENTS or any(array.dtype == "float16" for array in inputs.values()):
            continue
        tensors = [
            {"name": n, "shape": a.shape, "datatype": dtype_of(a).triton, "data": a.ravel().tolist()}
            for n, a in inputs.items()
        ]
        found.append((size, name, json.dumps({"inputs": tensors}, ensure_ascii=False)))
    return found


def _died(server: EmbeddedServer) -> ServerDiedError:
    time.sleep(POLL_S)
    tail = server.log.read_text(encoding="utf-8", errors="replace").splitlines()[-50:]
    return ServerDiedError(
        "the server ended by itself",
        why="its last lines were:\n" + "\n".join(tail),
        fix=f"the whole log is {server.log}",
        log_tail="\n".join(tail),
    )
