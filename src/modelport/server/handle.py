"""`ServerHandle`: what it takes to talk to a running server, whoever started it.

`EmbeddedServer` starts and stops the process and has a handle on it. Any other command gets one from the file that a
running service keeps (`connection`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport._process import wait_until
from modelport.errors import ServerError, ServerTimeoutError
from modelport.server import failures, loading, model_folder, orders, restoring, stubs
from modelport.server.control import LOADING, Control, VersionState, refused_versions, tidy
from modelport.server.process_id import ProcessId
from modelport.server.restoring import Restored
from modelport.server.secret import GRPC_HEADER, HTTP_HEADER
from modelport.spec import TRIAL_SUFFIX

_LOOK_S = 0.05
_UNLOAD_S = 30.0  # for versions that loaded beside one that did not


@dataclass(frozen=True, kw_only=True)
class ServerHandle:
    """A running server.

    Attributes:
        repository: Full path of its model repository.
        host: Loopback address of all listeners; a remote server's name or address.
        http_port: Port for HTTP.
        grpc_port: Port for gRPC.
        metrics_port: Port for Prometheus metrics.
        secret: What opens the restricted APIs of this start. Never shown or logged.
        server: The process of `tritonserver`; for a remote one, one of its starts.
        shm_prefix: What the names of its shared-memory regions begin with.
        trial: A second model repository of the same server, for models named `<model>.trial`; None where it has none.
        log: The server's log file.
        supervisor: The process that watches over it; None for a server that nobody restarts.
        health_url: Where the supervisor answers `/healthz` and `/readyz`; empty where it does not.
        inside: The backends whose models run in the server's own process, without stubs.
        remote: Whether somebody else starts and ends it, perhaps on another machine; see `remote`.
    """

    repository: Path
    host: str
    http_port: int
    grpc_port: int
    metrics_port: int
    secret: str = field(repr=False)
    server: ProcessId
    shm_prefix: str
    trial: Path | None = None
    log: Path | None = None
    supervisor: ProcessId | None = None
    health_url: str = ""
    inside: tuple[str, ...] = ()
    remote: bool = False

    @property
    def server_pid(self) -> int:
        """Process number of `tritonserver`; 0 for a remote one."""
        return self.server.pid

    @property
    def ports(self) -> dict[str, int]:
        """Its ports by purpose: `HTTP`, `gRPC`, `metrics`."""
        return {"HTTP": self.http_port, "gRPC": self.grpc_port, "metrics": self.metrics_port}

    @property
    def http_url(self) -> str:
        """Such as `http://127.0.0.1:8000`."""
        return f"http://{self.host}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        """Such as `grpc://127.0.0.1:8001`."""
        return f"grpc://{self.host}:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Such as `http://127.0.0.1:8002/metrics`."""
        return f"http://{self.host}:{self.metrics_port}/metrics"

    @property
    def http_headers(self) -> dict[str, str]:
        """The HTTP header that opens the restricted APIs of this start."""
        return {HTTP_HEADER: self.secret}

    @property
    def grpc_metadata(self) -> dict[str, str]:
        """The gRPC metadata that opens the restricted APIs of this start."""
        return {GRPC_HEADER: self.secret}

    def problems(self, models: Iterable[str]) -> dict[str, str]:
        """Those of `models` that do not serve every version that they should, each with Triton's reason."""
        return self._control().problems({m: model_folder.named_versions(self.repository_of(m) / m) for m in models})

    def running(self) -> bool:
        """Whether the server's process is still the one that this handle was made for.

        A remote one counts as running while somebody watches over it, and else while it answers.
        """
        if self.remote:
            return (self.supervisor is not None and self.supervisor.lives()) or self.live()
        return self.server.lives()

    def live(self, *, timeout_s: float = 2.0) -> bool:
        """Whether the server answers."""
        return self._control().live(timeout_s=timeout_s)

    def version(self, *, timeout_s: float = 2.0) -> str:
        """Triton's own version, such as `2.61.0`; empty where it does not tell."""
        return self._control().version(timeout_s=timeout_s)

    def index(self, *, timeout_s: float = 10.0) -> tuple[VersionState, ...]:
        """Every version that the server knows of, with its state and Triton's reason; trial models as well."""
        return self._control().index(timeout_s=timeout_s)

    def ready_versions(self, model: str) -> tuple[int, ...]:
        """The versions of `model` that answer requests, in order."""
        return self._control().ready_versions(model)

    def policy(self, model: str) -> tuple[int, ...]:
        """The versions that the configuration names with which `model` was loaded; empty where it names none."""
        return self._control().policy(model)

    def instances(self, model: str) -> int:
        """How many stubs each loaded version of `model` has when all is well; 0 for one that needs none."""
        return 0 if self.runs_inside(model) else self._control().instances(model)

    def runs_inside(self, model: str) -> bool:
        """Whether a loaded model runs in the server's own process; of a remote one we see no other."""
        return self.remote or (bool(self.inside) and self._control().backend(model) in self.inside)

    def statistics(self, model: str = "", *, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """Triton's counters for each loaded version of one model, or of all, as its statistics extension tells them."""
        return self._control().statistics(model, timeout_s=timeout_s)

    def load(self, model: str, *, timeout_s: float = 120.0) -> tuple[int, ...]:
        """Load a model, or load it anew after its configuration or files changed, and prove it.

        Args:
            model: Model name; `<model>.trial` for a model in the trial repository.
            timeout_s: Seconds that loading may take.

        Returns:
            The versions that answer now.

        Raises:
            ServerError: It did not load; the reason is Triton's. What was served before still is.
            ServerTimeoutError: It took longer than `timeout_s`, and may still be loading, or another order on the model
                did.
            InvalidNameError: Something in its folder must not reach Triton.
            ModelNotFoundError: It has no folder in the repository.
            VersionNotFoundError: Its configuration names a version that has no folder. Triton is not asked.
        """
        with self._alone(model, timeout_s):
            model_folder.check_model(self.repository_of(model), model)
            versions = model_folder.check_versions(self.repository_of(model), model)
            control = self._control()
            # A load that is under way may hang; another one would only wait behind it.
            if not wait_until(lambda: not control.loading(model), timeout_s=timeout_s, interval_s=_LOOK_S):
                raise failures.still_loading(model, timeout_s)
            try:
                loading.load(f"{self.host}:{self.grpc_port}", self.grpc_metadata, model, timeout_s=timeout_s)
            except ServerTimeoutError:
                raise
            except ServerError as exc:
                raise failures.not_loaded(model, tidy(exc.why)) from exc
            problem = control.problems({model: versions})
            if problem:
                raise failures.not_loaded(model, problem[model] or failures.SILENT)
            return control.ready_versions(model)

    def shed(self, model: str, said: str = "") -> dict[int, str]:
        """Take out of a model's policy what did not load and keeps its serving version from being loaded.

        Args:
            model: Model name.
            said: What Triton said of a load that failed. Where versions of the model are ready, the index does not tell
                which ones failed, and nothing is taken out without it.

        Returns:
            The versions that were taken out, each with the reason.

        Raises:
            ModelportError: As `modelport.repository.shed.shed`.
        """
        own = [state for state in self.index() if state.model == model]
        if not said and any(state.ready or state.state == LOADING for state in own):
            return {}
        failed = {state.version: state.reason for state in own if state.refused and state.version is not None}
        from modelport.repository import shed  # it imports protobuf

        out = shed.shed(self.repository, model, failed | refused_versions(said))
        if out:  # a load beside an unload can end the server
            wait_until(lambda: not self._control().leaving(model), timeout_s=_UNLOAD_S, interval_s=_LOOK_S)
        return out

    def end_loads(self, model: str = "", *, keep: Collection[int] = (), timeout_s: float = 10.0) -> None:
        """End the loading of versions that are not ready, by ending their stubs; it may hang.

        Args:
            model: Model name; empty for all models.
            keep: Versions that go on loading.
            timeout_s: Seconds that the server may take to say which ones these are.

        Raises:
            ServerError: It does not say.
        """
        index = self.index(timeout_s=timeout_s)
        loads = {(s.model, s.version) for s in index if s.state == LOADING and s.version not in keep}
        stubs.finish([stub for stub in stubs.find(self, model) if (stub.model, stub.version) in loads])

    def unload(self, model: str, *, timeout_s: float = 60.0, force_after_s: float | None = None) -> None:
        """Unload a model and wait until none of its versions and none of its stubs is left.

        Its folder must still be there: the server's index tells nothing of a model without one.

        Args:
            model: Model name; `<model>.trial` for a model in the trial repository.
            timeout_s: Seconds that requests in flight and unloading may take.
            force_after_s: Seconds after which stubs that still live are killed; None for never. A model that is being
                loaded, and may hang in it, is killed at once.

        Raises:
            ServerError: Triton refused.
            ServerTimeoutError: It is still there after `timeout_s`.
        """
        control = self._control()
        if force_after_s is not None and control.loading(model):
            stubs.finish(stubs.find(self, model))
        with self._alone(model, timeout_s):
            # Triton keeps the call, and callers' connections with it, until a load has ended.
            if not wait_until(lambda: not control.loading(model), timeout_s=timeout_s, interval_s=_LOOK_S):
                raise failures.still_loaded(model, timeout_s)
            family = stubs.find(self, model)
            control.unload(model, timeout_s=timeout_s)
            if force_after_s is not None:
                stubs.finish(family, grace_s=force_after_s)
            if not wait_until(lambda: self._gone(model), timeout_s=timeout_s, interval_s=_LOOK_S):
                raise failures.still_loaded(model, timeout_s)

    def restore(
        self, model: str, *, versions: Collection[int] = (), timeout_s: float = 60.0, drain_s: float = 5.0
    ) -> Restored:
        """Give a model whose stub died, was stopped or hangs working stubs again; see `restoring.restore`."""
        return restoring.restore(self, model, versions=versions, timeout_s=timeout_s, drain_s=drain_s)

    def _alone(self, model: str, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        return orders.alone(self.trial.parent if self.trial else None, model, timeout_s=timeout_s)

    def _gone(self, model: str) -> bool:
        """Whether nothing of the model is left but what a dead stub leaves for good."""
        if stubs.find(self, model):
            return False
        control = self._control()
        return control.gone(model) or (stubs.dead(self) > 0 and control.unloading(model))

    def repository_of(self, model: str) -> Path:
        """The folder that holds the model's folder: the repository, or the one of the trial models."""
        return self.trial if self.trial is not None and model.endswith(TRIAL_SUFFIX) else self.repository

    def _control(self) -> Control:
        return Control(self.host, self.http_port, self.http_headers)
