"""One line per request, formatted and written in gulps: doing it line by line would cost too much."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

import orjson

_FLUSH_S = 0.2
_LEVELS = {"info": 1, "warning": 2, "error": 3}


class _Request(NamedTuple):
    at_s: float
    """Unix time."""
    method: str
    path: str
    request_id: str
    status: int
    seconds: float


class AccessLog:
    """Notes requests and writes them at least five times a second, as JSON lines or as text."""

    def __init__(
        self,
        *,
        as_json: bool,
        log_level: str = "info",
        stream: BinaryIO | None = None,
        also: Callable[[], None] | None = None,
    ) -> None:
        """Requests below `log_level` are not noted. `also` is done at every gulp: other work that waits for a
        quiet moment.
        """
        self._as_json = as_json
        self._least = _LEVELS.get(log_level, 0)
        self._stream = stream if stream is not None else sys.stderr.buffer
        self._also = also
        self._noted: deque[_Request] = deque()
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="access-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    def close(self) -> None:
        """Write what is left."""
        self._stop.set()
        if self._writer.is_alive():
            self._writer.join()
        self._flush()

    def write(self, method: str, path: str, request_id: str, status: int, seconds: float) -> None:
        """Note one answered request; health checks, which come every second, are not noted."""
        if _LEVELS[_level(status)] >= self._least and not path.startswith("/health"):
            self._noted.append(_Request(time.time(), method, path, request_id, status, seconds))

    def _write_on(self) -> None:
        while not self._stop.wait(_FLUSH_S):
            self._flush()

    def _flush(self) -> None:
        if self._also is not None:
            self._also()
        line = _json_line if self._as_json else _text_line
        lines = [line(self._noted.popleft()) for _ in range(len(self._noted))]
        if lines:
            self._stream.write(b"".join(lines))
            self._stream.flush()


def _level(status: int) -> str:
    """Of a request's line: a refusal is news, a failure of ours is an error."""
    return "info" if status < 500 else "error" if status == 500 else "warning"


def _json_line(request: _Request) -> bytes:
    return orjson.dumps(
        {
            "timestamp": datetime.fromtimestamp(request.at_s, UTC),
            "level": _level(request.status),
            "event": "request",
            "method": request.method,
            "path": request.path,
            "status": request.status,
            "ms": round(request.seconds * 1e3, 2),
            "request_id": request.request_id,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _text_line(request: _Request) -> bytes:
    now = datetime.fromtimestamp(request.at_s, UTC)
    what = f"{request.method:<6} {request.path} {request.status}"
    text = f"{now:%H:%M:%S} {what} {request.seconds * 1e3:.1f} ms {request.request_id}\n"
    return text.encode("utf-8", "backslashreplace")
