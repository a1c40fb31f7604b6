"""From a hot route to an engine and back: look-up, submission, hang-up, deadline, stage times."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.access.principal import Principal
from app.api.gateway import Exchange
from app.api.patience import awaited, hung_up
from app.errors import AppError, DeadlineExceeded, InvalidRequest, ModelNotReady, UnknownModel
from app.runtime.batcher import Member
from app.runtime.engine import Engine
from app.runtime.pool import Pool

_WATCH_AFTER_S = 0.1
"""Requests younger than this are not watched for a hang-up: most are answered before the watch would pay."""
_MIN_DEADLINE_S = 0.001
_MAX_DEADLINE_S = 3600.0
_SAME_ORDER_S = 10.0

Landed = Callable[[list[Member] | AppError], None]
"""Told on the event loop how a flight ended: each member with a result or an error, or why there is none."""


Ahead = Callable[[Member], None]
"""Told in the lane of a member that had the machine to itself, before its flight lands. Raises nothing."""


class Asker(NamedTuple):
    """Who waits for an answer, and until when."""

    caller: str
    deadline_s: float
    """Monotonic."""


class Flight:
    """The members of one request on their way through one engine, and what ends them."""

    __slots__ = ("_ahead", "_inference", "_landed", "_left", "deadline_s", "engine", "members", "timer")

    def __init__(
        self,
        inference: "Inference",
        engine: Engine,
        *,
        members: int,
        deadline_s: float,
        landed: Landed,
        ahead: Ahead | None,
    ) -> None:
        self._inference = inference
        self._ahead = ahead if members == 1 else None
        self._left = members
        self._landed: Landed | None = landed
        self.engine = engine
        self.members: list[Member] = []
        self.deadline_s = deadline_s
        self.timer: asyncio.TimerHandle | None = None

    def resolved(self, member: Member) -> None:
        """A member has its result or error; called from lanes."""
        # In a full batch it would keep the others waiting, and gain nothing: the event loop is awake.
        if self._ahead is not None and member.batch is not None and member.batch.is_alone:
            self._ahead(member)
        self._inference.post(self)

    def one_resolved(self) -> None:
        """The same, arrived on the event loop."""
        self._left -= 1
        if self._left == 0:
            self._end(self.members)

    def too_late(self) -> None:
        """The deadline has passed."""
        self._cancel()
        self._end(
            DeadlineExceeded(
                "The deadline passed before the answer.",
                param="X-Request-Deadline",
                hint="Give a later deadline, or retry when the service is less busy.",
            )
        )

    def abandon(self) -> None:
        """Nobody waits for it any more: free the work and tell nobody."""
        self._cancel()
        self._end(None)

    def _cancel(self) -> None:
        if self._landed is not None:
            for member in self.members:
                self.engine.batcher.cancel(member)

    def _end(self, result: list[Member] | AppError | None) -> None:
        landed, self._landed = self._landed, None
        if landed is None:
            return
        self._inference.ended(self)
        self.members = []  # they refer to this flight: without the circle they are freed at once
        if result is not None:
            landed(result)


class Inference:
    """What all hot routes share. Its methods belong to the event loop, but for `post`."""

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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._posted: deque[Flight] = deque()
        self._is_posting = False
        self._deadlines = Deadlines()

    async def engine(self, exchange: Exchange, reference: str, *, asker: Asker) -> Engine:
        """The engine of a reference, loaded if need be; held for the caller, who must `let_go` of it. The
        request's body has been read.

        Raises ClientClosed and DeadlineExceeded, while it is loaded for others, and what the pool says.
        """
        principal = exchange.principal
        if (engine := self.loaded(principal, reference)) is not None:
            return engine
        loading = asyncio.get_running_loop().run_in_executor(None, self._acquire, principal, reference)
        doing = f"{reference} was loaded; the load goes on"
        try:
            return await awaited(loading, exchange, deadline_s=asker.deadline_s, doing=doing)
        except BaseException:  # nobody is there to let go of the engine
            loading.add_done_callback(_let_go)
            raise

    def loaded(self, principal: Principal, reference: str) -> Engine | None:
        """The same, if it is loaded now."""
        engine = self._pool.find(principal, reference)
        return engine if engine is not None and engine.hold() else None

    def _acquire(self, principal: Principal, reference: str) -> Engine:
        try:
            return self._pool.acquire(principal, reference)
        except UnknownModel as error:
            coming = self._why_missing(principal, reference)
            raise coming or error from error

    def asker(self, exchange: Exchange) -> Asker:
        """Who waits for a request's answer, and until when. Raises InvalidRequest."""
        return Asker(exchange.principal.caller, self._deadline_s(exchange))

    def _deadline_s(self, exchange: Exchange) -> float:
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

    def begin(
        self,
        engine: Engine,
        inputs: Sequence[bytes | NDArray[np.uint8]],
        *,
        asked: object,
        asker: Asker,
        landed: Landed,
        ahead: Ahead | None = None,
    ) -> Flight:
        """Submit all inputs of a request (encoded pictures, or windows' pixels) to a held engine, which is
        let go of when they have landed.

        `asked` is what the engine's codec is told of each.

        Raises:
            Overloaded, DeadlineExceeded: not all inputs found a place; none of them is run, and the
                engine is let go of.

        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        deadline_s = asker.deadline_s
        flight = Flight(self, engine, members=len(inputs), deadline_s=deadline_s, landed=landed, ahead=ahead)
        try:
            for data in inputs:
                member = Member(data, deadline_s=deadline_s, asked=asked, resolved=flight.resolved)
                member.caller = asker.caller
                engine.submit(member)
                flight.members.append(member)
        except BaseException:
            flight.abandon()
            raise
        self._deadlines.add(flight)
        return flight

    async def run(
        self, exchange: Exchange, engine: Engine, inputs: list[bytes], *, asked: object, asker: Asker
    ) -> list[Member]:
        """The same for a coroutine: waits until each input has a result or an error.

        Raises:
            ClientClosed: the client went away; its members were cancelled.
            DeadlineExceeded: the deadline passed; its members were cancelled.
            Overloaded: not all inputs found a place; none of them is run.

        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Member]] = loop.create_future()

        def landed(result: list[Member] | AppError) -> None:
            if not future.done():
                future.set_exception(result) if isinstance(result, AppError) else future.set_result(result)

        flight = self.begin(engine, inputs, asked=asked, asker=asker, landed=landed)
        watch: asyncio.Task[None] | None = None
        try:
            done, _ = await asyncio.wait([future], timeout=_WATCH_AFTER_S)
            if not done:
                watch = loop.create_task(hung_up(exchange, future))
            return await future
        finally:
            flight.abandon()  # does nothing to what has landed
            if watch is not None:
                watch.cancel()

    def post(self, flight: Flight) -> None:
        """Carry a resolved member to the event loop, with one wake-up for many; from any thread."""
        self._posted.append(flight)
        if not self._is_posting:
            self._is_posting = True
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_posting = False  # before reading: what is posted from here on schedules again
        while self._posted:
            self._posted.popleft().one_resolved()

    def ended(self, flight: Flight) -> None:
        """A flight is over: it holds its engine no longer."""
        self._deadlines.discard(flight)
        flight.engine.let_go()


def _let_go(loading: "asyncio.Future[Engine]") -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().let_go()


class Deadlines:
    """Ends flights whose time is up.

    Most have the default deadline and come in its order: one timer, set for the oldest, serves them all.
    Only a flight that is due before an older one, or long after, has a timer of its own.
    """

    def __init__(self) -> None:
        self._flights: dict[Flight, None] = {}
        self._last_s = 0.0
        self._is_waiting = False

    def add(self, flight: Flight) -> None:
        """Watch a flight until `discard`."""
        if not self._flights:
            self._last_s = 0.0
        if not self._last_s <= flight.deadline_s <= (self._last_s or flight.deadline_s) + _SAME_ORDER_S:
            flight.timer = _at(flight.deadline_s, flight.too_late)
            return
        self._last_s = flight.deadline_s
        self._flights[flight] = None
        if not self._is_waiting:
            self._is_waiting = True
            _at(flight.deadline_s, self._expire)

    def discard(self, flight: Flight) -> None:
        """It is over."""
        if flight.timer is not None:
            flight.timer.cancel()
        else:
            self._flights.pop(flight, None)

    def _expire(self) -> None:
        self._is_waiting = False
        now_s = time.monotonic()
        for flight in list(self._flights):
            if flight.deadline_s > now_s:
                self._is_waiting = True
                _at(flight.deadline_s, self._expire)
                return
            flight.too_late()


def _at(when_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(max(0.0, when_s - time.monotonic()), call)


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
