"""`https:` reaches public hosts and those the operator trusts; nothing else, by no detour."""

import datetime
import ipaddress
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from models.sources import SourceCode, SourceError, parse_source
from models.sources.https import is_public

DATA = bytes(range(256)) * 500
TRUSTED = frozenset({"localhost"})


class Host(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(DATA)))
        elif self.path == "/net.onnx":
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
        elif self.path == "/endless":
            self.send_response(200)
        else:
            self.send_error(404)
            return
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def host(certificate):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.asked = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # a client that does not trust us is what some tests want
    server.url = f"https://localhost:{server.server_port}"
    server.trust = ssl.create_default_context(cafile=certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetch(host, context):
    def run(path, *, sha256="0" * 64, **options):
        settings = {"trusted_hosts": TRUSTED, "tls": host.trust} | options
        return parse_source(f"{host.url}{path}").fetch(context(**settings), expect_sha256=sha256)

    return run


def assert_refused(code, fetch, *arguments, **options):
    with pytest.raises(SourceError) as caught:
        fetch(*arguments, **options)
    assert caught.value.code is code, caught.value.message
    assert caught.value.hint


def test_a_trusted_host_gives_its_file(fetch, sha256):
    assert fetch("/net.onnx", sha256=sha256(DATA)).path.read_bytes() == DATA


def test_redirects_are_followed(fetch, sha256):
    assert fetch("/to//net.onnx", sha256=sha256(DATA)).path.read_bytes() == DATA


def test_a_hash_is_required(fetch):
    assert_refused(SourceCode.INVALID, fetch, "/net.onnx", sha256=None)


def test_other_bytes_are_refused(fetch):
    assert_refused(SourceCode.HASH_MISMATCH, fetch, "/net.onnx")


def test_an_inner_address_is_refused_before_anything_is_sent(fetch, host):
    assert_refused(SourceCode.FORBIDDEN, fetch, "/net.onnx", trusted_hosts=frozenset())

    assert host.asked == []


def test_a_redirect_to_an_inner_address_is_refused(fetch, host):
    assert_refused(SourceCode.FORBIDDEN, fetch, f"/to/https://127.0.0.1:{host.server_port}/net.onnx")

    assert len(host.asked) == 1


def test_a_redirect_to_another_scheme_is_refused(fetch):
    assert_refused(SourceCode.INVALID, fetch, "/to/http://localhost/net.onnx")


def test_redirects_end(fetch, host):
    assert_refused(SourceCode.UNAVAILABLE, fetch, "/to/" * 12 + "/net.onnx")

    assert len(host.asked) == 6


def test_a_certificate_that_is_not_trusted_is_refused(fetch):
    assert_refused(SourceCode.UNAVAILABLE, fetch, "/net.onnx", tls=None)


def test_what_is_not_there_is_said(fetch):
    assert_refused(SourceCode.MISSING, fetch, "/absent")


@pytest.mark.parametrize("path", ["/net.onnx", "/endless"])
def test_more_bytes_than_the_limit_are_not_read(fetch, path):
    assert_refused(SourceCode.TOO_LARGE, fetch, path, limit_bytes=1000)


def test_a_download_that_breaks_off_is_refused(fetch):
    assert_refused(SourceCode.UNAVAILABLE, fetch, "/short")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_that_are_public(address):
    assert ipaddress.ip_address(address.partition("%")[0])
    assert is_public(address)
