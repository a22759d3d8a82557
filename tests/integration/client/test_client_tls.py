"""TLS (D8): a certificate is verified, and when it cannot be, the error names the cause."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from concurrent import futures
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport.client import Client
from modelport.errors import UnreachableError

METADATA = b'{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}], "outputs": []}'


@pytest.fixture(scope="module")
def certificates(require, tmp_path_factory):
    """`certificates(name)`: an own certificate for localhost, `good` for a day or `expired` since 2001, and its key."""
    require("openssl")
    folder = tmp_path_factory.mktemp("tls")

    def make(name: str):
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        if not cert.exists():
            dates = ["-not_before", "20000101000000Z", "-not_after", "20010101000000Z"] if name == "expired" else []
            _openssl("genrsa", "-out", key, "2048")
            _openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", folder / "csr")
            (folder / "ext").write_text("subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:TRUE\n")
            _sign(folder, key, cert, dates)
        return cert, key

    return make


def _sign(folder, key, cert, dates) -> None:
    if not dates:
        extra = ["-extfile", folder / "ext", "-days", "1", "-out", cert]
        _openssl("x509", "-req", "-in", folder / "csr", "-signkey", key, *extra)
        return
    # Only `openssl ca` takes dates of the past in every version.
    for name, text in (("index.txt", ""), ("serial", "01\n")):
        (folder / name).write_text(text)
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=own\n[own]\npolicy=any\n[any]\ncommonName=supplied\n"
        f"[own]\ndatabase={folder}/index.txt\nserial={folder}/serial\nnew_certs_dir={folder}\ndefault_md=sha256\n"
    )
    start, end = dates[1], dates[3]
    _openssl(
        *("ca", "-batch", "-config", folder / "ca.conf", "-selfsign", "-keyfile", key, "-in", folder / "csr"),
        *("-startdate", start, "-enddate", end, "-extfile", folder / "ext", "-notext", "-out", cert),
    )


def _openssl(*arguments: Any) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@pytest.fixture
def https(certificates):
    """`https(name, **context)`: a server with that certificate that answers metadata; its port."""
    listeners = []
    accepted.clear()

    def start(name: str, **settings: Any) -> int:
        cert, key = certificates(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        for setting, value in settings.items():
            setattr(context, setting, value)
        if settings.get("verify_mode"):
            context.load_verify_locations(cert)
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=_serve, args=(listener, context), daemon=True).start()
        return listener.getsockname()[1]

    yield start
    for listener in listeners:
        listener.close()


accepted: list[int] = []  # the ports of connections to the servers of the test


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            sock, address = listener.accept()
        except OSError:
            return
        accepted.append(address[1])
        try:
            with context.wrap_socket(sock, server_side=True) as tls:
                while tls.recv(65536):
                    tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(METADATA) + METADATA)
        except OSError:
            continue


@pytest.fixture
def grpcs(certificates):
    """`grpcs(name)`: a gRPC server with that certificate; its port."""
    servers = []

    class Model(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelMetadata(self, request: Any, context: Any) -> Any:
            tensor = service_pb2.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[1])
            return service_pb2.ModelMetadataResponse(name="m", inputs=[tensor])

    def start(name: str) -> int:
        cert, key = certificates(name)
        server = grpc.server(futures.ThreadPoolExecutor(2))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Model(), server)
        secret = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
        port = server.add_secure_port("127.0.0.1:0", secret)
        server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture(params=["https", "grpcs"])
def secure(request):
    """`secure(name)`: the URL, by the name that stands in the certificate, of a server with that certificate."""
    start = request.getfixturevalue(request.param)
    return lambda name: f"{request.param}://localhost:{start(name)}"


def test_a_trusted_certificate_is_accepted(ask, secure, certificates):
    url = secure("good")
    assert ask(url, "spec", "m", options={"ca_file": certificates("good")[0]}).name == "m"


@pytest.mark.parametrize(
    ("served", "trusted"),
    [("good", None), ("good", "other"), ("expired", "expired")],
    ids=["unknown", "other", "expired"],
)
def test_a_certificate_that_cannot_be_verified_is_refused_at_once(ask, secure, certificates, served, trusted):
    """Once: the next try would fail in the same way."""
    url = secure(served)
    options = {} if trusted is None else {"ca_file": certificates(trusted)[0]}
    with pytest.raises(UnreachableError) as caught:
        ask(url, "spec", "m", options=options)
    assert "certificate" in caught.value.why.lower()
    assert "tries" not in caught.value.why
    assert "not accepted" in caught.value.why and ("expired" in caught.value.why) is (served == "expired")


def test_the_host_name_must_stand_in_the_certificate(ask, https, certificates):
    url = f"https://127.0.0.1:{https('good')}"
    with pytest.raises(UnreachableError, match="certificate"):
        ask(url, "spec", "m", options={"ca_file": certificates("good")[0]})


def test_verification_can_be_switched_off_for_https(ask, https):
    assert ask(f"https://127.0.0.1:{https('expired')}", "spec", "m", options={"verify_tls": False}).name == "m"


def test_old_tls_is_refused(ask, https, certificates):
    with pytest.warns(DeprecationWarning):
        port = https("good", minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    with pytest.raises(UnreachableError):
        ask(f"https://localhost:{port}", "spec", "m", options={"ca_file": certificates("good")[0], "retries": 0})


def test_a_certificate_of_the_caller_is_shown(ask, https, certificates):
    port = https("good", verify_mode=ssl.CERT_REQUIRED)
    cert, key = certificates("good")
    options = {"ca_file": cert, "client_cert": cert, "client_key": key, "retries": 0}
    assert ask(f"https://localhost:{port}", "spec", "m", options=options).name == "m"
    with pytest.raises(UnreachableError):
        ask(f"https://localhost:{port}", "spec", "m", options={"ca_file": cert, "retries": 0})


def test_a_tls_connection_is_used_again(https, certificates):
    with Client(f"https://localhost:{https('good')}", ca_file=certificates("good")[0], retries=0) as client:
        for _ in range(5):
            assert client.spec("m").name == "m"
    assert len(accepted) == 1
