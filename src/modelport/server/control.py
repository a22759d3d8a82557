"""The server's own HTTP API for readiness, the model index, and loading and unloading.

It uses the standard library: the calls carry a line of JSON, and tritonclient's HTTP client takes as long to import as
the server takes to start.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from modelport.errors import ServerError, ServerTimeoutError

READY = "READY"
LOADING = "LOADING"
UNLOADING = "UNLOADING"
UNAVAILABLE = "UNAVAILABLE"
UNLOADED = "unloaded"  # the reason of a version that was asked to go


@dataclass(frozen=True, kw_only=True)
class VersionState:
    """One line of the model index.

    Attributes:
        model: Model name.
        version: Version number; None for a model that was never asked for.
        state: `READY`, `LOADING`, `UNLOADING`, `UNAVAILABLE`; empty for a model that was never asked for.
        reason: Why it is in that state; empty when Triton says nothing.
    """

    model: str
    version: int | None
    state: str
    reason: str

    @property
    def ready(self) -> bool:
        """Whether this version answers requests."""
        return self.state == READY

    @property
    def refused(self) -> bool:
        """Whether this version did not load, for the reason that is given."""
        return self.state == UNAVAILABLE and self.reason not in ("", UNLOADED)


class Control:
    """Calls the control API of one server.

    Args:
        host: Loopback address.
        port: HTTP port.
        headers: The header that opens the restricted APIs.
    """

    def __init__(self, host: str, port: int, headers: Mapping[str, str]) -> None:
        self._host = host
        self._port = port
        self._headers = dict(headers)

    def live(self, *, timeout_s: float = 2.0) -> bool:
        """Whether the server answers; it does so only when the models it starts with have been tried."""
        try:
            self._call("GET", "/v2/health/live", timeout_s=timeout_s)
        except ServerError:
            return False
        return True

    def version(self, *, timeout_s: float = 2.0) -> str:
        """Triton's own version, such as `2.61.0`; empty where it does not tell."""
        try:
            return str((self._call("GET", "/v2", timeout_s=timeout_s) or {}).get("version", ""))
        except ServerError:
            return ""

    def index(self, *, timeout_s: float = 10.0) -> tuple[VersionState, ...]:
        """Every version of every model that the server knows of."""
        entries = self._call("POST", "/v2/repository/index", {}, timeout_s=timeout_s) or []
        return tuple(
            VersionState(
                model=entry["name"],
                version=int(entry["version"]) if entry.get("version") else None,
                state=entry.get("state", ""),
                reason=tidy(entry.get("reason", "")),
            )
            for entry in entries
        )

    def ready_versions(self, model: str) -> tuple[int, ...]:
        """The versions of `model` that answer requests, in order."""
        return tuple(sorted(s.version for s in self.index() if s.model == model and s.ready and s.version))

    def problems(self, wanted: Mapping[str, Collection[int] | None]) -> dict[str, str]:
        """Those models that do not serve every version that they should, each with the reason; it may be empty.

        A version that the policy names and that is missing is such a reason: Triton only logs it.

        Args:
            wanted: Model name -> the versions that its configuration names; None where it names none.
        """
        states = self.index()
        found = {}
        for model, versions in wanted.items():
            own = [state for state in states if state.model == model]
            ready = {state.version for state in own if state.ready}
            if not ready:
                reasons = [f"version {s.version}: {s.reason}" for s in own if s.refused]
                reasons += [f"version {s.version} is still loading" for s in own if s.state == LOADING]
                found[model] = "; ".join(reasons)
            elif missing := sorted(set(versions or ()) - ready):
                found[model] = f"version {', '.join(map(str, missing))} is not served, though version_policy names it"
        return found

    def gone(self, model: str) -> bool:
        """Whether no version of `model` is left in the server."""
        return self._all(model, "", UNAVAILABLE)

    def unloading(self, model: str) -> bool:
        """Whether each version of `model` has gone or is going."""
        return self._all(model, "", UNAVAILABLE, UNLOADING)

    def leaving(self, model: str) -> bool:
        """Whether a version of `model` is being unloaded."""
        return any(state.state == UNLOADING for state in self.index() if state.model == model)

    def loading(self, model: str) -> bool:
        """Whether a version of `model` is being loaded."""
        return any(state.state == LOADING for state in self.index() if state.model == model)

    def unload(self, model: str, *, timeout_s: float) -> None:
        """Ask for an unload; it goes on after the answer."""
        self._call("POST", f"/v2/repository/models/{model}/unload", {}, timeout_s=timeout_s)

    def policy(self, model: str) -> tuple[int, ...]:
        """The versions that the loaded configuration names; empty where its policy names none."""
        specific = (self._config(model).get("version_policy") or {}).get("specific") or {}
        return tuple(int(version) for version in specific.get("versions", ()))

    def backend(self, model: str) -> str:
        """The backend that the loaded configuration names; empty for an ensemble."""
        return str(self._config(model).get("backend", ""))

    def instances(self, model: str) -> int:
        """How many instances the loaded configuration asks for, on all devices together."""
        groups = self._config(model).get("instance_group") or ()
        return sum(int(group.get("count", 1)) * max(1, len(group.get("gpus") or ())) for group in groups)

    def statistics(self, model: str = "", *, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """The counters of each loaded version of `model`, or of all models."""
        path = f"/v2/models/{model}/stats" if model else "/v2/models/stats"
        found: list[dict[str, Any]] = (self._call("GET", path, timeout_s=timeout_s) or {}).get("model_stats", [])
        return found

    def _config(self, model: str) -> dict[str, Any]:
        return self._call("GET", f"/v2/models/{model}/config", timeout_s=10.0) or {}

    def _all(self, model: str, *states: str) -> bool:
        return all(line.state in states for line in self.index() if line.model == model)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float) -> Any:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, body=payload, headers=self._headers)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        except TimeoutError as exc:
            raise ServerTimeoutError(
                f"the server did not answer {method} {path} within {timeout_s:g} s",
                why="it is busy, or it hangs",
                fix="look into its log; give it more time",
                timeout_s=timeout_s,
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise ServerError(
                f"the server does not answer at {self._host}:{self._port}",
                why=str(exc) or type(exc).__name__,
                fix="look into its log",
            ) from exc
        finally:
            connection.close()
        if response.status != 200:
            raise ServerError(
                f"the server refused {method} {path} with status {response.status}",
                why=tidy(_error_text(text)),
                fix="correct what it names; its log may say more",
            )
        return json.loads(text) if text else None


def refused_versions(said: str) -> dict[int, str]:
    """The versions that did not load, each with the reason, in Triton's answer to a load that failed."""
    parts = re.split(r"version (\d+) is at UNAVAILABLE state: ", said)
    found = {int(version): reason.strip().rstrip(";") for version, reason in zip(parts[1::2], parts[2::2], strict=True)}
    return {version: reason for version, reason in found.items() if reason != UNLOADED}


def tidy(reason: str) -> str:
    """Triton's reason without the Python stub's exception names and source locations."""
    return re.sub(r"\n\nAt:\n(  .*\n?)*|Internal: TritonModelException: ", "", reason).strip().rstrip(";")


def _error_text(text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text
