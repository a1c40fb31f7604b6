"""uvicorn's HTTP protocol with a short way for the hot routes.

A plain POST to a hot route, its length declared and within bounds, is collected here and handed to
`Gateway.begin` when its last byte has come; the answer leaves in one write. This spares a small model's
request a task, two wake-ups, a header check by regular expressions and a second write, together a third
of what the event loop would spend on it. All else, and whatever `begin` declines, goes uvicorn's way.

An answer may also be sent ahead, by the thread that made it: a lane then writes to the socket itself, and
the event loop, a wake-up later, only books it (`settle_ahead`). Alone on the machine, a client has its answer
sooner by that wake-up.

It follows `uvicorn.protocols.http.httptools_impl`, whose version `constraints.txt` pins.
"""

import asyncio
import os
import threading
import time
from functools import partial
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.gateway import Answer, Exchange, Gateway, HotRoute, Pending


class ShortCycle:
    """One request on the short way. uvicorn's protocol takes it for one of its own cycles."""

    __slots__ = (
        "_protocol",
        "_unsent",
        "chunks",
        "disconnected",
        "exchange",
        "keep_alive",
        "message_event",
        "pending",
        "response_complete",
        "route",
    )

    def __init__(self, protocol: "GatewayProtocol", route: HotRoute, exchange: Exchange) -> None:
        self._protocol = protocol
        self._unsent = b""
        self.route = route
        self.exchange = exchange
        self.chunks: list[bytes] = []
        self.pending: Pending | None = None
        self.keep_alive = protocol.parser.get_http_version() != "1.0" and protocol.parser.should_keep_alive()
        self.message_event = _NOBODY_WAITS
        self.response_complete = False
        self.disconnected = False

    def answer(self, answer: Answer) -> bool:
        """Write the whole response, on the event loop. False when one has been sent ahead."""
        protocol = self._protocol
        with protocol.sending:
            was_sent, self.response_complete = self.response_complete, True
        if was_sent:
            protocol.settle_ahead(self)
            return False
        protocol.transport.write(self._response(answer))
        if not self.keep_alive:
            protocol.transport.close()
        protocol.settled(self)
        return True

    def answer_ahead(self, answer: Answer) -> bool:
        """Write the whole response from any thread. False when that is not possible; then nothing is sent."""
        response = self._response(answer)
        protocol = self._protocol
        with protocol.sending:
            if self.response_complete or not self.keep_alive or protocol.transport.get_write_buffer_size():
                return False
            try:
                sent = os.write(protocol.descriptor, response)
            except OSError:  # full, or gone: the event loop knows what to do
                return False
            # Under the lock, which the event loop takes before it asks whether this one is complete.
            self.response_complete = True
            self._unsent = response[sent:]
            protocol.ahead = self
        return True

    def send_rest(self) -> None:
        """Send what the socket did not take ahead, and close if meanwhile that was asked for."""
        if self._unsent:
            self._protocol.transport.write(self._unsent)
        if not self.keep_alive:
            self._protocol.transport.close()

    def _response(self, answer: Answer) -> bytes:
        headers = answer.all_headers(self.exchange.request_id)
        lines = [b"%b: %b\r\n" % header for header in headers]
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        return b"".join([STATUS_LINE[answer.status], *lines, end, answer.body])


class _Event:
    def set(self) -> None:
        """uvicorn wakes the reader of a cycle's body by this; a short cycle has none."""


_NOBODY_WAITS = _Event()


_NO_DESCRIPTOR = -1


class GatewayProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gateway: Gateway,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._gateway = gateway
        self._unanswered: ShortCycle | None = None
        self._idle_since_s: float | None = None
        self.sending = threading.Lock()
        """Held to send ahead, and to change or ask for what that depends on."""
        self.descriptor = _NO_DESCRIPTOR
        """Of the socket, while answers may be sent ahead."""
        self.ahead: ShortCycle | None = None
        """Answered ahead and not settled yet."""

    # -- the parser's callbacks -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Forget the last request. The scope is made when the long way is taken."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Choose the way."""
        with self.sending:
            ahead = self.ahead
        if ahead is not None:
            self.settle_ahead(ahead)
            self._idle_since_s = None  # it was answered just now, but a request has come since
        path, _, query = self.url.partition(b"?")
        route = self._gateway.short_way(path)
        if route is None or not self._is_free():
            self._go_the_long_way()
            return
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"")
        if (
            self.parser.get_method() != b"POST"
            or not length.isdigit()
            or int(length) > route.max_body_bytes
            or self.expect_100_continue
            or self.parser.should_upgrade()
            or b"origin" in headers
        ):
            self._go_the_long_way()
            return
        request_id = self._gateway.request_id(headers)
        exchange = Exchange("POST", path.decode(), query, headers, request_id=request_id)
        self.cycle = self._unanswered = ShortCycle(self, route, exchange)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Collect."""
        if isinstance(self.cycle, ShortCycle):
            self.cycle.chunks.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request has come."""
        cycle = self.cycle
        if not isinstance(cycle, ShortCycle):
            super().on_message_complete()
            return
        body = cycle.chunks[0] if len(cycle.chunks) == 1 else b"".join(cycle.chunks)
        cycle.chunks = []
        pending = self._gateway.begin(cycle.route, cycle.exchange, body, cycle)
        if pending == "long":
            self.cycle = self._unanswered = None
            self._go_the_long_way()
            super().on_body(body)
            super().on_message_complete()
        elif pending != "answered":
            cycle.pending = pending

    def _is_free(self) -> bool:
        """No earlier request of this connection is unanswered, and the client reads its answers."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _go_the_long_way(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the list that the scope holds
        super().on_headers_complete()

    # -- the connection's life --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the socket, unless what is written to it must be encrypted first."""
        super().connection_made(transport)
        if self.scheme == "http":
            self.descriptor = transport.get_extra_info("socket").fileno()

    def settled(self, cycle: ShortCycle) -> None:
        """The answer of a short cycle is on its way."""
        if self._unanswered is cycle:
            self._unanswered = None
        current: object = self.cycle  # typed as uvicorn's
        if current is cycle or self.pipeline:
            self.on_response_complete()
        else:  # the next request is being answered already
            self.server_state.total_requests += 1

    def settle_ahead(self, cycle: ShortCycle) -> None:
        """Book what was answered ahead: when its result comes or the next request, whichever is first."""
        if self.ahead is not cycle:
            return
        self.ahead = None
        cycle.send_rest()
        self.settled(cycle)

    def on_response_complete(self) -> None:
        """Go on with what is pipelined, or wait for more, but not for ever."""
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self._idle_since_s = time.monotonic()
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.timeout_keep_alive_task is None:
                self._wait_at_most(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        """Something has come. The timer runs on: one per request would cost more than looking again."""
        self._idle_since_s = None

    def _wait_at_most(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been idle for as long as is allowed."""
        self.timeout_keep_alive_task = None
        if self._idle_since_s is not None:
            left_s = self._idle_since_s + self.timeout_keep_alive - time.monotonic()
            if left_s > 0:
                self._wait_at_most(left_s)
            else:
                super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the work of a request whose client has gone."""
        with self.sending:
            self.descriptor = _NO_DESCRIPTOR  # it may be another client's soon
            cycle, self._unanswered = self._unanswered, None
            is_answered, self.ahead = cycle is not None and cycle is self.ahead, None
        if cycle is not None and not is_answered:
            cycle.response_complete = True
            if cycle.pending is not None:
                cycle.pending.abandon()
            self._gateway.abandoned(cycle.exchange)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)


def protocol_of(gateway: Gateway) -> type[asyncio.Protocol]:
    """What uvicorn's `http` setting takes: the protocol, bound to its gateway."""
    return cast("type[asyncio.Protocol]", partial(GatewayProtocol, gateway=gateway))
