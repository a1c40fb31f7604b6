"""How long a request's work is waited for: as long as its client is there and its deadline has not passed."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from app.api.gateway import Exchange
from app.errors import ClientClosed, DeadlineExceeded

Result = TypeVar("Result")


async def hung_up(exchange: Exchange, future: "asyncio.Future[Any]") -> None:
    """Wait until the client has gone, and say so in a future that somebody awaits."""
    assert exchange.receive is not None
    while (await exchange.receive())["type"] != "http.disconnect":
        pass
    if not future.done():
        future.set_exception(ClientClosed("The client closed the connection."))


async def awaited(
    future: "asyncio.Future[Result]", exchange: Exchange, *, deadline_s: float, doing: str
) -> Result:
    """What a future brings, once the request's body has been read. The future itself is left alone.

    Raises:
        ClientClosed: the client went away.
        DeadlineExceeded: the deadline (monotonic) passed, while it was `doing`.
        and what the future raises.

    """
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    watch = loop.create_task(hung_up(exchange, gone))
    try:
        either: list[asyncio.Future[Any]] = [future, gone]
        left_s = max(0.0, deadline_s - time.monotonic())
        await asyncio.wait(either, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if gone.done():
            gone.result()
        raise DeadlineExceeded(
            f"The deadline passed while {doing}.",
            param="X-Request-Deadline",
            hint="Give a later deadline, or retry when the service is less busy.",
        )
    finally:
        watch.cancel()
        if gone.done():
            gone.exception()  # or it would be logged as one that nobody looked at


async def aside(
    pool: Executor, work: Callable[[], Result], exchange: Exchange, *, deadline_s: float, doing: str
) -> Result:
    """Do work in a pool of threads for a request whose body has been read. What has begun goes on when nobody
    waits for it any more; what has not is dropped. Raises as `awaited`."""
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        return await awaited(future, exchange, deadline_s=deadline_s, doing=doing)
    finally:
        future.cancel()  # does nothing to what has ended
