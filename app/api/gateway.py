"""The outermost layer: one pass per request for id, door, answer, log and metrics.

Routes that must be fast (`hot`) are called from here with an `Exchange` and return an `Answer`; all other
paths go to FastAPI. A framework pass costs about 150 µs of processor time per request, half of what a
small model on a 2-core machine can spare; so the inference routes take none, and are only *documented*
through FastAPI.

A hot route has two ways. The long one is ASGI and a coroutine, and does everything. The short one
(`begin`, called by `protocol.py`) takes a request whose body has come and whose model is loaded, and
answers by a call back: no task, no event, one write. What it cannot take goes the long way.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.door import Door
from app.access.principal import SYSTEM
from app.api.errors import STATUS, error_body, retry_headers
from app.errors import AppError, ClientClosed, Internal, InvalidRequest, PayloadTooLarge
from app.observability.access_log import AccessLog
from app.observability.metrics import Metrics

Headers = list[tuple[bytes, bytes]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_WITHOUT_KEY = frozenset({"/health/live", "/health/ready"})
"""What orchestrators ask, which have no place for a key."""
_JSON = (b"content-type", b"application/json")
PRINCIPAL_KEY = "athanor.principal"
REQUEST_ID_KEY = "athanor.request_id"
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Answer:
    """A whole response."""

    body: bytes
    status: int = 200
    content_type: bytes = b"application/json"
    timing: str | None = None
    """Value of `Server-Timing`."""
    headers: Headers | None = None

    def all_headers(self, request_id: str) -> Headers:
        """Every header of the response."""
        headers: Headers = [
            (b"content-type", self.content_type),
            (b"content-length", str(len(self.body)).encode()),
            (b"x-request-id", request_id.encode()),
        ]
        if self.timing:
            headers.append((b"server-timing", self.timing.encode()))
        if self.headers:
            headers += self.headers
        return headers


class Exchange:
    """One request as a hot route sees it."""

    __slots__ = (
        "headers",
        "method",
        "path",
        "principal",
        "query",
        "receive",
        "request_id",
        "started_s",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: Mapping[bytes, bytes],
        *,
        request_id: str,
        receive: Receive | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        """Names in lower case."""
        self.request_id = request_id
        self.receive = receive
        """Only on the long way."""
        self.started_s = time.monotonic()
        self.principal = SYSTEM

    async def body(self, limit_bytes: int) -> bytes:
        """Read the whole body.

        Raises:
            PayloadTooLarge: it is longer than the limit; told from Content-Length before any of it is read.
            ClientClosed: the client went away.

        """
        declared = self.headers.get(b"content-length", b"0")
        if not declared.isdigit():
            raise InvalidRequest("Content-Length is not a number.", param="Content-Length")
        if int(declared) > limit_bytes:
            raise _too_long(limit_bytes)
        assert self.receive is not None
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            return bytes(message.get("body", b""))
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientClosed("The client closed the connection.")
            chunk = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
            if size > limit_bytes:
                raise _too_long(limit_bytes)
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await self.receive()


def _too_long(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The body is longer than {limit_bytes} bytes.",
        hint="Send a smaller one, or raise ATHANOR_MAX_BODY_BYTES.",
    )


class Pending(Protocol):
    """An answer on its way."""

    def abandon(self) -> None:
        """The client has gone: free the work. It is not called back any more."""


class HotRoute(Protocol):
    """A route that takes no framework pass."""

    max_body_bytes: int

    def __call__(self, exchange: Exchange) -> Awaitable[Answer]:
        """Answer one request, the long way."""

    def begin(self, exchange: Exchange, body: bytes, reply: "Reply") -> Pending | None:
        """Begin to answer the short way; None when this request needs the long one.

        `reply` is called once, later, on the event loop. Raises AppError for what is refused at once.
        """


class Client(Protocol):
    """Who waits for an answer on the short way."""

    def answer(self, answer: Answer) -> bool:
        """Send it, on the event loop. False when another was sent ahead."""

    def answer_ahead(self, answer: Answer) -> bool:
        """Send it from any thread, if that is possible."""


class Reply:
    """How a hot route answers on the short way: once, by a call on the event loop.

    The thread that makes a result may also send it `ahead` of that call, which then only accounts for it.
    """

    __slots__ = ("_account", "_ahead", "_client", "_exchange")

    def __init__(
        self, exchange: Exchange, client: Client, account: Callable[[Exchange, int, str], None]
    ) -> None:
        self._exchange = exchange
        self._client = client
        self._account = account
        self._ahead: Answer | None = None

    def ahead(self, make: Callable[[], Answer]) -> None:
        """Send what `make` gives now, if nothing stands in the way. From any thread; raises nothing."""
        answer = self._made(make)
        if self._client.answer_ahead(answer):
            self._ahead = answer

    def __call__(self, make: Callable[[], Answer]) -> None:
        """Send what `make` gives, or the refusal that it raises, unless something was sent ahead."""
        answer = self._ahead or self._made(make)
        if not self._client.answer(answer) and self._ahead is not None:
            answer = self._ahead  # sent while this one was made
        self._account(self._exchange, answer.status, self._exchange.path)

    def _made(self, make: Callable[[], Answer]) -> Answer:
        try:
            return make()
        except AppError as error:
            return _refusal(error, self._exchange.request_id)
        except Exception:  # noqa: BLE001 - the last stop: a bug must cost one request, not the lane
            return _unexpected(self._exchange)


class Gateway:
    """The ASGI application that uvicorn runs."""

    def __init__(
        self,
        inner: ASGIApp,
        *,
        door: Door,
        hot: Mapping[str, HotRoute],
        metrics: Metrics,
        access_log: AccessLog,
        outer: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        """`outer` is put around the long way: what speaks to pages of other origins."""
        self._inner = inner
        self._door = door
        self._hot = hot
        self._short = {path.encode(): route for path, route in hot.items()}
        self._entry: ASGIApp = outer(self._long_way) if outer else self._long_way
        self._metrics = metrics
        self._access_log = access_log
        self.on_stop: Callable[[], None] = lambda: None
        """Called when the service begins to stop: ends what would never end by itself. Does not block."""
        self._new_id = map(f"{secrets.token_hex(6)}-{{:x}}".format, count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass lifespan on."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
        else:
            await self._entry(scope, receive, send)

    def short_way(self, path: bytes) -> HotRoute | None:
        """The route of a path, if requests to it may be tried with `begin`."""
        return self._short.get(path)

    def begin(
        self, route: HotRoute, exchange: Exchange, body: bytes, client: Client
    ) -> Pending | Literal["answered", "long"]:
        """Try a request on the short way: it is pending, or answered already, or must go the long way."""

        reply = Reply(exchange, client, self._account)
        try:
            exchange.principal = self._door.admit(exchange.headers)
            return route.begin(exchange, body, reply) or "long"
        except AppError as error:
            refusal = _refusal(error, exchange.request_id)
        except Exception:  # noqa: BLE001 - the last stop: a bug must cost one request, not the connection
            refusal = _unexpected(exchange)
        reply(lambda: refusal)
        return "answered"

    def abandoned(self, exchange: Exchange) -> None:
        """The client of a pending answer has gone."""
        self._account(exchange, STATUS["client_closed"], exchange.path)

    def request_id(self, headers: Mapping[bytes, bytes]) -> str:
        """The caller's, when it is well-formed, else a new one."""
        given = headers.get(b"x-request-id")
        return given.decode() if given and _REQUEST_ID.fullmatch(given) else next(self._new_id)

    async def _long_way(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        exchange = Exchange(
            scope["method"],
            scope["path"],
            scope["query_string"],
            headers,
            request_id=self.request_id(headers),
            receive=receive,
        )
        try:
            exchange.principal = self._door.admit(headers, needs_key=exchange.path not in _WITHOUT_KEY)
        except AppError as error:
            await self._answer(exchange, send, _refusal(error, exchange.request_id))
            return
        hot = self._hot.get(exchange.path) if exchange.method == "POST" else None
        if hot is None:
            await self._pass_on(exchange, scope, send)
        else:
            await self._answer(exchange, send, await self._call(hot, exchange))

    async def _call(self, hot: HotRoute, exchange: Exchange) -> Answer:
        try:
            return await hot(exchange)
        except AppError as error:
            return _refusal(error, exchange.request_id)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the last stop: a bug must cost one request, not the connection
            return _unexpected(exchange)

    async def _answer(self, exchange: Exchange, send: Send, answer: Answer) -> None:
        if answer.status != STATUS["client_closed"]:
            headers = answer.all_headers(exchange.request_id)
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
        self._account(exchange, answer.status, exchange.path)

    async def _pass_on(self, exchange: Exchange, scope: Scope, send: Send) -> None:
        assert exchange.receive is not None
        scope[PRINCIPAL_KEY] = exchange.principal
        scope[REQUEST_ID_KEY] = exchange.request_id
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                elapsed_ms = (time.monotonic() - exchange.started_s) * 1e3
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", exchange.request_id.encode()),
                    (b"server-timing", f"total;dur={elapsed_ms:.2f}".encode()),
                ]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        try:
            await self._inner(scope, exchange.receive, send_on)
        except Exception:  # noqa: BLE001 - Starlette has answered 500 and re-raises, to be logged here
            _log.exception("unexpected error", path=scope["path"])
            if not status:
                await self._answer(exchange, send, _refusal(_internal(), exchange.request_id))
                return
        finally:
            structlog.contextvars.unbind_contextvars("request_id")
        route = scope.get("route")
        self._account(exchange, status or STATUS["client_closed"], getattr(route, "path", "other"))

    def _account(self, exchange: Exchange, status: int, route: str) -> None:
        seconds = time.monotonic() - exchange.started_s
        known = route if route in self._hot or route.startswith("/") else "other"
        self._metrics.request(known, status, seconds)
        self._access_log.write(exchange.method, exchange.path, exchange.request_id, status, seconds)


def _unexpected(exchange: Exchange) -> Answer:
    """Log the exception that is being handled, and what to say of it."""
    _log.exception("unexpected error", request_id=exchange.request_id, path=exchange.path)
    return _refusal(_internal(), exchange.request_id)


def _internal() -> Internal:
    return Internal("Something went wrong here.", hint="The log has the details under this request id.")


def _refusal(error: AppError, request_id: str) -> Answer:
    return Answer(
        body=error_body(error, request_id), status=STATUS[error.code], headers=retry_headers(error) or None
    )
