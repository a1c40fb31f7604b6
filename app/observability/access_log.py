"""One line per request, written in gulps: a system call per line would cost too much."""

import sys
import threading
from datetime import UTC, datetime
from typing import BinaryIO

import orjson
from starlette.types import Scope

_FLUSH_S = 0.2


class AccessLog:
    """Collects lines and writes them at least five times a second, as JSON lines or as text."""

    def __init__(self, *, as_json: bool, stream: BinaryIO | None = None) -> None:
        self._as_json = as_json
        self._stream = stream if stream is not None else sys.stderr.buffer
        self._lines: list[bytes] = []
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

    def write(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Note one answered request; health checks, which come every second, are not noted."""
        if scope["path"].startswith("/health"):
            return
        now = datetime.now(UTC)
        if self._as_json:
            line = orjson.dumps(
                {
                    "timestamp": now,
                    "level": "info" if status < 500 else "error" if status == 500 else "warning",
                    "event": "request",
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": round(seconds * 1e3, 2),
                    "request_id": request_id,
                }
            )
        else:
            what = f"{scope['method']:<6} {scope['path']} {status}"
            text = f"{now:%H:%M:%S} {what} {seconds * 1e3:.1f} ms {request_id}"
            line = text.encode("utf-8", "backslashreplace")
        self._lines.append(line)

    def _write_on(self) -> None:
        while not self._stop.wait(_FLUSH_S):
            self._flush()

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()
