"""`EmbeddedServer`: the real `tritonserver` as a child process, on loopback only, without docker."""

from __future__ import annotations

import atexit
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from modelport._process import Child, wait_until
from modelport.errors import ModelNotFoundError, ServerError, ServerTimeoutError
from modelport.server import arguments, checks, failures, logs, ports, shared_memory, stopping, toolchain
from modelport.server.control import Control, VersionState
from modelport.server.secret import GRPC_HEADER, HTTP_HEADER, new_secret, scrub, visible

FAILED_START_GRACE_S = 3.0  # a server that has not started has no requests to answer
_TRITON_LINE = re.compile(r"^[IWE][0-9]{4} ", re.MULTILINE)  # such a line comes after Triton has read its options
_log = logging.getLogger(__name__)


class EmbeddedServer:
    """A Triton server that serves a model repository from this machine to this machine.

    Use it as a context manager, or call `start` and `stop`, as often as you like. It is also stopped when the
    interpreter ends, by an exception or `sys.exit` as well. It survives what ends the interpreter without a last word:
    SIGKILL, and SIGTERM in a program that does not handle it (the command line does).

    Args:
        repository: The model repository.
        host: Loopback address for all listeners.
        http_port: Port for HTTP; 0 takes any free one. So do the next two.
        grpc_port: Port for gRPC.
        metrics_port: Port for Prometheus metrics.
        models: Models to load at the start; by default every model in the repository.
        state_dir: Where its logs are; by default `<repository>.state` beside the repository.
        start_timeout_s: Seconds until the server must answer, loading included.
        log_verbose: Triton's verbosity, 0 to 4.
        extra_args: Further options for `tritonserver`, passed through untouched; none that opens it to others.

    Attributes:
        failed: After `start`, the models that did not load, each with Triton's reason.
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
        models: Sequence[str] | None = None,
        state_dir: Path | str | None = None,
        start_timeout_s: float = 120.0,
        log_verbose: int = 0,
        extra_args: Sequence[str] = (),
    ) -> None:
        self.repository = Path(repository)
        self.state_dir = Path(state_dir) if state_dir else Path(f"{self.repository.resolve()}.state")
        self.failed: dict[str, str] = {}
        self.log = logs.name(self.state_dir / "logs")
        self._host = ports.loopback(host)
        self._wanted_ports = {"HTTP": http_port, "gRPC": grpc_port, "metrics": metrics_port}
        self._ports = dict(self._wanted_ports)
        self._models = None if models is None else tuple(models)
        self._start_timeout_s = start_timeout_s
        self._log_verbose = log_verbose
        self._extra_args = arguments.harmless(extra_args)
        self._child: Child | None = None
        self._owner = 0
        self._secret = ""
        self._shm_prefix = ""

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
        """The HTTP header that opens the restricted APIs of this start."""
        return {HTTP_HEADER: self._secret}

    @property
    def grpc_metadata(self) -> dict[str, str]:
        """The gRPC metadata that opens the restricted APIs of this start."""
        return {GRPC_HEADER: self._secret}

    @property
    def pid(self) -> int | None:
        """Process number of the server; None when it was not started."""
        return self._child.pid if self._child else None

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._child is not None and self._child.returncode() is None

    def start(self) -> EmbeddedServer:
        """Check everything, start the server, and wait until it answers and has tried to load its models.

        A model that does not load does not stop the others: see `failed`.

        Returns:
            The server itself.

        Raises:
            EnvironmentUnfitError: The machine or the environment lacks something, or `state_dir` cannot be written.
            InvalidNameError: A model, a version folder or the repository's path has a name that Triton must not see.
            ModelNotFoundError: A wanted model has no folder.
            PortTakenError: A port is in use.
            ServerDiedError: The process ended while starting.
            ServerTimeoutError: It did not answer within `start_timeout_s`.
            ServerError: It is running already, or none of the wanted models loaded.
        """
        if self.running:
            raise ServerError("the server is running already", why="start was called twice", fix="stop it first")
        self.stop()  # what is left of a server that died
        try:
            wanted = self._launch()
            control = self._await_answer()
            self.failed = control.problems(wanted)
            if wanted and not any(state.ready for state in control.index()):
                raise failures.none_loaded(self.failed, self.log)
        except BaseException:  # Ctrl-C as well
            self.stop(grace_s=FAILED_START_GRACE_S)
            raise
        for model, reason in self.failed.items():
            _log.warning("model %s did not load: %s", model, reason)
        return self

    def stop(self, *, grace_s: float = arguments.EXIT_TIMEOUT_S + 5.0) -> None:
        """Terminate, wait, kill; then check that its processes and shared memory are gone. Twice does no harm.

        Args:
            grace_s: Seconds between SIGTERM and SIGKILL; accepted requests are answered within them.

        Raises:
            ProcessError: Something of it is still alive.
        """
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        atexit.unregister(self._at_exit)
        try:
            stopping.terminate(child, self._ports["HTTP"], grace_s)
            child.stop(grace_s=0.1)
        finally:
            stopping.end_session(child.pid)
            shared_memory.remove(self._shm_prefix)

    def index(self) -> tuple[VersionState, ...]:
        """Every version that the server knows of, with its state and Triton's reason."""
        return self._control().index()

    def ready_versions(self, model: str) -> tuple[int, ...]:
        """The versions of `model` that answer requests, in order."""
        return self._control().ready_versions(model)

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
        control = self._control()
        checks.check_model(self.repository.resolve(), model)
        try:
            control.load(model, timeout_s=timeout_s)
        except ServerTimeoutError:
            raise
        except ServerError as exc:
            raise failures.not_loaded(model, exc.why) from exc
        problem = control.problems([model])
        if problem:
            raise failures.not_loaded(model, problem[model])
        self.failed.pop(model, None)
        return control.ready_versions(model)

    def unload(self, model: str, *, timeout_s: float = 60.0) -> None:
        """Unload a model and wait until none of its versions is left.

        Args:
            model: Model name.
            timeout_s: Seconds that requests in flight and unloading may take.

        Raises:
            ServerError: Triton refused.
            ServerTimeoutError: It is still there after `timeout_s`.
        """
        control = self._control()
        control.unload(model, timeout_s=timeout_s)
        if not wait_until(lambda: control.gone(model), timeout_s=timeout_s):
            raise ServerTimeoutError(
                f"model {model!r} is still loaded after {timeout_s:g} s",
                why="a request in flight keeps it, or its stub hangs",
                fix="wait for the requests to end; restart the server if it stays",
                timeout_s=timeout_s,
            )

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> list[str]:
        """Check everything and start the process; the models that it is to load."""
        package, libpython = checks.check_environment()
        repository = checks.check_repository(self.repository)
        models = checks.model_folders(repository) if self._models is None else list(self._models)
        for model in models:
            checks.check_model(repository, model)
        if self._models is None and not models:
            raise ModelNotFoundError(
                f"the repository {self.repository} holds no model",
                why="it has no folders",
                fix="export a model first, or pass models=() to start without any",
                path=str(repository),
            )
        tools = toolchain.build(package, libpython)
        self._ports = ports.choose(self._host, self._wanted_ports)
        self._secret, self._shm_prefix = new_secret(), shared_memory.new_prefix()
        # A new one: lines of an earlier start would say that Triton has read its options.
        self.log = logs.create(self.state_dir / "logs")
        command = arguments.command(
            tools,
            repository,
            models=models,
            host=self._host,
            ports=self._ports,
            secret=self._secret,
            shm_prefix=self._shm_prefix,
            log_verbose=self._log_verbose,
            extra=self._extra_args,
        )
        self._owner = os.getpid()
        self._child = Child(command, log=self.log, env=tools.environment(), cwd=tools.empty)
        atexit.register(self._at_exit)
        return models

    def _await_answer(self) -> Control:
        assert self._child is not None
        control = Control(self._host, self._ports["HTTP"], self.http_headers)
        deadline = time.monotonic() + self._start_timeout_s
        scrubbed = False
        while True:
            if self._child.returncode() is not None:
                ports.check_free(self._host, self._ports)
                raise self._died()
            # Its memory is written to only when Triton has read its options.
            if not scrubbed and _TRITON_LINE.search(self._child.log_tail(5)):
                scrubbed = scrub(self._child.pid, self._secret)
            if control.live() and ports.answers(self._host, self._ports["gRPC"]):
                break
            if time.monotonic() > deadline:
                raise failures.too_slow(self._start_timeout_s, self._child.log_tail(), self.log)
            time.sleep(0.01)
        if visible(self._child.pid, self._secret) and not scrub(self._child.pid, self._secret):
            _log.warning("the kernel does not let us overwrite the control secret in the server's argument list")
        return control

    def _control(self) -> Control:
        if self._child is None:
            raise ServerError("the server is not running", why="it was not started, or was stopped", fix="start it")
        if self._child.returncode() is not None:
            raise self._died()
        return Control(self._host, self._ports["HTTP"], self.http_headers)

    def _died(self) -> ServerError:
        assert self._child is not None
        code = self._child.wait(1.0) or 0
        return failures.died(code, self._child.log_tail(), self.log)

    def _at_exit(self) -> None:
        self.stop(grace_s=5.0)
