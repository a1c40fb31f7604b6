"""`hf:` against a small stand-in for the Hub on loopback, through the real huggingface_hub."""

import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest

from models.sources import SourceCode, SourceError, parse_source

MODEL = bytes(range(256)) * 500
COMMIT = "1f2e3d4c" * 5
URI = "hf:org/name@v1#onnx/model.onnx"


class Hub(BaseHTTPRequestHandler):
    """Answers HEAD and GET of /{repo}/resolve/{revision}/{file} as the Hub does."""

    protocol_version = "HTTP/1.1"
    files: ClassVar = {("org/name", "v1", "onnx/model.onnx"): MODEL}

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body):
        self.server.asked.append(f"{self.command} {self.path}")
        repo, _, rest = unquote(self.path.partition("?")[0]).lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        data = self.files.get((repo, revision, file))
        if data is None:
            is_known = any(repo == known for known, *_ in self.files)
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if is_known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_arrives_from_the_endpoint(hub, context, sha256):
    fetched = parse_source(URI).fetch(context(hub_endpoint=hub.url), expect_sha256=sha256(MODEL))

    assert fetched.path.read_bytes() == MODEL
    assert any(line == "GET /org/name/resolve/v1/onnx/model.onnx" for line in hub.asked)


def test_a_hash_is_not_needed_but_told(hub, context, sha256):
    assert parse_source(URI).fetch(context(hub_endpoint=hub.url)).sha256 == sha256(MODEL)


def test_a_second_fetch_asks_nobody(hub, context, sha256):
    parse_source(URI).fetch(context(hub_endpoint=hub.url), expect_sha256=sha256(MODEL))
    hub.asked.clear()

    parse_source(URI).fetch(context(hub_endpoint=hub.url), expect_sha256=sha256(MODEL))

    assert hub.asked == []


def test_other_bytes_are_refused(hub, context, sha256):
    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(hub_endpoint=hub.url), expect_sha256="0" * 64)

    assert caught.value.code is SourceCode.HASH_MISMATCH
    assert sha256(MODEL) in caught.value.message


@pytest.mark.parametrize("uri", ["hf:org/name@v1#absent.onnx", "hf:org/other@v1#onnx/model.onnx"])
def test_what_the_hub_does_not_have_is_said(hub, context, uri):
    with pytest.raises(SourceError, match="The Hub has no") as caught:
        parse_source(uri).fetch(context(hub_endpoint=hub.url))

    assert caught.value.code is SourceCode.MISSING


def test_a_file_over_the_limit_is_not_downloaded(hub, context):
    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(hub_endpoint=hub.url, limit_bytes=1000))

    assert caught.value.code is SourceCode.TOO_LARGE
    assert not any(line.startswith("GET") for line in hub.asked)


def test_a_hub_that_is_away_is_unavailable(context):
    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(hub_endpoint="http://127.0.0.1:9"))

    assert caught.value.code is SourceCode.UNAVAILABLE


def test_the_endpoint_comes_from_hf_endpoint(hub, tmp_path):
    script = (
        "from pathlib import Path; from models.sources import *;"
        f"print(parse_source({URI!r}).fetch(FetchContext(work_dir=Path({str(tmp_path)!r}))).sha256)"
    )
    environment = {"HF_ENDPOINT": hub.url, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    told = subprocess.check_output(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[3], env=environment, text=True
    )

    assert told.strip() == hashlib.sha256(MODEL).hexdigest()
