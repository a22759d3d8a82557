"""`EmbeddedServer`: the real `tritonserver` as a child process, on loopback only, without docker."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from modelport._process import Child
from modelport.errors import PortTakenError, ServerDiedError, ServerError
from modelport.server import (
    arguments,
    checks,
    connection,
    failures,
    logs,
    model_folder,
    ports,
    runs,
    shared_memory,
    starting,
    stopping,
    stubs,
    toolchain,
)
from modelport.server.control import LOADING, VersionState
from modelport.server.handle import ServerHandle
from modelport.server.process_id import ProcessId
from modelport.server.runs import Run
from modelport.server.secret import GRPC_HEADER, HTTP_HEADER, new_secret

PORT_TRIES = 3
FAILED_START_GRACE_S = 3.0  # a server that has not started has no requests to answer
_log = logging.getLogger(__name__)


class EmbeddedServer:
    """A Triton server that serves a model repository from this machine to this machine.

    Use it as a context manager, or call `start` and `stop`, as often as you like. It is also stopped when the
    interpreter ends, by an exception or `sys.exit` as well. It survives what ends the interpreter without a last word:
    SIGKILL, and SIGTERM in a program that does not handle it (the command line does); the next start of a server with
    the same state folder ends it. After the process died by itself, `start` starts it again on the same ports.

    Args:
        repository: The model repository.
        host: Loopback address for all listeners.
        http_port: Port for HTTP; 0 takes any free one. So do the next two.
        grpc_port: Port for gRPC.
        metrics_port: Port for Prometheus metrics.
        models: Models to load at the start, or a function that tells them at each start; by default every model in the
            repository.
        state_dir: Where its logs are; by default `<repository>.state` beside the repository.
        start_timeout_s: Seconds until the server must answer.
        load_timeout_s: Seconds that `start` then waits for each model; one that takes longer goes on loading.
        isolated: Give each instance of an ONNX model a process of its own: one that crashes takes no other with it, and
            each request costs more. Without it they run in the server's process, where modelport could be compiled; a
            server that crashes twice while it loads its models is then started once more with it.
        log_verbose: Triton's verbosity, 0 to 4.
        extra_args: Further options for `tritonserver`, passed through untouched; none that opens it to others.

    Attributes:
        failed: After `start`, the models that did not load, each with Triton's reason.
        loading: Those of them that are loading still.
        isolated: Whether ONNX models get processes of their own at the next start.
        log: The server's log file, another one for each start.

    Raises:
        UsageError: One of `extra_args` would open the server to others.
    """

    def __init__(
        self,
        repository: Path | str,
        *,
        host: str = "127.0.0.1",
        http_port: int = 8000,
        grpc_port: int = 8001,
        metrics_port: int = 8002,
        models: Sequence[str] | Callable[[], Sequence[str]] | None = None,
        state_dir: Path | str | None = None,
        start_timeout_s: float = 120.0,
        load_timeout_s: float = 120.0,
        isolated: bool = False,
        log_verbose: int = 0,
        extra_args: Sequence[str] = (),
    ) -> None:
        self.repository = Path(repository)
        self.state_dir = Path(state_dir) if state_dir else connection.state_folder(self.repository)
        self.failed: dict[str, str] = {}
        self.loading: frozenset[str] = frozenset()
        self.log = logs.name(self.state_dir / "logs")
        self._host = ports.loopback(host)
        self._ports = self._wanted_ports = {"HTTP": http_port, "gRPC": grpc_port, "metrics": metrics_port}
        self._models = models if models is None or callable(models) else tuple(models)
        self._start_timeout_s = start_timeout_s
        self._load_timeout_s = load_timeout_s
        self.isolated = isolated
        self._log_verbose = log_verbose
        self._extra_args = arguments.harmless(extra_args)
        self._owner = 0
        self._child: Child | None = None
        self._run: Run | None = None
        self._handle: ServerHandle | None = None  # of the last start

    @property
    def handle(self) -> ServerHandle:
        """What another process needs to talk to the server: of this start, another one after the next.

        Raises:
            ServerError: It was not started, or was stopped, or has died.
        """
        if self._handle is None or self._child is None:
            raise ServerError("the server is not running", why="it was not started, or was stopped", fix="start it")
        if self._child.returncode() is not None:
            raise starting.died(self._child)
        return self._handle

    @property
    def http_url(self) -> str:
        """Such as `http://127.0.0.1:8000`."""
        return f"http://{self._host}:{self._ports['HTTP']}"

    @property
    def grpc_url(self) -> str:
        """Such as `grpc://127.0.0.1:8001`."""
        return f"grpc://{self._host}:{self._ports['gRPC']}"

    @property
    def metrics_url(self) -> str:
        """Such as `http://127.0.0.1:8002/metrics`."""
        return f"http://{self._host}:{self._ports['metrics']}/metrics"

    @property
    def http_headers(self) -> dict[str, str]:
        """The HTTP header that opens the restricted APIs of this start; its value is empty before the first."""
        return self._handle.http_headers if self._handle else {HTTP_HEADER: ""}

    @property
    def grpc_metadata(self) -> dict[str, str]:
        """The gRPC metadata that opens the restricted APIs of this start; its value is empty before the first."""
        return self._handle.grpc_metadata if self._handle else {GRPC_HEADER: ""}

    @property
    def pid(self) -> int | None:
        """Process number of the server; None when it was not started."""
        return self._child.pid if self._child else None

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._child is not None and self._child.returncode() is None

    def start(self) -> EmbeddedServer:
        """Check everything, start the server, let it load its models, and wait until they answer.

        A model that does not load, or takes long, does not stop the others: see `failed` and `loading`.

        Returns:
            The server itself.

        Raises:
            EnvironmentUnfitError: The machine or the environment lacks something, or `state_dir` cannot be written.
            InvalidNameError: The path of the repository or of `state_dir`, or something in the folder of every wanted
                model, has a name that Triton must not see.
            ModelNotFoundError: A wanted model has no folder.
            PortTakenError: A port is in use.
            ServerDiedError: The process ended while starting.
            ServerTimeoutError: It did not answer within `start_timeout_s`.
            ServerError: It is running already, or none of the wanted models loaded or is loading.
        """
        if self.running:
            raise ServerError("the server is running already", why="start was called twice", fix="stop it first")
        self.stop()  # what is left of a server that died
        try:
            handle = self._loaded()
            states = handle.index()
            self.loading = frozenset(state.model for state in states if state.state == LOADING)
            if self.failed and not self.loading and not any(state.ready for state in states):
                raise failures.none_loaded(self.failed, self.log)
        except BaseException:  # Ctrl-C as well
            self.stop(grace_s=FAILED_START_GRACE_S)
            raise
        for model, reason in self.failed.items():
            _log.warning("model %s did not load: %s", model, reason, extra={"model": model})
        return self

    def _loaded(self) -> ServerHandle:
        """Start it and have it load its models.

        A version that fails beside others of its model can end the server (seen with 2.51.0, now and then, more often
        while other models load). So there is a second start, which loads one model at a time. Where that one crashes as
        well, an ONNX model may be why: in a third, these get processes of their own.
        """
        for at_once in (starting.AT_ONCE, 1):
            try:
                return self._load_all(at_once)
            except ServerDiedError as error:
                inside = self._handle is not None and self._handle.inside
                if error.returncode >= 0 or (at_once == 1 and not (error.crashed and inside)):
                    raise
                _log.warning("%s while it loaded its models; it is started once more", error.what)
                self.stop(grace_s=FAILED_START_GRACE_S)
        _log.warning("from now on ONNX models run in processes of their own, so that a crash takes no other with it")
        self.isolated = True
        return self._load_all(starting.AT_ONCE)

    def _load_all(self, at_once: int) -> ServerHandle:
        child, handle, wanted = self._answering()
        self.failed.update(starting.load_models(child, handle, wanted, self._load_timeout_s, at_once=at_once))
        return handle

    def stop(self, *, grace_s: float = arguments.EXIT_TIMEOUT_S + 5.0) -> None:
        """Terminate, wait, kill; then check that its processes and shared memory are gone. Twice does no harm.

        Args:
            grace_s: Seconds between SIGTERM and SIGKILL; accepted requests are answered within them.

        Raises:
            ProcessError: Something of it is still alive.
        """
        child, self._child = self._child, None
        run, self._run = self._run, None
        if self._owner != os.getpid():
            return
        try:
            if child is not None:
                atexit.unregister(self._at_exit)
                if self._handle is not None and child.returncode() is None:
                    with contextlib.suppress(ServerError):  # Triton would wait for a load that hangs
                        self._handle.end_loads(timeout_s=1.0)
                stopping.terminate(child, self._ports["HTTP"], grace_s)
                child.stop(grace_s=0.1)
        finally:
            if child is not None:
                stopping.end_session(child.pid)
            if run is not None:
                run.close()

    def index(self) -> tuple[VersionState, ...]:
        """Every version that the server knows of, with its state and Triton's reason."""
        return self.handle.index()

    def ready_versions(self, model: str) -> tuple[int, ...]:
        """The versions of `model` that answer requests, in order."""
        return self.handle.ready_versions(model)

    def load(self, model: str, *, timeout_s: float = 120.0) -> tuple[int, ...]:
        """Load a model, or load it anew after its configuration or files changed, and prove it.

        Args:
            model: Model name.
            timeout_s: Seconds that loading may take.

        Returns:
            The versions that answer now.

        Raises:
            ServerError: It did not load; the reason is Triton's. What was served before still is.
            InvalidNameError: A name in its folder must not reach Triton.
            ModelNotFoundError: It has no folder in the repository.
        """
        versions = self.handle.load(model, timeout_s=timeout_s)
        self.failed.pop(model, None)
        return versions

    def unload(self, model: str, *, timeout_s: float = 60.0) -> None:
        """Unload a model and wait until none of its versions is left.

        Args:
            model: Model name.
            timeout_s: Seconds that requests in flight and unloading may take.

        Raises:
            ServerError: Triton refused.
            ServerTimeoutError: It is still there after `timeout_s`.
            InvalidNameError, ModelNotFoundError: It has neither a folder in the repository nor a process.
        """
        if not stubs.find(self.handle, model):
            model_folder.folder_of(self.handle.repository_of(model), model)
        self.handle.unload(model, timeout_s=timeout_s)

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answering(self) -> tuple[Child, ServerHandle, list[str]]:
        """`_launch`, and wait for the answer; anew where another process took a port that any other can stand for."""
        for again in reversed(range(PORT_TRIES)):
            child, handle, wanted = self._launch()
            try:
                starting.await_answer(child, handle, self._start_timeout_s)
                break
            except PortTakenError as error:
                if not again or error.port in self._wanted_ports.values():
                    raise
                self.stop(grace_s=FAILED_START_GRACE_S)
        return child, handle, wanted

    def _launch(self) -> tuple[Child, ServerHandle, list[str]]:
        """Check everything and start the process; the models that it is to load are the third."""
        package, libpython = checks.check_environment()
        repository = checks.check_repository(self.repository)
        state = checks.check_state_folder(self.state_dir)
        wanted = self._models() if callable(self._models) else self._models
        models, refused = model_folder.usable(repository, wanted)
        self.failed = {model: f"{error.what}: {error.why}" for model, error in refused.items()}
        tools = toolchain.build(package, libpython, isolated=self.isolated)
        for cleared in runs.clear_stale(state):
            _log.warning("%s", cleared)
        self._ports = ports.choose(self._host, self._wanted_ports, before=self._ports)
        # A new one: lines of an earlier start would say that Triton has read its options.
        self.log = logs.create(state / "logs")
        secret, prefix = new_secret(), shared_memory.new_prefix()
        self._owner = os.getpid()
        self._run = Run(state, prefix)
        command = arguments.command(
            tools,
            repository,
            self._run.trial,
            host=self._host,
            ports=self._ports,
            secret=secret,
            shm_prefix=prefix,
            log_verbose=self._log_verbose,
            extra=self._extra_args,
        )
        self._child = Child(command, log=self.log, env=tools.environment(), cwd=tools.empty)
        atexit.register(self._at_exit)
        self._handle = ServerHandle(
            repository=repository,
            host=self._host,
            http_port=self._ports["HTTP"],
            grpc_port=self._ports["gRPC"],
            metrics_port=self._ports["metrics"],
            secret=secret,
            server=ProcessId.of(self._child.pid),
            shm_prefix=prefix,
            trial=self._run.trial,
            log=self.log,
            inside=tools.inside,
        )
        return self._child, self._handle, models

    def _at_exit(self) -> None:
        self.stop(grace_s=5.0)
