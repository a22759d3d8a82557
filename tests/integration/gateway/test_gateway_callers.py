"""D7, D8, D10, D11: who is let in, over which TLS, what a failure says, and what listens where."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import json
import os
import socket
import ssl
import stat
import threading
import time
import warnings
from concurrent import futures
from dataclasses import replace
from pathlib import Path

import grpc
import jwt
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2

from modelport import Client
from modelport._process import wait_until
from modelport.errors import ModelportError
from modelport.gateway import development_certificate, private
from modelport.gateway.keys import issue
from modelport.gateway.settings import Upstream

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
INFER = "/v2/models/double/infer"
ROW = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}'
NOBODY = b'{"code":"unauthorized","error":"a valid key is needed"}\n'
FORBIDDEN = b'{"code":"forbidden","error":"this key does not allow that"}\n'


def part(content: object) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts(token: str) -> list[dict]:
    return [json.loads(base64.urlsafe_b64decode(one + "==")) for one in token.split(".")[:2]]


def made(repository: Path, models=("double",), *, age_s: float = 0.0, expires_s: float = 3600.0) -> issue.Issued:
    return issue.create(repository, "tests", models, expires_s=expires_s, limits={}, now=int(time.time() - age_s))


@pytest.fixture(scope="module")
def bad_keys(setup, tmp_path_factory) -> dict[str, str]:
    """Tokens that are no valid keys, by what is wrong with them."""
    right, repository = setup.token, setup.gateway.repository
    head, claims = parts(right)
    signed, signature = right.rsplit(".", 1)
    jwk = setup.gateway._facts().jwks["keys"][0]
    other = tmp_path_factory.mktemp("other") / "model_repository"
    other.mkdir()
    hs256 = f"{part({**head, 'alg': 'HS256'})}.{part(claims)}"
    secret = json.dumps(jwk).encode()
    return {
        "empty": "",
        "word": "word",
        "truncated": right[:-5],
        "no_signature": f"{signed}.",
        "two_parts": signed,
        "one_bit": f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        "other_claims": f"{part(head)}.{part({**claims, 'models': ['*']})}.{signature}",
        "alg_none": f"{part({**head, 'alg': 'none'})}.{part(claims)}.",
        "alg_hs256": f"{hs256}.{part(hmac.new(secret, hs256.encode(), hashlib.sha256).digest())}",
        "other_signer": made(other).token,
        "unknown_kid": f"{part({**head, 'kid': 'x'})}.{part(claims)}.{signature}",
        "expired": made(repository, age_s=7200).token,
        "long": f"{signed}.{'A' * 8000}",
    }


CASES = ["empty", "word", "truncated", "no_signature", "two_parts", "one_bit", "other_claims", "alg_none", "alg_hs256"]


@pytest.mark.parametrize("case", [*CASES, "other_signer", "unknown_kid", "expired", "long"])
def test_a_key_that_is_not_valid_gets_401_in_the_same_words(setup, front, bad_keys, case):
    token, before = bad_keys[case], setup.asked()
    for path in (INFER, "/v2/models/nothing/infer", "/v2/repository/index"):
        said = front.http("POST", path, ROW, authorization=f"Bearer {token}")
        assert (said.status, said.body) == (401, NOBODY)
        assert said.headers["www-authenticate"] == 'Bearer realm="modelport"'
    for method in ("ModelInfer", "RepositoryIndex"):
        answer = call(front, method, token)
        assert (answer.code(), answer.details()) == (UNAUTHENTICATED, "a valid key is needed")
    assert setup.asked() == before


def call(place, method: str, token: str | None) -> grpc.RpcError:
    with place.channel() as channel:
        made = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        metadata = [] if token is None else [("authorization", f"Bearer {token}")]
        with pytest.raises(grpc.RpcError) as caught:
            made(b"", metadata=metadata, timeout=5)
        return caught.value


@pytest.mark.parametrize("where", ["none", "access_token", "token", "basic", "bare", "other_header", "cookie"])
def test_a_valid_key_in_any_other_place_than_its_header_is_none(setup, front, where):
    token = setup.token
    path = f"{INFER}?{where}={token}" if "token" in where else INFER
    headers = {
        "basic": {"authorization": "Basic " + base64.b64encode(f"a:{token}".encode()).decode()},
        "bare": {"authorization": token},
        "other_header": {"authorization": None, "x_api_key": token},
        "cookie": {"authorization": None, "cookie": f"access_token={token}"},
    }.get(where, {"authorization": None})
    said = front.http("POST", path, ROW, **headers)
    assert (said.status, said.body) == (401, NOBODY)
    assert token not in str(said.headers)


@pytest.mark.parametrize(
    "before", ["Basic Bearer ", "xx Bearer ", "xBearer ", "Bearer Basic ", "Bearer, Bearer ", "Bearer\t"]
)
def test_a_key_behind_any_other_word_than_bearer_is_none(setup, front, before):
    said = front.http("POST", INFER, ROW, authorization=before + setup.token)
    assert (said.status, said.body) == (401, NOBODY)
    said = front.http("POST", INFER, ROW, authorization=f"{before}x, Bearer {setup.token}")
    assert (said.status, said.body) == (401, NOBODY)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "])
def test_the_word_before_a_key_is_taken_in_any_letters(setup, front, scheme):
    assert front.http("POST", INFER, ROW, authorization=f"{scheme} {setup.token}").status == 200


def test_a_token_that_is_signed_and_never_expires_is_none(setup, front):
    head, claims = parts(setup.token)
    secret = private.folder(setup.gateway.repository, "keys", f"{head['kid']}.pem").read_bytes()

    def signed(claims: dict) -> str:
        return jwt.encode(claims, secret, algorithm="ES256", headers={"kid": head["kid"]})

    assert front.http("POST", INFER, ROW, authorization=f"Bearer {signed(claims)}").status == 200
    del claims["exp"]
    said = front.http("POST", INFER, ROW, authorization=f"Bearer {signed(claims)}")
    assert (said.status, said.body) == (401, NOBODY)


def test_a_key_for_other_models_gets_403_whether_the_model_exists_or_not(setup, front):
    for model in ("free", "nothing"):
        said = front.infer(model, ROW)
        assert (said.status, said.body) == (403, FORBIDDEN)
    assert setup.everything.infer("nothing", ROW).status == 404


def test_a_revoked_key_gets_403_on_the_connection_that_it_had_and_others_stay(setup, front):
    issued = made(setup.gateway.repository)
    ask = front.head("POST", INFER, content_length=len(ROW), authorization=f"Bearer {issued.token}") + ROW
    with contextlib.closing(front.connect()) as revoked, contextlib.closing(front.connect()) as other:
        for sock in (revoked, other):
            sock.sendall(ask)
            assert b" 200 " in sock.recv(65536)[:20]
        issue.revoke(setup.gateway.repository, [issued.key.id], None, now=int(time.time()))
        setup.gateway.refresh()
        deadline, answer = time.monotonic() + 5, b""
        while b" 403 " not in answer[:20] and time.monotonic() < deadline:
            revoked.sendall(ask)
            answer = revoked.recv(65536)
        assert FORBIDDEN in answer
        other.sendall(ask.replace(issued.token.encode(), setup.token.encode()))
        assert b" 200 " in other.recv(65536)[:20]
    assert call(front, "ModelInfer", issued.token).code() == DENIED


def test_no_key_stands_in_any_file_or_argument_list(setup, front, bad_keys):
    """Of all keys that the tests before have sent. Negative control: what the log does hold of a key is its id."""
    front.http("POST", f"{INFER}?token={setup.token}", ROW)
    front.infer("raises", b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}')
    call(front, "ModelInfer", setup.token + "x")
    setup.gateway.admin.ask("POST", "/reopen_logs")
    time.sleep(0.6)
    tokens = [setup.token, setup.everything.token, *(one for one in bad_keys.values() if len(one) > 20)]
    needles = {piece.encode() for token in tokens for piece in token.split(".")[1:] if len(piece) > 20}
    folders = (setup.gateway.folder.parent, setup.gateway.repository)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    texts = {str(path): path.read_bytes() for path in files}
    assert any(path.endswith("access.log") for path in texts)
    assert any("double" in path for path in texts)
    for pid in (os.getpid(), setup.server.pid, setup.gateway.pid):
        texts[f"arguments of {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert [path for path, text in texts.items() if any(one in text for one in needles)] == []
    log = (setup.gateway.folder / "access.log").read_text()
    assert parts(setup.token)[1]["jti"] in log
    assert "?token" not in log


def test_triton_never_gets_the_key(setup, front):
    """Triton's log at its most talkative holds what the gate let through, and no key."""
    front.infer("double", ROW)
    log = setup.server.log.read_text()
    assert INFER in log
    assert "bearer" not in log.lower()


# TLS


def test_old_tls_is_refused(setup, front):
    for version in ("TLSv1", "TLSv1_1"):
        context = ssl.create_default_context(cadata=front._ca.decode())
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        with pytest.raises(ssl.SSLError, match=r"protocol version|no protocols"):
            shake(front, context)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cadata=front._ca.decode())
        context.minimum_version = context.maximum_version = version
        shake(front, context)


def shake(place, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection((place.host, place.port), 5) as sock,
        context.wrap_socket(sock, server_hostname=place.host),
    ):
        pass


def test_plain_http_on_the_port_of_tls_gets_no_answer(setup, front):
    with socket.create_connection((front.host, front.port), 5) as sock:
        sock.sendall(front.head("GET", "/v2/health/live"))
        assert b"HTTP/" not in sock.recv(1000)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_client_that_comes_without_tls_is_told_that_something_is_wrong(front, scheme):
    url = f"{scheme}://{front.host}:{front.port}"
    with Client(url, timeout_s=2, token="x") as client, pytest.raises(ModelportError):
        client.spec("double")


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_a_client_is_told_that_a_certificate_has_expired(setup, front, scheme, tmp_path):
    """The gateway takes another certificate while it runs; the old one is back afterwards."""
    repository = tmp_path / "model_repository"
    repository.mkdir()
    then = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(
        days=development_certificate.CERTIFICATE_DAYS + 1
    )
    expired = development_certificate.ensure(repository, now=then)
    gateway, right = setup.gateway, setup.gateway.settings
    url = f"{scheme}://{front.host}:{front.port}"
    gateway.settings = replace(right, certificate=expired.certificate, key=expired.key)
    try:
        gateway.refresh()
        wait_for(front, expired.certificate)
        with (
            Client(url, timeout_s=2, ca_file=expired.ca, token=setup.token) as client,
            pytest.raises(ModelportError) as caught,
        ):
            client.spec("double")
        assert "expired" in str(caught.value)
    finally:
        gateway.settings = right
        gateway.refresh()
        wait_for(front, right.certificate)
    with Client(url, timeout_s=5, ca_file=setup.ca_file, token=setup.token) as client:
        assert client.spec("double").name == "double"


def test_a_renewed_certificate_is_shown_without_a_restart(setup, front):
    """Its file is replaced where it lies; nobody tells the gateway."""
    certificate = setup.gateway.settings.certificate
    before = certificate.read_bytes()
    certificate.unlink()
    development_certificate.ensure(setup.gateway.repository)
    assert certificate.read_bytes() != before
    wait_for(front, certificate)


def wait_for(place, certificate: Path) -> None:
    wanted = ssl.PEM_cert_to_DER_cert(
        certificate.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
    )
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        shown = ssl.get_server_certificate((place.host, place.port))
        if ssl.PEM_cert_to_DER_cert(shown) == wanted:
            return
        time.sleep(0.05)
    raise AssertionError("the gateway does not show that certificate")


# What a failure says


TELLING = ("/", ".py", "Traceback", "At:", "line ", "shm", "2.51", "triton", "on purpose", "python", "127.0.0.1")


def test_a_model_that_raises_says_nothing_of_where_it_runs(front, direct):
    request = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}'
    said = front.infer("raises", request)
    assert (said.status, said.code) == (500, "internal")
    everything = said.body.decode() + str({k: v for k, v in said.headers.items() if k not in ("content-type", "date")})
    assert [word for word in TELLING if word in everything] == []
    message = service_pb2.ModelInferRequest(model_name="raises", raw_input_contents=[np.ones(1, "f").tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    answer = front.call("ModelInfer", message)
    assert (answer.code(), answer.details()) == (grpc.StatusCode.INTERNAL, "the model could not answer")
    assert dict(answer.trailing_metadata())["modelport-code"] == "internal"
    assert direct.infer("raises", request).body.count(b"model.py") == 1  # negative control
    assert "model.py" in direct.call("ModelInfer", message).details()


class Other(grpc.GenericRpcHandler):
    """In Triton's place: gives a status after some data, in headers, or in trailers alone."""

    def service(self, details):
        def answer(request, context):
            when, code = service_pb2.ModelInferRequest.FromString(request).id.split()
            if when == "after":
                yield b"\n\x06double"
            context.set_trailing_metadata([("grpc-status-details-bin", b"/usr/lib/secret")])
            context.abort(getattr(grpc.StatusCode, code), "Traceback /usr/lib/secret.py: shm")

        return grpc.unary_stream_rpc_method_handler(answer)


WORDS = (
    "the model could not answer",
    "the server has more requests than it can answer",
    "the answer took too long",
)
CODES = ["INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "ABORTED", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED"]


def test_a_failure_in_trailers_says_nothing_either(setup, front):
    right = setup.gateway.settings.upstreams
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Other()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        setup.gateway.refresh([Upstream(host="127.0.0.1", http_port=port, grpc_port=port)])
        seen = {}
        for code in CODES:
            for when in ("after", "before"):
                message = service_pb2.ModelInferRequest(model_name="double", id=f"{when} {code}")
                message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
                message.raw_input_contents.append(np.ones(4, "f").tobytes())
                seen[code, when] = stream(front, message.SerializeToString())
    finally:
        server.stop(0)
        setup.gateway.refresh(right)
        deadline = time.monotonic() + 5
        while front.infer("double", ROW).status != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
    for (code, when), (count, error) in seen.items():
        assert count == (when == "after"), (code, when)
        assert "secret" not in str(error), error
        assert error.code().name == code
        assert error.details() in WORDS
        assert "grpc-status-details-bin" not in dict(error.trailing_metadata())


def stream(place, content: bytes):
    with place.channel() as channel:
        answers = channel.unary_stream("/inference.GRPCInferenceService/ModelInfer")(
            content, metadata=place.metadata(), timeout=5
        )
        count = 0
        try:
            for _ in answers:
                count += 1
        except grpc.RpcError as error:
            return count, error
    raise AssertionError("no failure came")


@contextlib.contextmanager
def answered_with(setup, answer: list[bytes]):
    """In Triton's place a server that answers each request with the bytes in the list; gives what it was asked."""
    listener, asked = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listener.accept()
                with one, contextlib.suppress(OSError):
                    data = b""
                    while not data.endswith(ROW):
                        data += one.recv(65536)
                    asked.append(data)
                    one.sendall(answer[0])

    threading.Thread(target=serve, daemon=True).start()
    port, right = listener.getsockname()[1], setup.gateway.settings.upstreams
    setup.gateway.refresh([Upstream(host="127.0.0.1", http_port=port, grpc_port=port)])
    try:
        assert wait_until(lambda: setup.front.infer("double", ROW) and asked, timeout_s=5)
        yield asked
    finally:
        setup.gateway.refresh(right)
        assert wait_until(lambda: b'"outputs"' in setup.front.infer("double", ROW).body, timeout_s=5)
        listener.close()


def answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


GRPC, TOLD = "content-type: application/grpc", b"secret /usr/lib/x.py"
LIES = {
    "500 as gRPC": (answer("500 X", TOLD, GRPC), 502, "unavailable"),
    "200 as gRPC": (
        answer("200 OK", TOLD, GRPC, "grpc-status: 13", f"grpc-message: {TOLD.decode()}"),
        502,
        "unavailable",
    ),
    "302": (answer("302 X", TOLD, "location: http://secret/"), 502, "unavailable"),
    "304": (answer("304 X", b""), 502, "unavailable"),
    "502": (answer("502 X", TOLD), 502, "unavailable"),
    "garbage": (b"secret\r\n\r\n", 502, "unavailable"),
    "401": (answer("401 X", TOLD, "www-authenticate: secret", "set-cookie: secret=1"), 401, "bad_request"),
    "control": (answer("400 X", b'{"error":"a\n\x01b\\n"}'), 400, "bad_request"),
    "not UTF-8": (answer("400 X", b'{"error":"a\xff"}'), 400, "bad_request"),
    "another code": (answer("400 X", b'{"error":"a","code":"secret"}'), 400, "bad_request"),
    "no end": (answer("400 X", b'{"error":"a\\"}'), 400, "bad_request"),
}


def test_a_server_that_lies_gets_nothing_but_our_errors_through(setup, front):
    """Whatever it gives itself out for, and wherever it sends the caller."""
    now = [b""]
    with answered_with(setup, now):
        for name, (bytes_, status, code) in LIES.items():
            now[0] = bytes_
            said = front.infer("double", ROW)
            assert (name, said.status, said.code) == (name, status, code), said
            assert said.json.keys() == {"code", "error"} and said.headers["content-type"] == "application/json", name
            assert "secret" not in str(said), name
            assert not {"location", "set-cookie", "grpc-status", "grpc-message"} & said.headers.keys(), name
            if name == "control":
                assert said.error == "a\n\x01b\n"
        now[0] = answer("200 OK", b"{}", "set-cookie: a=b")  # negative control: an answer passes
        said = front.infer("double", ROW)
        assert (said.status, said.body) == (200, b"{}") and "set-cookie" not in said.headers


# What listens


def test_only_the_gateway_listens_on_a_public_address(setup, direct):
    found = {}
    for root in (setup.server.pid, setup.gateway.pid):
        process = psutil.Process(root)
        for one in (process, *process.children(recursive=True)):
            for place in one.net_connections("inet"):
                if place.status == psutil.CONN_LISTEN or (place.type != socket.SOCK_STREAM and not place.raddr):
                    address = place.laddr.ip.removeprefix("::ffff:")
                    found.setdefault(address, set()).add((root, place.laddr.port))
    assert found.pop("0.0.0.0") == {(setup.gateway.pid, setup.gateway.settings.port)}
    assert set(found) == {"127.0.0.1"}
    assert {pid for pid, _ in found["127.0.0.1"]} == {setup.server.pid}
    admin = setup.gateway.folder / "admin.sock"
    assert stat.S_IMODE(admin.stat().st_mode) == 0o600
    assert stat.S_IMODE(setup.gateway.folder.stat().st_mode) == 0o700
    answer = direct.call("RepositoryIndex", b"")
    assert answer.code() == grpc.StatusCode.UNAVAILABLE, answer
    assert "restricted" in answer.details()


# A fault in the gate itself


@contextlib.contextmanager
def broken(setup, before: str, after: str):
    """The gate with one piece of it replaced, as Envoy reads it."""
    path = setup.gateway.folder / "followed" / "gate.json"
    right = path.read_text()
    content = json.loads(right)
    source = content["resources"][0]["typed_config"]["default_source_code"]
    assert source["inline_string"].count(before) == 1
    source["inline_string"] = source["inline_string"].replace(before, after)
    put(path, json.dumps(content))
    try:
        yield
    finally:
        put(path, right)
        deadline = time.monotonic() + 5
        while setup.front.infer("double", ROW).status != 200 and time.monotonic() < deadline:
            time.sleep(0.05)


def put(path: Path, text: str) -> None:
    beside = path.with_name(".new")
    beside.write_text(text)
    beside.replace(path)
    time.sleep(0.2)


FAULTS = {
    "at_once": ("function envoy_on_request(handle)\n", "function envoy_on_request(handle)\n  error('on purpose')\n"),
    "after_the_body": ('  note(handle, "kind", asked.kind)\n', "  local none = nil\n  none.field = 1\n"),
    "missing": ("function envoy_on_request(handle)\n", "function envoy_on_something(handle)\n"),
    "other_secret": ("DATA.secret = ", "DATA.secret = 'x' or "),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_in_the_gate_lets_nothing_through(setup, everything, case):
    with broken(setup, *FAULTS[case]):
        before = setup.asked()
        for path in (INFER, "/v2/repository/index", "/v2/models/double/config"):
            said = everything.http("POST", path, ROW, x_modelport_pass="x", x_modelport_turnstile="triton_http")
            assert (said.status, said.json["code"]) == (404, "not_found")
        for method in ("ModelInfer", "RepositoryIndex"):
            assert isinstance(everything.call(method, b""), grpc.RpcError)
        assert setup.asked() == before


def test_a_gate_that_cannot_be_read_leaves_the_one_before(setup, everything):
    with broken(setup, "function envoy_on_request(handle)\n", "function function\n"):
        assert everything.infer("double", ROW).status == 200
        assert everything.http("POST", "/v2/repository/index", b"").status == 404
