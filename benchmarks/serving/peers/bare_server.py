"""A bare server: what HTTP costs in Python when next to nothing is done besides.

Threads that get the connections in turns, each with a session of its own: it reads what has come, decodes up
to a batch, runs it, answers. It takes any request with a length for a photograph and knows no routes, limits,
deadlines, queues, logs, metrics or errors: no server to use, but a mark to measure by. Nor is it a bound: a
connection stays with its thread, and each session has one thread.
"""

import json
import os
import select
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.serving.fast_decode import SIDE, decode_into, top_five
from benchmarks.serving.limit import open_session

_READ_BYTES = 1 << 18
_LENGTH = b"content-length:"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


@dataclass
class _Connection:
    socket: socket.socket
    received: bytes = b""

    def body(self) -> bytes | None:
        """The body of a request that has come whole."""
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return None
        fields = head.lower()
        length = int(fields[fields.index(_LENGTH) + len(_LENGTH) :].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return None
        self.received = b""
        return rest


@dataclass
class _Lane:
    batch: int
    connections: dict[int, _Connection] = field(default_factory=dict)
    events: select.epoll = field(default_factory=select.epoll)

    def take(self, accepted: socket.socket) -> None:
        """Serve a connection; called from another thread."""
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections[accepted.fileno()] = _Connection(accepted)
        self.events.register(accepted, select.EPOLLIN)

    def run(self) -> None:
        """Serve for ever."""
        session = open_session(Path(os.environ["BENCH_MODEL"]), threads=1)
        images = np.empty((self.batch, SIDE, SIDE, 3), np.uint8)
        waiting: list[tuple[_Connection, bytes]] = []
        while True:
            for descriptor, _ in self.events.poll(0 if waiting else None):
                waiting += self._read(descriptor)
            taken, waiting = waiting[: self.batch], waiting[self.batch :]
            for (_, photo), image in zip(taken, images, strict=False):
                decode_into(photo, image)
            if taken:
                logits = session.run(None, {"image": images[: len(taken)]})[0]
                for (connection, _), row in zip(taken, logits, strict=True):
                    body = json.dumps({"predictions": top_five(row)}).encode()
                    with suppress(OSError):  # its client has gone
                        connection.socket.send(_HEAD % len(body) + body)

    def _read(self, descriptor: int) -> list[tuple[_Connection, bytes]]:
        connection = self.connections[descriptor]
        try:
            piece = connection.socket.recv(_READ_BYTES)
        except ConnectionError:
            piece = b""
        if not piece:
            self.connections.pop(descriptor).socket.close()
            return []
        connection.received += piece
        body = connection.body()
        return [] if body is None else [(connection, body)]


def main() -> None:
    """Serve on BENCH_PORT."""
    listener = socket.create_server(("127.0.0.1", int(os.environ["BENCH_PORT"])), backlog=512)
    lanes = [_Lane(int(os.environ["BENCH_BATCH"])) for _ in range(int(os.environ["BENCH_LANES"]))]
    for lane in lanes:
        threading.Thread(target=lane.run, daemon=True).start()
    for lane in cycle(lanes):
        lane.take(listener.accept()[0])


if __name__ == "__main__":
    main()
