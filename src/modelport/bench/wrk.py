"""The load generator `wrk`: one request, sent over and over by a number of clients.

Each client holds one connection and sends its next request when the answer to the last one has come. The request is
handed over as a Lua script, so that its body may hold any bytes. On Debian and Ubuntu the program is in the package
`wrk`.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from modelport._process import run
from modelport.bench.requests import Request
from modelport.errors import ProcessError

_SCRIPT = """\
wrk.method = "POST"
wrk.body = "{body}"
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nRESULT {{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "refused": %d, "broken": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one run of `wrk` saw.

    Attributes:
        clients: Connections, each with one request at a time.
        seconds: How long it ran.
        requests: Answers received.
        requests_per_s: `requests` / `seconds`.
        p50_ms: Median latency in milliseconds.
        p99_ms: 99th percentile of the latency in milliseconds.
    """

    clients: int
    seconds: float
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float


def measure(base_url: str, request: Request, *, clients: int, seconds: int) -> Load:
    """Send `request` for `seconds` from `clients` connections.

    Args:
        base_url: Such as `http://127.0.0.1:8000`.
        request: What to send.
        clients: Number of connections.
        seconds: Whole seconds.

    Raises:
        ProcessError: `wrk` is missing or failed, or an answer was an error: such a figure would say nothing.
    """
    with tempfile.TemporaryDirectory(prefix="modelport-wrk-") as folder:
        script = Path(folder, "request.lua")
        script.write_text(lua(request), encoding="ascii")
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s"]
        command += ["-s", str(script), base_url + request.path]
        output = run(command, timeout_s=seconds + 30.0)
    return parse(output, command, clients)


def lua(request: Request) -> str:
    """The script for `wrk`; every byte of the body as a decimal escape."""
    return _SCRIPT.format(
        body="".join(f"\\{byte:03d}" for byte in request.body),
        headers="\n".join(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in request.headers.items()),
    )


def parse(output: str, command: list[str], clients: int) -> Load:
    """Read the line that the script's `done` wrote.

    Raises:
        ProcessError: It is missing, or tells of refused or broken requests.
    """
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), "")
    seen = json.loads(line.removeprefix("RESULT ")) if line else {}
    if not seen or seen["refused"] or seen["broken"] or not seen["requests"]:
        raise ProcessError(
            f"the load on {command[-1]} did not run cleanly",
            why=f"{seen['refused']} answers were errors, {seen['broken']} connections broke, of {seen['requests']}"
            if seen
            else "wrk printed no result",
            fix="send one such request by hand, and look at the server's log",
            command=tuple(command),
            output_tail=output,
        )
    seconds = seen["duration_us"] / 1e6
    return Load(
        clients=clients,
        seconds=seconds,
        requests=seen["requests"],
        requests_per_s=seen["requests"] / seconds,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
    )
