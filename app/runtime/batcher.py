"""Pull batching: a batch is what waits when a lane comes free. No timer, no window.

    offer ──► [ bounded queue ] ──take(≤ limit)──► lane: decode · run · encode ──► member.answer / member.fail
       │                            │
       └ full: Overloaded           └ cancelled members are dropped, late ones told so

A batch has one size of input: that of the member which is next: callers share the time of an engine, in
measured seconds (`fair_queue.py`). What it may hold is counted in inputs of full size; smaller ones count by
their pixels, so that no batch takes longer than one of full inputs.

Members resolve independently: nothing that happens to one is visible to another. The batcher knows
neither images nor sessions; threads and clock come from outside, so its tests need neither.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from app.errors import AppError, DeadlineExceeded, Overloaded
from app.observability.metrics import RuntimeMetrics
from app.runtime.fair_queue import FairQueue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_ROUNDING = 1e-6
_FIRST_GUESS_S = 1e-3
"""What a member takes, as long as nothing has been measured."""


class Opened(Protocol):
    """An encoded input whose headers have been read."""

    @property
    def is_cheap(self) -> bool:
        """Whether decoding may happen in a lane."""

    def decode(self, out: "NDArray[np.uint8] | None" = None) -> "NDArray[np.uint8]":
        """Pixels (H, W, 3), written to `out` when given; raises ImageError."""


class Member:
    """One input on its way through an engine.

    `resolved` is called exactly once, from any thread, with the member; then either `result` or `error`
    is set. The stage times are monotonic seconds.
    """

    __slots__ = (
        "accepted_s",
        "asked",
        "batch",
        "batch_limit",
        "batch_size",
        "caller",
        "cost",
        "deadline_s",
        "decode_s",
        "encode_s",
        "error",
        "infer_s",
        "is_cancelled",
        "is_resolved",
        "payload",
        "queue_s",
        "resolved",
        "result",
        "shape",
    )

    def __init__(
        self,
        payload: "bytes | Opened | NDArray[np.uint8] | None",
        *,
        deadline_s: float,
        asked: object,
        resolved: Callable[["Member"], None],
    ) -> None:
        self.payload = payload
        """Encoded bytes; opened by the engine; pixels once prepared aside; None once in a batch."""
        self.asked = asked
        """What its codec is told when it makes the answer: of a classifier, how many labels to name."""
        self.shape: tuple[int, ...] | None = None
        """(h, w, 3) of an input that is not of the engine's one size. Only equals share a batch."""
        self.cost = 1.0
        """Its share of an input of full size."""
        self.caller = ""
        """Who sent it: callers share the engine's time."""
        self.deadline_s = deadline_s
        """Monotonic time after which the answer is of no use."""
        self.resolved = resolved
        self.result: object = None
        self.error: AppError | None = None
        self.is_cancelled = False
        self.is_resolved = False
        self.batch: Batch | None = None
        self.batch_size = 0
        self.batch_limit = 0
        self.accepted_s = 0.0
        self.queue_s = self.decode_s = self.infer_s = self.encode_s = 0.0

    def answer(self, result: object) -> None:
        """Settle with a result; a second settlement is ignored."""
        if not self.is_resolved:
            self.is_resolved = True
            self.result = result

    def fail(self, error: AppError) -> None:
        """Settle with an error; a second settlement is ignored."""
        if not self.is_resolved:
            self.is_resolved = True
            self.error = error


class Batch:
    """Members that run together. When the last of them is cancelled, the run is terminated."""

    __slots__ = ("_left", "_lock", "_terminate", "is_alone", "members")

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.is_alone = False
        """One member, while nothing else waited and all other lanes were free."""
        self._lock = threading.Lock()
        self._left = len(members)
        self._terminate: Callable[[], None] | None = None

    def running(self, terminate: Callable[[], None]) -> bool:
        """Say how to stop the run that is about to begin; False when nobody waits for it any more."""
        with self._lock:
            self._terminate = terminate
            return self._left > 0

    def leave(self) -> bool:
        """One member has gone. True when that was the last and its run was told to stop."""
        with self._lock:
            self._left -= 1
            if self._left or self._terminate is None:
                return False
            self._terminate()
            return True


class Batcher:
    """The bounded queue of one engine and the rule by which lanes take from it."""

    def __init__(
        self,
        *,
        capacity: int,
        lanes: int,
        metrics: RuntimeMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._lanes = lanes
        self._clock = clock
        self._metrics = metrics
        self._queue: FairQueue[Member] = FairQueue()
        self._lock = threading.Lock()
        self._gates: list[threading.Lock] = []
        """Of lanes that wait. The one that came last is woken first: its caches are still warm."""
        self._free_lanes = 0
        """Lanes inside `take`, waiting or just woken."""
        self._preparing: Counter[str] = Counter()
        """Places reserved, by caller."""
        self._reserved = 0
        """All of them."""
        self._is_closed = False
        self._seconds_per_member = 0.0

    def __len__(self) -> int:
        return len(self._queue) + self._reserved

    def expected_wait_s(self, caller: str = "") -> float:
        """Seconds until a member offered now would be answered, by the pace measured so far: of the others
        that wait, each caller's come in turns with its own."""
        return min(len(self) + 1, self._queue.turns(caller)) * self._seconds_per_member / self._lanes

    def _has_no_place(self, caller: str) -> bool:
        """The queue is full, and this caller has its share of it."""
        if len(self) < self._capacity:
            return False
        its_own = self._queue.waiting(caller) + self._preparing[caller]
        return its_own >= self._capacity // self._queue.callers_with(self._preparing.keys() | {caller})

    def admit(self, deadline_s: float, caller: str = "") -> None:
        """Refuse at the door what cannot be served: a full queue, or a deadline that cannot be met.

        Raises:
            Overloaded: with an honest `retry_after_s`.
            DeadlineExceeded: when the measured pace says that the answer would come too late.

        """
        if self._has_no_place(caller):
            self._metrics.refused("overloaded")
            raise self._overloaded(caller)
        wait_s = self.expected_wait_s(caller)
        if self._clock() + wait_s > deadline_s:
            self._metrics.refused("deadline")
            raise DeadlineExceeded(
                f"The answer would take about {wait_s:.2f} s, longer than the deadline allows.",
                param="X-Request-Deadline",
                hint="Give a later deadline, or retry when the service is less busy.",
            )

    def _overloaded(self, caller: str) -> Overloaded:
        return Overloaded(
            f"{len(self)} inputs wait already; the queue holds {self._capacity}.",
            hint="Retry after the time in Retry-After.",
            retry_after_s=max(0.05, self.expected_wait_s(caller)),
        )

    def offer(self, member: Member) -> None:
        """Queue a member whose payload a lane can take as it is."""
        member.accepted_s = self._clock()
        with self._lock:
            self._refuse_if_full(member.caller)
            self._append(member)

    def reserve(self, caller: str = "") -> None:
        """Take a place in the queue for a member that must be prepared first; `enqueue` or `release` it."""
        with self._lock:
            self._refuse_if_full(caller)
            self._preparing[caller] += 1
            self._reserved += 1

    def _refuse_if_full(self, caller: str) -> None:
        if self._is_closed or self._has_no_place(caller):
            self._metrics.refused("overloaded")
            raise self._overloaded(caller)

    def release(self, caller: str = "") -> None:
        """Give a reserved place back."""
        with self._lock:
            self._unreserve(caller)

    def _unreserve(self, caller: str) -> None:
        self._preparing[caller] -= 1
        self._reserved -= 1
        if not self._preparing[caller]:
            del self._preparing[caller]

    def enqueue(self, member: Member) -> None:
        """Turn a reserved place into a waiting member."""
        member.accepted_s = self._clock()
        with self._lock:
            self._unreserve(member.caller)
            self._append(member)

    def _append(self, member: Member) -> None:
        self._queue.append(member)
        if self._gates:
            self._gates.pop().release()

    def cancel(self, member: Member) -> None:
        """Nobody waits for this member any more. Frees its place, or its run when it was the last in it."""
        with self._lock:
            if member.is_cancelled or member.is_resolved:
                return
            member.is_cancelled = True
            batch = member.batch
            if batch is None:
                with suppress(ValueError):  # still being prepared: dropped when it is taken
                    self._queue.remove(member)
                stage = "queued"
        if batch is not None:
            stage = "terminated" if batch.leave() else "running"
        self._metrics.cancelled(stage)

    def take(self, limit: int) -> Batch | None:
        """Block until members wait, then take at most `limit` by their costs; None once closed and empty.

        While other lanes are free, a lane leaves them their share: two waiting members and two free lanes
        make two batches of one, which answers both sooner than one batch of two.
        """
        with self._lock:
            self._free_lanes += 1
        while True:
            with self._lock:
                if self._queue:
                    share = -(-len(self._queue) // self._free_lanes)
                    batch, late = self._batch(share, limit)
                    batch.is_alone = (
                        len(batch.members) == 1 and self._free_lanes == self._lanes and not len(self)
                    )
                    self._free_lanes -= bool(batch.members)
                elif self._is_closed:
                    return None
                else:
                    gate = threading.Lock()
                    gate.acquire()
                    self._gates.append(gate)
                    batch, late = None, []
            if batch is None:
                gate.acquire()  # until `enqueue` or `close` opens it
                continue
            for member in late:
                self._metrics.refused("late")
                member.resolved(member)
            if batch.members:
                return batch

    def _batch(self, size: int, limit: int) -> tuple[Batch, list[Member]]:
        members, late = self._pop(size, limit)
        batch = Batch(members)
        for member in members:
            member.batch = batch
        return batch, late

    def _pop(self, size: int, limit: int) -> tuple[list[Member], list[Member]]:
        """The next live members of one shape, and those whose deadline passed while they waited (already
        failed)."""
        now_s = self._clock()
        members: list[Member] = []
        late: list[Member] = []
        others: list[Member] = []
        while self._queue and len(members) < size:
            member = self._queue.pop()
            if member.is_cancelled:
                continue
            if members and member.shape != members[0].shape:
                others.append(member)
                continue
            member.queue_s = now_s - member.accepted_s
            if now_s > member.deadline_s:
                member.fail(
                    DeadlineExceeded(
                        f"The deadline passed after {member.queue_s:.2f} s in the queue.",
                        param="X-Request-Deadline",
                        hint="Give a later deadline, or retry when the service is less busy.",
                    )
                )
                late.append(member)
            else:
                member.batch_limit = max(1, int(limit / member.cost + _ROUNDING))
                members.append(member)
                pace = self._seconds_per_member or _FIRST_GUESS_S
                self._queue.charge(member.caller, member.cost * pace)
                size = min(size, member.batch_limit)
        self._queue.put_back(others)
        return members, late

    def completed(self, members: int, seconds: float) -> None:
        """Learn the pace: one lane took `seconds` for so many members."""
        pace = seconds / members
        old = self._seconds_per_member
        self._seconds_per_member = pace if old == 0.0 else 0.9 * old + 0.1 * pace

    def close(self) -> None:
        """Let lanes end once the queue is empty; new offers are refused."""
        with self._lock:
            self._is_closed = True
            while self._gates:
                self._gates.pop().release()
