"""The load generator `wrk`: one request, or several in turns, sent over and over by a number of clients.

Each client holds one connection and sends its next request when the answer to the last one has come. The requests are
handed over as a Lua script, so that their bodies may hold any bytes. On Debian and Ubuntu the program is in the package
`wrk`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport._process import run
from modelport.bench.requests import Request
from modelport.errors import ProcessError

# wrk asks a script that has `request` for every one that it sends; without, it sends the same bytes by itself.
_TURNS = """\
local requests, turn = {}, 0
function init()
  for _, one in ipairs(all) do
    requests[#requests + 1] = wrk.format("POST", one.path, one.headers, one.body)
  end
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
"""
_SAME = """\
wrk.method, wrk.headers, wrk.body = "POST", all[1].headers, all[1].body
"""
_DONE = """\
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "refused": %d, "broken": %d}\\n',
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


def measure(base_url: str, request: Request | Sequence[Request], *, clients: int, seconds: int) -> Load:
    """Send `request` for `seconds` from `clients` connections.

    Args:
        base_url: Such as `http://127.0.0.1:8000`.
        request: What to send; several are sent in turns, whichever connection is next.
        clients: Number of connections.
        seconds: Whole seconds.

    Raises:
        ProcessError: `wrk` is missing or failed, or an answer was an error: such a figure would say nothing.
    """
    requests = [request] if isinstance(request, Request) else list(request)
    with tempfile.TemporaryDirectory(prefix="modelport-wrk-") as folder:
        script = Path(folder, "request.lua")
        script.write_text(lua(requests), encoding="ascii")
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s"]
        command += ["-s", str(script), base_url + requests[0].path]
        output = run(command, timeout_s=seconds + 30.0)
    return parse(output, command, clients)


def lua(requests: Sequence[Request]) -> str:
    """The script for `wrk`; every byte of a body as a decimal escape."""
    every = "".join(
        f"all[{number}] = {{path = {json.dumps(one.path)}, headers = {{{_pairs(one)}}}, "
        f'body = "{_escaped(one.body)}"}}\n'
        for number, one in enumerate(requests, start=1)
    )
    return "local all = {}\n" + every + (_SAME if len(requests) == 1 else _TURNS) + _DONE


def _pairs(request: Request) -> str:
    return ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in request.headers.items())


def _escaped(body: bytes) -> str:
    return "".join(f"\\{byte:03d}" for byte in body)


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
