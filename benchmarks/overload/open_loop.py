"""A lean HTTP load generator: closed loop (as many as answer) and open loop (as many as asked).

An open loop does not slow down when the server does, which is what makes an overload.
"""

import asyncio
import re
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What one phase of load saw."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: dict[int, list[float]] = field(default_factory=dict)
    wrong: int = 0
    """Answers with status 200 that did not hold what they should."""
    retry_after_s: set[int] = field(default_factory=set)
    """Values of Retry-After seen."""
    lost: int = 0
    """Requests whose connection ended without an answer: 0 in a valid run."""

    def note(self, status: int, seconds: float, *, right: bool) -> None:
        """Count one answer."""
        self.statuses[status] += 1
        self.latencies_s.setdefault(status, []).append(seconds)
        self.wrong += status == 200 and not right

    def percentile_ms(self, status: int, share: float) -> float:
        """Latency of answers with this status, milliseconds, at the client."""
        values = sorted(self.latencies_s.get(status, [0.0]))
        return values[min(len(values) - 1, int(share * len(values)))] * 1e3


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, idle: "deque[Connection]", expected: bytes) -> None:
        self._idle = idle
        self._expected = expected
        self._buffer = b""
        self._need = -1
        self._outcome: Outcome | None = None
        self._sent_s = 0.0
        self.done: asyncio.Event | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._idle.append(self)

    def send(self, request: bytes, outcome: Outcome) -> None:
        """Send one request; the connection comes back to the idle ones with its answer."""
        self._outcome = outcome
        self._sent_s = time.perf_counter()
        self._transport.write(request)

    def connection_lost(self, _: Exception | None) -> None:
        """The server closes what has idled for seconds; a request in flight is lost."""
        with suppress(ValueError):
            self._idle.remove(self)
        if self._outcome is not None:
            self._outcome.lost += 1
            if self.done is not None:
                self.done.set()

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Collect one answer."""
        self._buffer += data
        if self._need < 0:
            head_end = self._buffer.find(b"\r\n\r\n")
            if head_end < 0:
                return
            head = self._buffer[:head_end].lower()
            at = head.index(b"content-length:") + 15
            self._need = head_end + 4 + int(head[at:].split(b"\r\n", 1)[0])
        if len(self._buffer) < self._need:
            return
        status = int(self._buffer[9:12])
        retry = re.search(rb"retry-after: (\d+)", self._buffer)
        right = self._expected in self._buffer
        assert self._outcome is not None
        if retry:
            self._outcome.retry_after_s.add(int(retry[1]))
        self._outcome.note(status, time.perf_counter() - self._sent_s, right=right)
        self._buffer, self._need, self._outcome = b"", -1, None
        self._idle.append(self)
        if self.done is not None:
            self.done.set()


class Generator:
    """Connections to one server and the request that all of them send."""

    def __init__(self, port: int, *, path: str, body: bytes, expected: bytes) -> None:
        self._port = port
        self._expected = expected
        self._request = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        self._idle: deque[Connection] = deque()

    async def _connect(self) -> Connection:
        """A connection that is not among the idle ones."""
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._idle, self._expected), "127.0.0.1", self._port
        )
        self._idle.remove(connection)
        return connection

    def close(self) -> None:
        """Close the idle connections."""
        for connection in list(self._idle):
            connection.close()

    async def closed(self, connections: int, seconds: float) -> Outcome:
        """Each connection sends as soon as it is answered."""
        outcome = Outcome()
        started_s = time.perf_counter()

        async def one() -> None:
            connection = await self._connect()
            connection.done = asyncio.Event()
            while time.perf_counter() - started_s < seconds:
                connection.done.clear()
                connection.send(self._request, outcome)
                await connection.done.wait()
                self._idle.remove(connection)
            connection.close()

        await asyncio.gather(*(one() for _ in range(connections)))
        outcome.seconds = time.perf_counter() - started_s
        return outcome

    async def open(self, per_second: float, seconds: float) -> Outcome:
        """Send at a fixed rate, whatever comes back; then wait for the last answers."""
        outcome = Outcome()
        started_s = time.perf_counter()
        sent = 0
        while (elapsed_s := time.perf_counter() - started_s) < seconds:
            for _ in range(int(elapsed_s * per_second) - sent):
                sent += 1
                # The one that idled least: the server has not given up on it.
                connection = self._idle.pop() if self._idle else await self._connect()
                connection.send(self._request, outcome)
            await asyncio.sleep(0.002)
        outcome.seconds = seconds
        for _ in range(500):
            if sum(outcome.statuses.values()) + outcome.lost >= sent:
                break
            await asyncio.sleep(0.02)
        return outcome
