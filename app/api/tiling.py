"""A picture through an engine in windows: which are sent when, and how their results become one picture.

    windows ──few at a time──► engine (windows of other requests share its batches) ──► blender ──► rows

Of one request few windows wait at a time, the fewer the more requests there are, so that a small picture
never waits behind a whole large one. Blending is done in the engine's side pool.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.api.gateway import Exchange
from app.api.inference import Asker, Flight, Inference
from app.api.patience import hung_up
from app.errors import AppError, Overloaded
from app.runtime.batcher import Member
from app.runtime.engine import Engine
from models.manifest import TileFacts
from models.tasks.tiles import RowBlender, TileGrid, to_bytes

_AHEAD = 2
"""Windows of a lone request per place in a batch: one that is computed and one that waits for it."""
_RETRY_S = 0.05


class _Landed(NamedTuple):
    place: tuple[int, int]
    result: list[Member] | AppError


class Tiling:
    """Pictures of one request through one engine, which the caller holds."""

    def __init__(self, inference: Inference, exchange: Exchange, engine: Engine, *, asker: Asker) -> None:
        self._inference = inference
        self._exchange = exchange
        self._engine = engine
        self._asker = asker
        self._landed: asyncio.Queue[_Landed] = asyncio.Queue()
        self._flights: dict[tuple[int, int], Flight] = {}
        self.members: list[Member] = []
        """All that were run, for their times; their pixels are let go of."""

    async def enlarge(self, pixels: NDArray[np.uint8], facts: TileFacts) -> NDArray[np.uint8]:
        """(H, W, 3) to `facts.scale` times that. Raises as `shares`."""
        grid = TileGrid(pixels.shape[0], pixels.shape[1], facts)
        result = np.empty((*grid.result_size, 3), np.uint8)

        def keep(top: int, rows: NDArray[np.float32]) -> None:
            result[top : top + len(rows)] = to_bytes(rows)

        await self._run(grid, pixels, _Assembly(grid, keep, channels=3))
        return result

    async def shares(
        self, pixels: NDArray[np.uint8], facts: TileFacts, *, labels: int
    ) -> NDArray[np.float16]:
        """(H, W, 3) to shares (labels, H, W); float16, for they are many.

        Raises:
            Overloaded: not even the first window found a place.
            DeadlineExceeded, ClientClosed, InferenceFailed: what is left of the work is given up.

        """
        grid = TileGrid(pixels.shape[0], pixels.shape[1], facts)
        result = np.empty((labels, *grid.result_size), np.float16)

        def keep(top: int, rows: NDArray[np.float32]) -> None:
            result[:, top : top + len(rows)] = rows.transpose(2, 0, 1)

        await self._run(grid, pixels, _Assembly(grid, keep, channels=labels))
        return result

    async def _run(self, grid: TileGrid, pixels: NDArray[np.uint8], assembly: "_Assembly") -> None:
        waiting = deque((row, column) for row in range(grid.rows) for column in range(grid.columns))
        self._landed = asyncio.Queue()  # of a picture before that failed there may be pieces left
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()
        watch = loop.create_task(hung_up(self._exchange, gone))
        self._engine.begin_tiling(grid)
        try:
            while waiting or self._flights or not self._landed.empty():
                is_full = not self._send(waiting, grid, pixels)
                if is_full and not self._flights and self._landed.empty():
                    await asyncio.sleep(_RETRY_S)
                    continue
                landed = await self._next(gone)
                self._send(waiting, grid, pixels)  # lanes go on while this one is blended
                await loop.run_in_executor(
                    self._engine.side_pool, partial(assembly.add, landed.place, self._piece(landed))
                )
        finally:
            self._engine.end_tiling()
            watch.cancel()
            self._abandon()

    def _send(self, waiting: deque[tuple[int, int]], grid: TileGrid, pixels: NDArray[np.uint8]) -> bool:
        """As many windows as may wait now. False when the queue had no place for one."""
        plan = self._engine.plan
        allowed = max(1, _AHEAD * plan.lanes * plan.batch // self._engine.tilings)
        while waiting and len(self._flights) < allowed:
            place = waiting[0]
            self._engine.hold()  # for the flight, which lets go of it; the request's own hold is another
            try:
                self._flights[place] = self._inference.begin(
                    self._engine,
                    [grid.window(pixels, *place)],
                    asked=None,
                    asker=self._asker,
                    landed=partial(self._land, place),
                )
            except Overloaded:
                if not self._flights and not self.members:
                    raise
                return False
            waiting.popleft()
        return True

    def _land(self, place: tuple[int, int], result: list[Member] | AppError) -> None:
        del self._flights[place]
        self._landed.put_nowait(_Landed(place, result))

    async def _next(self, gone: "asyncio.Future[None]") -> _Landed:
        """The next window that landed. Raises ClientClosed."""
        if self._landed.empty():
            coming = asyncio.ensure_future(self._landed.get())
            either: list[asyncio.Future[Any]] = [coming, gone]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                coming.cancel()
                gone.result()
            return await coming
        return self._landed.get_nowait()

    def _piece(self, landed: _Landed) -> NDArray[np.float32]:
        """What the network made of a window, or raise why it made nothing."""
        if isinstance(landed.result, AppError):
            raise landed.result
        (member,) = landed.result
        if member.error is not None:
            raise member.error
        piece, member.result = member.result, None
        self.members.append(member)
        assert isinstance(piece, np.ndarray)
        return piece

    def _abandon(self) -> None:
        for flight in self._flights.values():
            flight.abandon()
        self._flights.clear()


class _Assembly:
    """The result as it grows: whole rows are given to `keep`, from top to bottom. One call at a time."""

    def __init__(
        self, grid: TileGrid, keep: Callable[[int, NDArray[np.float32]], None], *, channels: int
    ) -> None:
        self._keep = keep
        self._blender = RowBlender(grid, channels=channels)
        self._missing = [grid.columns] * grid.rows
        self._row, self._top = 0, 0

    def add(self, place: tuple[int, int], piece: NDArray[np.float32]) -> None:
        """Take a window's result, in whatever order they come."""
        self._blender.add(*place, piece)
        self._missing[place[0]] -= 1
        while self._row < len(self._missing) and not self._missing[self._row]:
            rows = self._blender.finish(self._row)
            self._keep(self._top, rows)
            self._row, self._top = self._row + 1, self._top + len(rows)
