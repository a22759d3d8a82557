"""The development certificate: made once, kept while it holds, accepted by callers that trust its authority."""

from __future__ import annotations

import datetime
import http.server
import json
import socket
import ssl
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from cryptography import x509
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport.client import Client
from modelport.errors import UnreachableError, UsageError
from modelport.gateway import certificates, development_certificate

NOW = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def test_it_holds_for_this_machine_and_only_its_owner_can_read_the_keys(tmp_path):
    made = development_certificate.ensure(tmp_path / "models", ["Gateway.Example", "192.0.2.7"])
    assert {"localhost", "127.0.0.1", "::1", "gateway.example", "192.0.2.7"} <= set(made.names)
    assert made.renewed and made.ca is not None
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert stat.S_IMODE((made.ca.parent / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(made.key.parent.stat().st_mode) == 0o700
    assert certificates.check(made.certificate, made.key).names == made.names


def test_it_is_made_once_and_anew_three_months_before_its_end_under_the_same_authority(tmp_path):
    root = tmp_path / "models"
    first = development_certificate.ensure(root, now=NOW)
    files = {path: path.read_bytes() for path in first.key.parent.iterdir()}
    assert not development_certificate.ensure(root, now=NOW + 306 * DAY).renewed
    assert files == {path: path.read_bytes() for path in first.key.parent.iterdir()}
    again = development_certificate.ensure(root, now=NOW + 308 * DAY)
    assert again.renewed and again.expires_at > first.expires_at
    assert again.ca.read_bytes() == files[again.ca], "callers would have to trust another authority"


def test_another_name_needs_another_authority_for_the_first_may_not_vouch_for_it(tmp_path):
    root = tmp_path / "models"
    first = development_certificate.ensure(root, now=NOW).ca.read_bytes()
    made = development_certificate.ensure(root, ["gateway.example"], now=NOW)
    assert made.renewed and "gateway.example" in made.names and made.ca.read_bytes() != first
    assert not development_certificate.ensure(root, now=NOW).renewed, "the name may stay"


@pytest.mark.parametrize("damaged", ["ca.pem", "ca.key", "certificate.pem", "key.pem"])
@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_file_that_is_lost_or_damaged_is_made_again(tmp_path, damaged, content):
    root = tmp_path / "models"
    path = development_certificate.ensure(root, now=NOW).key.parent / damaged
    path.unlink() if content is None else path.write_bytes(content)
    made = development_certificate.ensure(root, now=NOW)
    certificates.check(made.certificate, made.key, now=NOW)
    authority = x509.load_pem_x509_certificate(made.ca.read_bytes())
    x509.load_pem_x509_certificate(made.certificate.read_bytes()).verify_directly_issued_by(authority)


def test_a_key_that_others_could_read_is_replaced(tmp_path):
    root = tmp_path / "models"
    key = development_certificate.ensure(root).key
    before = key.read_bytes()
    key.chmod(0o644)
    assert development_certificate.ensure(root).key.read_bytes() != before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["a b", "", "*.example", "-a.example", "x/y"])
def test_what_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="no certificate can be made for"):
        development_certificate.ensure(tmp_path / "models", [name])


@pytest.fixture
def made(tmp_path):
    return development_certificate.ensure(tmp_path / "models")


@pytest.fixture
def https(made):
    """The port of a server on every loopback address of this machine, that says it is ready."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = json.dumps({}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6

        def server_bind(self):
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

        def handle_error(self, *_):  # a caller that does not trust it breaks off
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    with Server(("::", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def grpcs(made):
    """The port of a gRPC server that says it is ready."""

    class Ready(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ServerReady(self, request, context):
            return service_pb2.ServerReadyResponse(ready=True)

    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Ready(), server)
    secret = grpc.ssl_server_credentials([(made.key.read_bytes(), made.certificate.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", secret)
    server.start()
    yield port
    server.stop(0)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_caller_that_trusts_the_authority_accepts_it_over_https(made, https, host):
    with Client(f"https://{host}:{https}", ca_file=made.ca, retries=0) as client:
        assert client.ready()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_caller_that_trusts_the_authority_accepts_it_over_grpcs(made, grpcs, host, monkeypatch):
    monkeypatch.setenv("MODELPORT_CA", str(made.ca))
    with Client(f"grpcs://{host}:{grpcs}", retries=0) as client:
        assert client.ready()


def test_a_caller_that_does_not_trust_it_refuses_it(https):
    with (
        Client(f"https://localhost:{https}", retries=0) as client,
        pytest.raises(UnreachableError, match="certificate"),
    ):
        client.spec("net")


def test_the_authority_cannot_vouch_for_other_names(made, tmp_path):
    """Whoever stole its key could pass for this machine, and for nobody else."""
    from modelport.gateway.development_certificate import _authority, _make_certificate  # the thief has our code

    folder = made.key.parent
    authority = _authority(folder, ("localhost",), datetime.datetime.now(datetime.timezone.utc))
    thief = tmp_path / "thief"
    thief.mkdir()
    _make_certificate(thief, authority, ("bank.example",), datetime.datetime.now(datetime.timezone.utc))
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=made.ca)
    server.load_cert_chain(thief / "certificate.pem", thief / "key.pem")
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        _shake_hands(server, client, "bank.example")
    server.load_cert_chain(made.certificate, made.key)
    _shake_hands(server, client, "localhost")


def _shake_hands(server, client, name):
    """A TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=name)]
    ends.append(server.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not ends


def test_two_that_make_it_at_once_make_one(tmp_path):
    root = tmp_path / "models"
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: development_certificate.ensure(root), range(4)))
    assert sum(each.renewed for each in done) == 1
    certificates.check(done[0].certificate, done[0].key)
