"""An engine serves one version: a session, a batcher, and lanes (threads) between them.

A lane takes a batch, decodes each member straight into its rows of the input buffer, runs the session
and encodes the answers. Cheap pictures are decoded in the lane: one hand-over between threads per
request, which on small models costs more than queueing. Expensive ones (large PNGs and the like) are
decoded in a side pool first, so that nobody waits behind them.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError, ImageTooLarge, InferenceFailed, OutOfMemory, image_error
from app.observability.metrics import RuntimeMetrics
from app.runtime.batcher import Batch, Batcher, Member, Opened
from app.runtime.footprint import Footprint
from app.runtime.pinned import PinnedBuffers
from app.runtime.plan import Plan
from app.runtime.providers import CUDA, TENSORRT
from app.runtime.session import RunStopped, Session
from app.runtime.time_slice import ask_for_long_slices
from models.tasks.images import ImageError
from models.tasks.tiles import TileGrid


class Codec(Protocol):
    """Outputs to answers, for one task."""

    def encode_batch(self, outputs: NDArray[np.float32], asked: Sequence[Any], /) -> Sequence[object]:
        """The answer of each row of the outputs, or the ValueError that says why it has none. `asked` is what
        each member was submitted with."""


@runtime_checkable
class OpeningCodec(Codec, Protocol):
    """One that makes an input of a whole picture."""

    def open(self, data: bytes) -> Opened:
        """Read the headers alone, in microseconds; raises ImageError for what they tell."""


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What an engine serves and how."""

    name: str
    number: int
    shape: tuple[int, int, int]
    """(H, W, 3) of one input; of windows, which have many sizes, the largest."""
    plan: Plan
    capacity: int
    """Inputs that may wait."""


class Engine:
    """One loaded version, ready to answer."""

    def __init__(
        self,
        facts: EngineFacts,
        *,
        session: Session,
        lone_session: Session | None = None,
        codec: Codec,
        metrics: RuntimeMetrics,
        side_pool: Executor,
    ) -> None:
        self.facts = facts
        self.label = f"{facts.name}:{facts.number}"
        self.plan = facts.plan
        self.session = session
        self._lone_session = lone_session or session
        """For an input that has the machine to itself."""
        self.batcher = Batcher(capacity=facts.capacity, lanes=self.plan.lanes, metrics=metrics)
        self.codec = codec
        self._opening = codec if isinstance(codec, OpeningCodec) else None
        self._shape = facts.shape
        self._metrics = metrics
        self.side_pool = side_pool
        """For what would keep lanes or the event loop too long."""
        self.large_decodes = 0
        """How many pictures went through the side pool: each may leave holes in the heap."""
        self.tilings = 0
        """Pictures whose windows are sent now; the event loop's."""
        self.footprint = Footprint(held_bytes=0, peak_bytes=0)
        """What it holds, once that has been weighed."""
        self.used_s = time.monotonic()
        """When a request last took hold of it."""
        self._in_flight = 0
        self._is_closing = False
        self._in_flight_lock = threading.Lock()
        # Made here, where a lack of memory fails the load; in a lane it would end the lane.
        buffers = [np.empty((self.plan.batch, *self._shape), np.uint8) for _ in range(self.plan.lanes)]
        self._pinned = PinnedBuffers() if session.provider in (CUDA, TENSORRT) else None
        for buffer in buffers:
            if self._pinned is not None:
                self._pinned.lock(buffer)
        self._threads = [
            threading.Thread(
                target=self._lane, args=(buffer,), name=f"lane-{self.label}-{index}", daemon=True
            )
            for index, buffer in enumerate(buffers)
        ]
        for thread in self._threads:
            thread.start()

    # -- requests -----------------------------------------------------------------------------------

    def submit(self, member: Member) -> None:
        """Queue one member (payload: encoded bytes, or a window's pixels); it is resolved later, from another
        thread.

        Raises Overloaded or DeadlineExceeded at once.
        """
        self.batcher.admit(member.deadline_s, member.caller)
        if isinstance(member.payload, np.ndarray):
            member.shape = member.payload.shape
            member.cost = member.payload.size / prod(self._shape)
            self.batcher.offer(member)
            return
        assert isinstance(member.payload, bytes)  # opened images are made here, not by callers
        assert self._opening is not None  # pictures that go in windows are cut by the caller
        try:
            opened = self._opening.open(member.payload)
        except ImageError as error:
            self._refuse(member, image_error(error))
            return
        member.payload = opened
        if opened.is_cheap:
            self.batcher.offer(member)
        else:
            self.batcher.reserve(member.caller)
            self.side_pool.submit(self._prepare, member, opened)

    def _prepare(self, member: Member, opened: Opened) -> None:
        started_s = time.monotonic()
        self.large_decodes += 1
        try:
            if not member.is_cancelled:
                member.payload = opened.decode()
            member.decode_s = time.monotonic() - started_s
            self.batcher.enqueue(member)
        except ImageError as error:
            self.batcher.release(member.caller)
            self._refuse(member, image_error(error))
        except MemoryError:
            self.batcher.release(member.caller)
            self._refuse(
                member, ImageTooLarge("There is not enough memory to decode it.", hint="Send a smaller one.")
            )

    def _refuse(self, member: Member, error: AppError) -> None:
        self._metrics.failed()
        member.fail(error)
        member.resolved(member)

    def hold(self) -> bool:
        """Keep it loaded until `let_go`. False when it is being unloaded: look the model up again."""
        with self._in_flight_lock:
            if self._is_closing:
                return False
            self._in_flight += 1
            self.used_s = time.monotonic()
            return True

    def let_go(self) -> None:
        """The request has its answer."""
        with self._in_flight_lock:
            self._in_flight -= 1

    @property
    def is_idle(self) -> bool:
        """No request holds it."""
        return self._in_flight == 0

    @property
    def requests(self) -> int:
        """How many hold it."""
        return self._in_flight

    def probe(self) -> None:
        """Run each batch size once with grey pixels: memory is planned before the first request comes.

        Raises:
            InferenceFailed: the graph cannot run, or answers with numbers that are not finite.
            OutOfMemory: there is too little to run it.

        """
        trials = [(self.session, size) for size in sorted({1, self.plan.batch})]
        for session, size in [*trials, (self._lone_session, 1)]:
            outputs = session.run(np.full((size, *self._shape), 128, np.uint8), lambda _: True)
            if len(outputs) != size or not np.isfinite(outputs).all():
                raise InferenceFailed(
                    f"{self.label} does not answer its probe with finite numbers.", hint="Verify the version."
                )

    def drain_and_close(self, timeout_s: float) -> bool:
        """Wait until no request holds it, end the lanes, drop the session. False when time ran out."""
        until_s = time.monotonic() + timeout_s
        drained = self.drain(timeout_s)
        self.batcher.close()
        for thread in self._threads:
            thread.join(max(0.1, until_s - time.monotonic()))
        self.session.close()
        self._lone_session.close()
        if self._pinned is not None and not any(thread.is_alive() for thread in self._threads):
            self._pinned.release()
        return drained

    def drain(self, timeout_s: float) -> bool:
        """Wait until no request holds it, and let nobody take hold of it any more. False when time ran out:
        then it serves on."""
        until_s = time.monotonic() + timeout_s
        while not (drained := self._close_if_idle()) and time.monotonic() < until_s:
            time.sleep(0.005)
        return drained

    def _close_if_idle(self) -> bool:
        with self._in_flight_lock:
            self._is_closing = self._is_closing or self._in_flight == 0
            return self._is_closing

    def begin_tiling(self, grid: TileGrid) -> None:
        """A picture will be sent in these windows. The event loop's, like `end_tiling`."""
        self.tilings += 1
        height, width = grid.size
        self._metrics.windows(picture_pixels=height * width, window_pixels=grid.window_pixels)

    def end_tiling(self) -> None:
        """All its windows have landed, or are given up."""
        self.tilings -= 1

    # -- lanes ----------------------------------------------------------------------------------------

    def _lane(self, buffer: NDArray[np.uint8]) -> None:
        ask_for_long_slices()
        while (batch := self.batcher.take(self.plan.batch)) is not None:
            started_s = time.monotonic()
            try:
                self._serve(batch, buffer)
            except MemoryError:  # of decoding or encoding; the lane lives on
                for member in batch.members:
                    member.fail(OutOfMemory("There was not enough memory for the answer.", hint="Retry."))
            finally:
                for member in batch.members:
                    if not member.is_resolved:
                        member.fail(InferenceFailed("The lane failed.", hint="Report it with the id."))
                    member.resolved(member)
                self.batcher.completed(len(batch.members), time.monotonic() - started_s)
            del batch  # while waiting for the next one, nothing of this one is kept alive

    def _serve(self, batch: Batch, buffer: NDArray[np.uint8]) -> None:
        started_s = time.monotonic()
        if (shape := batch.members[0].shape) is not None:
            buffer = buffer.reshape(-1)[: len(batch.members) * prod(shape)].reshape(-1, *shape)
        live = self._fill(batch.members, buffer)
        decoded_s = time.monotonic()
        if not live:
            return
        session = self._lone_session if batch.is_alone else self.session
        try:
            outputs = session.run(buffer[: len(live)], batch.running)
        except RunStopped:
            return
        except (InferenceFailed, OutOfMemory):
            self._serve_singly(live, buffer)
            return
        ran_s = time.monotonic()
        self._settle(live, outputs, infer_s=ran_s - decoded_s)
        self._metrics.batch(
            size=len(live),
            decode_s=decoded_s - started_s,
            infer_s=ran_s - decoded_s,
            encode_s=time.monotonic() - ran_s,
        )

    def _fill(self, members: list[Member], buffer: NDArray[np.uint8]) -> list[Member]:
        """Decode into consecutive rows; a member that cannot be decoded fails alone and takes no row."""
        live: list[Member] = []
        for member in members:
            self._metrics.waited(member.queue_s)
            if member.is_cancelled:
                continue
            row = buffer[len(live)]
            if isinstance(member.payload, np.ndarray):
                row[:] = member.payload
            elif not isinstance(member.payload, bytes | None):
                started_s = time.monotonic()
                try:
                    member.payload.decode(row)
                except ImageError as error:
                    member.fail(image_error(error))
                    self._metrics.failed()
                    continue
                member.decode_s = time.monotonic() - started_s
            member.payload = None
            live.append(member)
        return live

    def _settle(self, live: list[Member], outputs: NDArray[np.float32], *, infer_s: float) -> None:
        started_s = time.monotonic()
        results = self.codec.encode_batch(outputs, [member.asked for member in live])
        encode_s = time.monotonic() - started_s
        for member, result in zip(live, results, strict=True):
            member.infer_s, member.encode_s, member.batch_size = infer_s, encode_s, len(live)
            if isinstance(result, ValueError):  # not finite, or not as many as the labels
                member.fail(InferenceFailed(f"The model's answer is unusable: {result}.", hint="Verify it."))
                self._metrics.failed()
            else:
                member.answer(result)

    def _serve_singly(self, live: list[Member], buffer: NDArray[np.uint8]) -> None:
        """The batch failed as a whole: run each member alone, so that only the guilty one fails."""
        for index, member in enumerate(live):
            started_s = time.monotonic()
            try:
                outputs = self.session.run(buffer[index : index + 1], lambda _: True)
            except (InferenceFailed, OutOfMemory) as error:
                member.fail(error)
                self._metrics.failed()
            else:
                self._settle([member], outputs, infer_s=time.monotonic() - started_s)
