"""A small stand-in for the Hugging Face Hub on loopback: what huggingface_hub asks to fetch one file."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "1f2e3d4c" * 5


class Hub(BaseHTTPRequestHandler):
    """Answers HEAD and GET of /{repo}/resolve/{revision}/{file} as the Hub does."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body):
        self.server.asked.append(f"{self.command} {self.path}")
        repo, _, rest = unquote(self.path.partition("?")[0]).lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        data = self.server.files.get((repo, revision, file))
        if data is None:
            is_known = any(repo == known for known, *_ in self.server.files)
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


@contextmanager
def hub_server(files) -> Iterator[ThreadingHTTPServer]:
    """Serves `{(repo, revision, file): bytes}`; has `url`, and `asked`, the requests so far."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.files = [], files
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
