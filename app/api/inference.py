"""From a hot route to an engine and back: look-up, submission, hang-up, deadline, stage times."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from app.access.principal import Principal
from app.api.gateway import Exchange
from app.errors import ClientClosed, DeadlineExceeded, InvalidRequest, ModelNotReady, UnknownModel
from app.runtime.batcher import Member
from app.runtime.engine import Engine
from app.runtime.pool import Pool

_WATCH_AFTER_S = 0.1
"""Requests younger than this are not watched for a hang-up: most are answered before the watch would pay."""
_MIN_DEADLINE_S = 0.001
_MAX_DEADLINE_S = 3600.0
_LOOKUPS = 3


class Mailbox:
    """Carries resolved members from lanes to the event loop with one wake-up for many."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Waiter] = deque()
        self._is_scheduled = False

    def post(self, waiter: "Waiter") -> None:
        """Called from any thread."""
        self._waiting.append(waiter)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_scheduled = False  # before reading: what is posted from here on schedules again
        while self._waiting:
            self._waiting.popleft().one_resolved()


class Waiter:
    """A request that waits for its members."""

    __slots__ = ("_left", "_mailbox", "future")

    def __init__(self, mailbox: Mailbox, future: "asyncio.Future[None]", members: int) -> None:
        self._mailbox = mailbox
        self._left = members
        self.future = future

    def resolved(self, _: Member) -> None:
        """A member has its result or error; called from lanes."""
        self._mailbox.post(self)

    def one_resolved(self) -> None:
        """The same, arrived on the event loop."""
        self._left -= 1
        if self._left == 0 and not self.future.done():
            self.future.set_result(None)


class Inference:
    """What all hot routes share."""

    def __init__(
        self,
        pool: Pool,
        *,
        default_deadline_s: float,
        why_missing: Callable[[Principal, str], ModelNotReady | None],
    ) -> None:
        """`why_missing` says of an unknown name whether a running import will bring it (blocking)."""
        self._pool = pool
        self._default_deadline_s = default_deadline_s
        self._why_missing = why_missing
        self._mailbox: Mailbox | None = None

    async def engine(self, principal: Principal, reference: str) -> Engine:
        """The engine of a reference, held for the caller, who must `let_go` of it."""
        for _ in range(_LOOKUPS):
            engine = self._pool.find(principal, reference)
            if engine is None:
                engine = await asyncio.to_thread(self._load, principal, reference)
            if engine.hold():
                return engine
            await asyncio.to_thread(self._pool.load, principal, reference)
        raise ModelNotReady(
            f"{reference} is being replaced.", param="model", hint="Retry.", retry_after_s=1.0
        )

    def _load(self, principal: Principal, reference: str) -> Engine:
        try:
            return self._pool.load(principal, reference)
        except UnknownModel as error:
            coming = self._why_missing(principal, reference)
            raise coming or error from error

    def deadline_s(self, exchange: Exchange) -> float:
        """Monotonic deadline of a request, from `X-Request-Deadline` (seconds from receipt)."""
        given = exchange.headers.get(b"x-request-deadline")
        if given is None:
            return exchange.started_s + self._default_deadline_s
        try:
            seconds = float(given)
        except ValueError:
            seconds = -1.0
        if not _MIN_DEADLINE_S <= seconds <= _MAX_DEADLINE_S:
            raise InvalidRequest(
                f"X-Request-Deadline must be seconds from {_MIN_DEADLINE_S} to {_MAX_DEADLINE_S:.0f}.",
                param="X-Request-Deadline",
            )
        return exchange.started_s + seconds

    async def run(
        self, exchange: Exchange, engine: Engine, inputs: list[bytes], *, top_k: int, deadline_s: float
    ) -> list[Member]:
        """Submit all inputs of a request and wait until each has a result or an error.

        Raises:
            ClientClosed: the client went away; its members were cancelled.
            DeadlineExceeded: the deadline passed; its members were cancelled.
            Overloaded: not all inputs found a place; none of them is run.

        """
        loop = asyncio.get_running_loop()
        if self._mailbox is None:
            self._mailbox = Mailbox(loop)
        waiter = Waiter(self._mailbox, loop.create_future(), len(inputs))
        members = [
            Member(data, deadline_s=deadline_s, top_k=top_k, resolved=waiter.resolved) for data in inputs
        ]
        submitted = 0
        timer: asyncio.TimerHandle | None = None
        watch: Watch | None = None
        try:
            for member in members:
                engine.submit(member)
                submitted += 1
            watch = Watch(exchange, waiter.future, deadline_s)
            timer = loop.call_later(_WATCH_AFTER_S, watch.begin)
            await waiter.future
        except BaseException:
            for member in members[:submitted]:
                engine.batcher.cancel(member)
            raise
        finally:
            if timer is not None and watch is not None:
                timer.cancel()
                watch.end()
        return members


class Watch:
    """Looks out for a hang-up and for the deadline of a request that takes a while."""

    __slots__ = ("_deadline_s", "_exchange", "_future", "_task", "_timer")

    def __init__(self, exchange: Exchange, future: "asyncio.Future[None]", deadline_s: float) -> None:
        self._exchange = exchange
        self._future = future
        self._deadline_s = deadline_s
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Watch from now on."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._wait_for_hang_up())
        self._timer = loop.call_later(max(0.0, self._deadline_s - time.monotonic()), self._too_late)

    def end(self) -> None:
        """The request has its answer."""
        if self._task is not None:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    async def _wait_for_hang_up(self) -> None:
        while True:
            message = await self._exchange.receive()
            if message["type"] == "http.disconnect":
                break
        if not self._future.done():
            self._future.set_exception(ClientClosed("The client closed the connection."))

    def _too_late(self) -> None:
        if not self._future.done():
            self._future.set_exception(
                DeadlineExceeded(
                    "The deadline passed before the answer.",
                    param="X-Request-Deadline",
                    hint="Give a later deadline, or retry when the service is less busy.",
                )
            )


def server_timing(members: list[Member]) -> str:
    """Stage times of a request: of its one member, or the longest of several, in milliseconds."""
    if len(members) == 1:
        slowest = members[0]
    else:
        slowest = max(members, key=lambda member: member.queue_s + member.infer_s)
    return (
        f"decode;dur={slowest.decode_s * 1e3:.2f}, queue;dur={slowest.queue_s * 1e3:.2f}, "
        f'batch;desc="{slowest.batch_size}/{slowest.batch_limit}", '
        f"infer;dur={slowest.infer_s * 1e3:.2f}, encode;dur={slowest.encode_s * 1e3:.2f}"
    )
