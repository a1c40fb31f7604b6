"""The outermost ASGI layer: one pass per request for id, door, answer, log and metrics.

Routes that must be fast (`hot`) are called from here with an `Exchange` and return an `Answer`; all other
paths go to FastAPI. A framework pass costs about 150 µs of processor time per request, half of what a
small model on a 2-core machine can spare; so the inference routes take none, and are only *documented*
through FastAPI.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.door import Door
from app.access.principal import Principal
from app.api.errors import STATUS, error_body, retry_headers
from app.errors import AppError, ClientClosed, Internal, InvalidRequest, PayloadTooLarge
from app.observability.access_log import AccessLog
from app.observability.metrics import Metrics

Headers = list[tuple[bytes, bytes]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
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


class Exchange:
    """One request as a hot route sees it."""

    __slots__ = ("headers", "principal", "receive", "request_id", "scope", "started_s")

    def __init__(
        self, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], request_id: str
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.headers = headers
        self.request_id = request_id
        self.started_s = time.monotonic()
        self.principal = Principal()

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


HotRoute = Callable[[Exchange], Awaitable[Answer]]


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
    ) -> None:
        self._inner = inner
        self._door = door
        self._hot = hot
        self._metrics = metrics
        self._access_log = access_log
        self._new_id = map(f"{secrets.token_hex(6)}-{{:x}}".format, count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass lifespan on."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id")
        request_id = given.decode() if given and _REQUEST_ID.fullmatch(given) else next(self._new_id)
        exchange = Exchange(scope, receive, headers, request_id)
        try:
            exchange.principal = self._door.admit(headers)
        except AppError as error:
            await self._answer(exchange, send, _refusal(error, request_id))
            return
        hot = self._hot.get(scope["path"]) if scope["method"] == "POST" else None
        if hot is None:
            await self._pass_on(exchange, send)
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
            _log.exception("unexpected error", request_id=exchange.request_id, path=exchange.scope["path"])
            return _refusal(_internal(), exchange.request_id)

    async def _answer(self, exchange: Exchange, send: Send, answer: Answer) -> None:
        headers: Headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            (b"x-request-id", exchange.request_id.encode()),
        ]
        if answer.timing:
            headers.append((b"server-timing", answer.timing.encode()))
        if answer.headers:
            headers += answer.headers
        if answer.status != STATUS["client_closed"]:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
        self._account(exchange, answer.status, exchange.scope["path"])

    async def _pass_on(self, exchange: Exchange, send: Send) -> None:
        scope = exchange.scope
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
        self._access_log.write(exchange.scope, exchange.request_id, status, seconds)


def _internal() -> Internal:
    return Internal("Something went wrong here.", hint="The log has the details under this request id.")


def _refusal(error: AppError, request_id: str) -> Answer:
    return Answer(
        body=error_body(error, request_id), status=STATUS[error.code], headers=retry_headers(error) or None
    )
