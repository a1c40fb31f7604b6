"""The client against answers that a small real HTTP server gives: ours, broken ones, and somebody else's."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.client.address import service_url
from app.client.client import Client
from app.client.errors import JobFailed, RequestFailed, Unreachable
from app.settings import Settings
from app.supervisor.lock import SERVE_FILE, announce

BUSY = {"type": "rate_limit_error", "code": "overloaded", "message": "The queue is full.", "param": None}


class Server:
    """Gives scripted answers and keeps what it was asked."""

    def __init__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                server.asked.append(
                    (
                        self.command,
                        self.path,
                        {name.lower(): value for name, value in self.headers.items()},
                        body,
                    )
                )
                status, headers, answer = server.answers.pop(0)
                self.send_response(status)
                for name, value in {"content-length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the handler's names

            def log_message(self, *_):
                pass

        self.asked = []
        self.answers = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def will(self, status, answer, **headers):
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.answers.append(
            (status, {name.replace("_", "-"): value for name, value in headers.items()}, data)
        )


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture
def client(server):
    with Client(server.url, api_key="the-key", timeout_s=5) as client:
        yield client


def test_the_key_goes_with_every_request(server, client):
    server.will(200, {"object": "list", "data": []})
    assert client.models()["data"] == []
    [(method, path, headers, _)] = server.asked
    assert (method, path, headers["authorization"]) == ("GET", "/v1/models", "Bearer the-key")


def test_names_cannot_leave_their_place_in_the_path(server, client):
    server.will(200, {})
    client.model("../jobs?x=1")
    assert server.asked[0][1] == "/v1/models/..%2Fjobs%3Fx%3D1"


def test_an_error_body_is_mirrored(server, client):
    server.will(429, {"error": BUSY | {"hint": "Later.", "request_id": "abc"}}, retry_after_ms="1500")
    with pytest.raises(RequestFailed, match="The queue is full") as caught:
        client.classify(b"picture", model="m", top_k=2)
    error = caught.value
    assert (error.status, error.code, error.hint, error.request_id) == (429, "overloaded", "Later.", "abc")
    assert error.retry_after_s == 1.5
    assert server.asked[0][1] == "/v1/classification?model=m&top_k=2"
    assert server.asked[0][3] == b"picture"


@pytest.mark.parametrize(
    ("status", "answer"), [(200, b"<html>hello</html>"), (404, b"nothing here"), (500, b'{"error": "oops"}')]
)
def test_an_answer_of_another_server_is_told_from_ours(server, client, status, answer):
    server.will(status, answer)
    with pytest.raises(RequestFailed, match="is not Athanor") as caught:
        client.models()
    assert caught.value.code == "not_athanor"


def test_an_answer_cut_short_is_unreachable(server, client):
    server.will(200, b"{", content_length="100")
    with pytest.raises(Unreachable):
        client.models()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "ftp://127.0.0.1:1", "http://[::1"])
def test_nobody_there_is_unreachable_and_says_where_it_looked(url):
    with pytest.raises(Unreachable) as caught, Client(url) as client:
        client.models()
    assert url in caught.value.message


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.will(200, {"status": "live"})
    with Client(server.url) as client:
        assert client.health("live") == {"status": "live"}


def test_waiting_tells_each_look_and_ends_with_the_job(server, client):
    states = [("queued", 0.0), ("running", 0.5), ("succeeded", 1.0)]
    for status, progress in states:
        server.will(200, {"id": "job_1", "status": status, "progress": progress})
    seen = []
    job = client.wait("job_1", lambda now: seen.append((now["status"], now["progress"])))
    assert seen == states
    assert job["status"] == "succeeded"


@pytest.mark.parametrize(
    ("ended", "code", "message"),
    [
        (
            {
                "status": "failed",
                "error": {"code": "import_refused", "message": "It is no ONNX.", "hint": "?"},
            },
            "import_refused",
            "It is no ONNX.",
        ),
        ({"status": "cancelled", "error": None}, "cancelled", "The job job_1 was cancelled."),
    ],
)
def test_a_job_that_does_not_succeed_is_an_error_with_the_job(server, client, ended, code, message):
    server.will(200, {"id": "job_1", "progress": 0.1, **ended})
    with pytest.raises(JobFailed) as caught:
        client.wait("job_1")
    assert (caught.value.code, caught.value.message) == (code, message)
    assert caught.value.job["id"] == "job_1"


def test_an_upload_streams_the_file_under_its_name(server, client, tmp_path):
    server.will(200, {"id": "file_1"})
    path = tmp_path / "net.onnx"
    path.write_bytes(b"bytes of a graph")
    assert client.upload(path) == {"id": "file_1"}
    [(_, target, headers, body)] = server.asked
    assert target == "/v1/files"
    assert headers["content-type"].startswith("multipart/form-data")
    assert b'filename="net.onnx"' in body
    assert b"bytes of a graph" in body


def test_the_address_is_the_first_that_somebody_named(tmp_path):
    nobody = Settings(data_dir=tmp_path, _env_file=None)
    assert service_url(nobody) == "http://127.0.0.1:8000"
    assert service_url(Settings(data_dir=tmp_path, host="::1", port=9, _env_file=None)) == "http://[::1]:9"
    announce(tmp_path, "http://127.0.0.1:1234")
    assert service_url(nobody) == "http://127.0.0.1:1234"
    named = Settings(data_dir=tmp_path, url="http://furnace:1", _env_file=None)
    assert service_url(named) == "http://furnace:1"
    assert service_url(named, "http://given:2") == "http://given:2"
    (tmp_path / SERVE_FILE).write_text("{")
    assert service_url(nobody) == "http://127.0.0.1:8000"
