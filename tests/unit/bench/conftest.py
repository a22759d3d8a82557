"""A small HTTP service to measure, what perf_analyzer writes, and results with given figures."""

from __future__ import annotations

import http.server
import threading

import pytest

from modelport.bench.load import Load
from modelport.bench.perf_output import Measured
from modelport.bench.rounds import Row
from modelport.bench.stored import Stored


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers a POST to /echo with its body, /fail with 500, /triton with a header before the body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if self.path == "/fail" else 200)
        if self.path == "/triton":
            self.send_header("Inference-Header-Content-Length", "7")
            body = b'{"a":1}' + body
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.last = (dict(self.headers), body)

    def log_message(self, *args):
        pass


@pytest.fixture
def echo():
    """The running service; `.url` is its address, `.last` the last request's headers and answer."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


# What perf_analyzer 2.50 wrote for one request at a time over HTTP, and for an ensemble of two models.
TABLE = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait
2,3167.49,63,807,145,19,1448,33,0,1854,2806,3872,7059,2518,63,2449
"""  # noqa: E501
WORDS = """\
*** Measurement Settings ***
  Batch size: 4
  Service Kind: TRITON
  Using "time_windows" mode for stabilization

Request concurrency: 2
  Pass [1] throughput: 1738.56 infer/sec. Avg latency: 4548 usec (std 20060 usec).
  Pass [2] throughput: 3644.77 infer/sec. Avg latency: 2202 usec (std 1747 usec).
  Pass [3] throughput: 4120.74 infer/sec. Avg latency: 1941 usec (std 513 usec).
  Client:
    Request count: 863
    Throughput: 3167.49 infer/sec
    Avg client overhead: 0.30%
    Avg latency: 2518 usec (standard deviation 8690 usec)
    p50 latency: 1854 usec
    p90 latency: 2806 usec
    p95 latency: 3872 usec
    p99 latency: 7059 usec
    Avg HTTP time: 2512 usec (send 63 usec + response wait 2449 usec + receive 0 usec)
  Server:
    Inference count: 3456
    Execution count: 789
    Successful request count: 864
    Avg request latency: 1648 usec (overhead 2 usec + queue 145 usec + compute input 19 usec + compute infer 1448 usec + compute output 33 usec)

Inferences/Second vs. Client Average Batch Latency
Concurrency: 2, throughput: 3167.49 infer/sec, latency 2518 usec
"""  # noqa: E501
ENSEMBLE_TABLE = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait
2,1147.98,32,1145,0,28,441,86,0,976,2748,3977,9570,1734,32,1696
"""  # noqa: E501
ENSEMBLE_WORDS = """\
Request concurrency: 2
  Pass [1] throughput: 531.388 infer/sec. Avg latency: 3735 usec (std 17713 usec).
  Client:
    Request count: 1256
    Throughput: 1147.98 infer/sec
    Avg latency: 1734 usec (standard deviation 7163 usec)
    Avg HTTP time: 1728 usec (send 32 usec + response wait 1696 usec + receive 0 usec)
  Server:
    Inference count: 1258
    Execution count: 1258
    Successful request count: 1258
    Avg request latency: 1233 usec (overhead 2 usec + queue 676 usec + compute 555 usec)

  Composing models:
  counter, version: 1
      Inference count: 1258
      Execution count: 1013
      Successful request count: 1258
      Avg request latency: 492 usec (overhead 2 usec + queue 278 usec + compute input 14 usec + compute infer 165 usec + compute output 33 usec)

  torch_onnx, version: 1
      Inference count: 1258
      Execution count: 980
      Successful request count: 1258
      Avg request latency: 742 usec (overhead 1 usec + queue 398 usec + compute input 14 usec + compute infer 276 usec + compute output 52 usec)

Inferences/Second vs. Client Average Batch Latency
"""  # noqa: E501


@pytest.fixture(scope="session")
def said():
    """`said["table"]`, `said["words"]`, and both of an ensemble: what the real program wrote."""
    return {"table": TABLE, "words": WORDS, "ensemble table": ENSEMBLE_TABLE, "ensemble words": ENSEMBLE_WORDS}


@pytest.fixture
def result():
    """`result("a", {1: [100, 110]})`: a stored result by concurrency with these rates, round by round."""

    def make(name, rates, *, series="s", requests=10_000, kind="concurrency", **fields):
        def row(number, value, rate):
            latency = 1e6 * value / rate
            parts = {"client_us": 1.0, "network_us": latency * 0.3, "queue_us": latency * 0.2}
            measured = Measured(
                inferences_per_s=rate,
                requests=requests,
                mean_us=latency,
                **{f"p{n}_us": latency * n / 50 for n in (50, 90, 95, 99)},
                **parts,
                compute_us=latency * 0.5 - 1,
                **{"mean_batch": 1.5, "windows": (rate, rate, rate), **fields},
            )
            return Row(target=name, round=number, load=Load(kind=kind, value=value), measured=measured)

        rows = [row(number, value, rate) for value, all_rates in rates.items() for number, rate in enumerate(all_rates)]
        return Stored(
            name=name,
            series=series,
            target={"model": name, "version": 1, "server": "a temporary server", "protocol": "http"},
            settings={"batch_size": 1, "interval_s": 1.0, "perf_analyzer_command": ["perf_analyzer", "-m", name]},
            rows=tuple(rows),
            circumstances={"time": "2026-01-02T03:04:05+00:00", "command": ["modelport", "bench"], "commit": "abc"},
        )

    return make
