"""D3 to D5: what callers may not ask for, by whatever path, header or method; Triton never sees it."""

from __future__ import annotations

import contextlib
import struct

import grpc
import pytest
from tritonclient.grpc import service_pb2

from modelport.server.secret import GRPC_HEADER, HTTP_HEADER

REFUSED = (400, 401, 403, 404)
# Method and path of all that Triton serves beside inference, readiness and metadata.
OTHERS = [
    ("GET", "/v2"),
    ("GET", "/v2/"),
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/v2/models/double/config"),
    ("GET", "/v2/models/double/versions/1/config"),
    ("GET", "/v2/models/double/stats"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/double/versions/1/stats"),
    ("POST", "/v2/models/double/generate"),
    ("POST", "/v2/models/double/generate_stream"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/double/load"),
    ("POST", "/v2/repository/models/double/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/a/register"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("POST", "/v2/cudasharedmemory/region/a/register"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("GET", "/v2/models/double/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/models/double/infer"),
    ("PUT", "/v2/models/double/infer"),
    ("PATCH", "/v2/models/double/infer"),
    ("DELETE", "/v2/models/double"),
    ("HEAD", "/v2/models/double"),
    ("TRACE", "/v2/models/double"),
    ("OPTIONS", "*"),
    ("POST", "/v2/models/double"),
    ("POST", "/v2/health/live"),
    ("CONNECT", "127.0.0.1:8000"),
    ("PRI", "*"),
    ("get", "/v2/models/double"),
]


def request(place, method: str, path: str, **headers):
    body = b"{}" if method in ("POST", "PUT", "PATCH") else None
    return place.http(method, path, body, **headers)


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_all_else_is_refused_and_never_seen_by_triton(setup, everything, method, path):
    before = setup.asked()
    said = request(everything, method, path)
    assert said.status in (*REFUSED, 405), said
    assert method == "HEAD" or said.json.keys() == {"error", "code"}
    assert setup.asked() == before


def test_triton_has_them(direct, setup):
    """Negative control: without the gateway they are there, or want the secret."""
    with_secret = {name.replace("-", "_"): value for name, value in setup.server.http_headers.items()}
    for method, path in (("GET", "/v2/models/double/stats"), ("POST", "/v2/repository/index"), ("GET", "/v2/logging")):
        assert request(direct, method, path, **with_secret).status == 200
        assert request(direct, method, path).status == 403
    assert request(direct, "GET", "/v2").json["version"]


TRICKS = [
    "/v2/models/double/../../repository/index",
    "/v2/models/double/%2e%2e/%2e%2e/repository/index",
    "/v2/models/double/infer/../../../repository/index",
    "/v2/models/double/%2e%2e%2f%2e%2e%2frepository/index",
    "/v2/models/..%2frepository/index",
    "/v2/models/double%2F..%2F..%2Frepository%2Findex",
    "/v2/models/%2e%2e/repository/index",
    "/v2/models/double/.%2e/.%2e/repository/index",
    "/v2/models/double\\..\\..\\repository\\index",
    "/v2/models/double%5c..%5c..%5crepository%5cindex",
    "/v2//repository/index",
    "//v2/repository/index",
    "/v2/./repository/index",
    "/v2/repository//index",
    "/V2/repository/index",
    "/v2/Repository/Index",
    "/v2/repository/index/",
    "/v2/repository/index.",
    "/v2/repository/index;a=b",
    "/v2;a/repository/index",
    "/v2/repository/index?a=/infer",
    "/v2/repository/index%3f/infer",
    "/v2/repository/index%23/infer",
    "/v2/repository/index%00/infer",
    "/v2/repository/index%0d%0a/infer",
    "/v2/%72epository/index",
    "/%76%32/repository/index",
    "/v2/%2572epository/index",
    "http://127.0.0.1/v2/repository/index",
    "http://a/v2/models/double/../../repository/index",
    "https://127.0.0.1:1/v2/repository/index",
    "/v2/models/double/infer/v2/repository/index",
    "/v2/models/double/versions/1/../../../../repository/index",
    "/v2/models/double/versions/1%2f..%2f..%2finfer",
    "/v2/models/../repository/index/infer",
    "/v2/models/double?x=/../../repository/index",
    "/v2/models/repository/index",
]
MODEL_TRICKS = [
    "/v2/models/double./infer",
    "/v2/models/.double/infer",
    "/v2/models/double//infer",
    "/v2/models//double/infer",
    "/v2/models/double/infer/",
    "/v2/models/double/infer.",
    "/v2/models/double/infer;a",
    "/v2/models/double;a/infer",
    "/v2/models/double/INFER",
    "/v2/models/DOUBLE/infer",
    "/v2/models/double%00/infer",
    "/v2/models/double%20/infer",
    "/v2/models/d%6fuble%2f/infer",
    "/v2/models/double/versions//infer",
    "/v2/models/double/versions/0/infer",
    "/v2/models/double/versions/01/infer",
    "/v2/models/double/versions/-1/infer",
    "/v2/models/double/versions/1.0/infer",
    "/v2/models/double/versions/1/1/infer",
    "/v2/models/double/versions/99999999999999999999/infer",
    "/v2/models/double/versions/1/versions/1/infer",
    "/v2/models/" + "d" * 5000 + "/infer",
]
ROW = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}'


@pytest.mark.parametrize("path", TRICKS)
def test_no_way_of_writing_a_path_leads_to_what_is_refused(setup, everything, path):
    before = setup.asked()
    for method in ("GET", "POST"):
        said = request(everything, method, path)
        if path == "/v2/models/double?x=/../../repository/index" and method == "GET":  # the model's metadata, no more
            assert said.json["name"] == "double"
            continue
        assert said.status in REFUSED, said
    assert setup.asked() <= before + 1


@pytest.mark.parametrize("path", MODEL_TRICKS)
def test_a_model_or_version_has_one_way_to_be_written(everything, path):
    said = everything.http("POST", path, ROW)
    assert said.status in REFUSED, said


def test_right_paths_are_answered_and_their_query_goes_no_further(setup, everything):
    """Negative control; the absolute form and needless escapes are the same paths."""
    for path in (
        "/v2/models/double/infer",
        "/v2/models/double/versions/1/infer",
        "/v2/models/double/infer?a=b&c=%2e%2e",
        "/v2/models/d%6fuble/infer",
        "/v2/models/x/../double/infer",
        "http://any.where/v2/models/double/infer",
    ):
        said = everything.http("POST", path, ROW)
        assert said.status == 200, (path, said)
    for path in ("/v2/health/live", "/v2/health/ready?x", "/v2/models/double/ready", "/v2/models/double/versions/1"):
        assert everything.http("GET", path).status == 200, path


def test_what_takes_no_body_gets_none(setup, everything):
    before = setup.asked()
    for path in ("/v2/health/live", "/v2/models/double", "/v2/models/double/ready"):
        assert everything.http("GET", path, b"GET /v2/repository/index HTTP/1.1\r\n\r\n").status == 400
        assert (
            everything.http(
                "GET", path, b"1\r\n \r\n0\r\n\r\n", content_length=None, transfer_encoding="chunked"
            ).status
            == 400
        )
    assert setup.asked() == before


METHODS = [method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
ALLOWED = ["ServerLive", "ServerReady", "ModelReady", "ModelMetadata", "ModelInfer"]


@pytest.mark.parametrize("method", [one for one in METHODS if one not in ALLOWED])
def test_the_same_over_grpc(setup, everything, method):
    before = setup.asked()
    for more in ([], [(GRPC_HEADER, "x")]):
        answer = everything.call(method, b"", *more)
        assert isinstance(answer, grpc.RpcError), answer
        assert answer.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED), answer
    with everything.channel() as channel:
        call = channel.stream_stream(f"/inference.GRPCInferenceService/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter([b""]), metadata=everything.metadata(), timeout=5))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert setup.asked() == before


def test_all_methods_of_grpc_are_known_here():
    assert set(ALLOWED) < set(METHODS)
    assert len(METHODS) == 20, "a method is new: is it for callers?"


@pytest.mark.parametrize(
    "path",
    [
        "/inference.GRPCInferenceService/modelinfer",
        "/inference.GRPCInferenceService/ModelInfer/",
        "/inference.GRPCInferenceService//RepositoryIndex",
        "/inference.GRPCInferenceService/ModelInfer/../RepositoryIndex",
        "/inference.GRPCInferenceService/%52epositoryIndex",
        "/inference.GRPCInferenceService/RepositoryIndex?ModelInfer",
        "/Inference.GRPCInferenceService/RepositoryIndex",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/inference.GRPCInferenceService/",
        "/",
    ],
)
def test_no_way_of_writing_a_grpc_path_leads_to_what_is_refused(setup, everything, path):
    before = setup.asked()
    said = everything.http("POST", path, b"\0\0\0\0\0", content_type="application/grpc", te="trailers")
    assert said.headers.get("grpc-status", "5") in ("5", "7") or said.status == 400, said
    assert setup.asked() == before


@contextlib.contextmanager
def listening():
    """A server that remembers the heads that come in, and answers each with 200."""
    import socket
    import threading

    listener, heads = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listener.accept()
                with one:
                    data = b""
                    while b"\r\n\r\n" not in data:
                        data += one.recv(65536)
                    heads.append(data.partition(b"\r\n\r\n")[0].decode("latin-1").lower())
                    one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], heads
    finally:
        listener.close()


SENT = {
    HTTP_HEADER: "x",
    GRPC_HEADER: "x",
    "triton-anything": "x",
    "Triton-GRPC-Protocol-Infer": "x",
    "x-modelport-pass": "x",
    "x-modelport-local": "1",
    "x-modelport-quota": "1",
    "x-modelport-turnstile": "capture",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-retry-on": "5xx",
    "x-envoy-max-retries": "9",
    "x-envoy-original-path": "/v2/repository/index",
    "x-original-url": "/v2/repository/index",
    "x-rewrite-url": "/v2/repository/index",
    "x-http-method-override": "DELETE",
    "endpoint-load-metrics-format": "text",
    "accept-encoding": "gzip",
    "grpc-timeout": "1n",
    "cookie": "a=b",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


def test_callers_headers_end_at_the_gateway(setup, everything):
    """What reaches a server is what a request needs; seen by a server of our own in Triton's place."""
    from modelport.gateway.settings import Upstream

    before = setup.gateway.settings.upstreams
    with listening() as (port, heads):
        setup.gateway.refresh([Upstream(host="127.0.0.1", http_port=port, grpc_port=port)])
        try:
            import time

            deadline = time.monotonic() + 5
            while not heads and time.monotonic() < deadline:
                head = everything.head("POST", "/v2/models/double/infer", content_length=len(ROW), **SENT)
                everything.raw(head, ROW)
        finally:
            setup.gateway.refresh(before)
            deadline = time.monotonic() + 5
            while everything.infer("double", ROW).status != 200 and time.monotonic() < deadline:
                time.sleep(0.05)
    lines = heads[0].splitlines()
    assert lines[0] == "post /v2/models/double/infer http/1.1"
    names = {line.partition(":")[0] for line in lines[1:]}
    assert names <= {"host", "content-length", "x-request-id", "x-forwarded-proto", "x-envoy-expected-rq-timeout-ms"}
    assert {"host", "content-length"} <= names


def test_headers_of_ours_and_of_envoy_change_nothing(setup, everything):
    message = struct.pack(">BI", 0, 0)
    for name, value in SENT.items():
        if name == "grpc-timeout":
            continue
        said = everything.http("POST", "/v2/models/double/infer", ROW, **{name: value})
        assert said.status == 200, (name, said)
        assert said.body.startswith(b'{"model_name"')
        assert not [one for one in said.headers if one.startswith(("x-envoy", "x-modelport", "endpoint"))], said
        before = setup.asked()
        assert request(everything, "POST", "/v2/repository/index", **{name: value}).status == 404
        assert setup.asked() == before
    answer = everything.call("RepositoryIndex", message[5:], *((n.lower(), v) for n, v in SENT.items() if n[0] != "g"))
    assert answer.code() == grpc.StatusCode.NOT_FOUND


def test_the_id_of_a_request_is_the_gateways(everything):
    """A caller who chose it could make two requests one, in the log and in what is captured."""
    said = everything.http("GET", "/v2/health/live", x_request_id="mine")
    assert len(said.headers["x-request-id"]) == 36


def test_the_servers_own_secret_opens_nothing_at_the_gateway(setup, everything, direct):
    headers = {name.replace("-", "_"): value for name, value in setup.server.http_headers.items()}
    before = setup.asked()
    assert request(everything, "POST", "/v2/repository/index", **headers).status == 404
    assert setup.asked() == before
    assert request(direct, "POST", "/v2/repository/index", **headers).status == 200, "the secret is not the secret"
