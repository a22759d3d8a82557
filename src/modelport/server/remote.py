"""`RemoteServer`: a Triton that somebody else starts, such as the container of `docker-compose.yml`.

It is driven as the embedded one is, through its control API: it is to start with `--model-control-mode=explicit` and
without models, with the same model repository, and with the state folder's `trial` as a second one; the paths may be
others there. What is done with the embedded server's own processes is not done here: it is not started or ended, its
memory and its stubs are not seen (its models count as running in the server's own process, so that one that hangs is
loaded anew after `supervisor.hangs.WORKING_S`, and none is killed), and it is not isolated. Its secret is in its
argument list, where the machine's users can read it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from modelport._process import wait_until
from modelport.errors import EnvironmentUnfitError, ServerError, ServerTimeoutError, UsageError
from modelport.server import checks, connection, model_folder, ports, shared_memory, starting
from modelport.server.control import LOADING, VersionState
from modelport.server.handle import ServerHandle
from modelport.server.process_id import ProcessId

TRIAL = "trial"  # in the state folder: the server's second model repository
REFUSED = 2  # connections in a row, after which the server counts as gone
LOOK_S = 0.2


class RemoteServer:
    """A server that runs elsewhere, with what `supervisor.keeper` asks of an `EmbeddedServer`.

    Args:
        repository: The model repository; the server sees the same.
        host: Name or address.
        http_port: For HTTP.
        grpc_port: For gRPC.
        metrics_port: For Prometheus metrics.
        secret: What opens its restricted APIs.
        models: Models to load, or a function that tells them whenever it has started.
        start_timeout_s: Seconds until it must answer.
        load_timeout_s: Seconds to wait for each model; one that takes longer goes on loading.

    Attributes:
        failed: After `start`, the models that did not load, each with Triton's reason.
        loading: Those of them that are loading still.
        isolated: Always: there is nothing to isolate.
        log: None: it is not ours.
    """

    isolated = True
    log: Path | None = None

    def __init__(
        self,
        repository: Path | str,
        *,
        host: str,
        http_port: int,
        grpc_port: int,
        metrics_port: int,
        secret: str,
        models: Sequence[str] | Callable[[], Sequence[str]],
        start_timeout_s: float = 120.0,
        load_timeout_s: float = 120.0,
    ) -> None:
        self.repository = Path(repository)
        self.state_dir = connection.state_folder(self.repository)
        self.failed: dict[str, str] = {}
        self.loading: frozenset[str] = frozenset()
        self._models = models
        self._start_timeout_s = start_timeout_s
        self._load_timeout_s = load_timeout_s
        self._started = False
        self._refused = 0
        self._handle = ServerHandle(
            repository=self.repository.resolve(),
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            secret=secret,
            server=ProcessId(pid=0, started=""),
            shm_prefix=shared_memory.new_prefix(),  # nothing on this machine begins so
            trial=connection.state_folder(self.repository) / TRIAL,
            remote=True,
        )

    @property
    def http_url(self) -> str:
        """Such as `http://triton:8000`."""
        return self._handle.http_url

    @property
    def grpc_url(self) -> str:
        """Such as `grpc://triton:8001`."""
        return self._handle.grpc_url

    @property
    def metrics_url(self) -> str:
        """Such as `http://triton:8002/metrics`."""
        return self._handle.metrics_url

    @property
    def handle(self) -> ServerHandle:
        """What another process needs to talk to it; another one after each time that it was away.

        Raises:
            ServerError: It is away, or `start` was not called.
        """
        if self._started:
            return self._handle
        raise self._away()

    @property
    def running(self) -> bool:
        """Whether something takes connections there; one that hangs does."""
        if not self._started:
            return False
        self._refused = 0 if ports.answers(self._handle.host, self._handle.http_port) else self._refused + 1
        self._started = self._refused < REFUSED
        return self._started

    def start(self) -> RemoteServer:
        """Wait until the server answers, and let it load its models; those that it has stay as they are.

        Raises:
            ServerTimeoutError: It did not answer within `start_timeout_s`.
            ServerError: It refuses the secret, or went away.
            InvalidNameError: A path or something in the folder of every wanted model must not reach Triton.
        """
        repository = checks.check_repository(self.repository)
        state = checks.check_state_folder(self.state_dir)
        self._make_trial(state / TRIAL)
        if not wait_until(self._answers, timeout_s=self._start_timeout_s, interval_s=LOOK_S):
            raise self._away(self._start_timeout_s)
        self._handle = _renewed(self._handle)
        self._require_ours()
        models = self._models() if callable(self._models) else self._models
        wanted, refused = model_folder.usable(repository, models)
        self.failed = {model: f"{error.what}: {error.why}" for model, error in refused.items()}
        self.failed.update(starting.load_models(None, self._handle, wanted, self._load_timeout_s))
        self.loading = frozenset(state.model for state in self._handle.index() if state.state == LOADING)
        self._started, self._refused = True, 0
        return self

    def stop(self, *, grace_s: float = 0.0) -> None:
        """Leave it alone; it serves on.

        Args:
            grace_s: Of no use here.
        """
        self._started = False

    def index(self) -> tuple[VersionState, ...]:
        """Every version that the server knows of, with its state and Triton's reason."""
        return self.handle.index()

    def _answers(self) -> bool:
        handle = self._handle
        return handle.live() and ports.answers(handle.host, handle.grpc_port)

    def _require_ours(self) -> None:
        """Check that the secret opens its control API, which lists nothing but models of this repository.

        Raises:
            ServerError: It does not.
        """
        try:
            found = {state.model for state in self._handle.index()}
        except ServerTimeoutError:
            raise
        except ServerError as exc:
            raise ServerError(
                f"the server at {self.http_url} does not let itself be controlled",
                why=exc.why,
                fix="give the secret with which its restricted APIs were started, and start it with "
                "--model-control-mode=explicit",
            ) from exc
        # It lists every folder of its repositories, loaded or not.
        own = {*model_folder.model_folders(self.repository)}
        if own and not own & found:
            raise ServerError(
                f"the server at {self.http_url} has another model repository",
                why=f"it knows none of {', '.join(sorted(own)[:5])}",
                fix=f"start it with the same repository as {self.repository}",
            )

    def _make_trial(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise EnvironmentUnfitError(
                f"the folder {folder} cannot be made",
                why=str(exc),
                fix="make the state folder writable: versions are tried there",
            ) from exc

    def _away(self, waited_s: float = 0.0) -> ServerError:
        what = f"the server at {self.http_url} cannot be reached"
        why = "it is down, or starting; somebody else starts and ends it"
        fix = "start it; its models are loaded when it is back"
        if waited_s:
            return ServerTimeoutError(f"{what}: no answer in {waited_s:g} s", why=why, fix=fix, timeout_s=waited_s)
        return ServerError(what, why=why, fix=fix)


def _renewed(handle: ServerHandle) -> ServerHandle:
    """The same server after another start: who compares takes it for another one."""
    return replace(handle, server=ProcessId(pid=0, started=secrets.token_hex(8)))


def check_secret(text: str, where: str) -> str:
    """The secret in the text of a file or a variable, without the blanks around it.

    Raises:
        UsageError: There is none, or one that cannot be sent.
    """
    found = text.strip()
    if found and found.isascii() and found.isprintable() and " " not in found:
        return found
    raise UsageError(
        f"{where} holds no secret",
        why="it is empty, or has blanks or letters in it that cannot be sent",
        fix="write one long random word into it, the same that the server was started with",
    )
