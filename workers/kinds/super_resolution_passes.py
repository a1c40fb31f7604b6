"""The passes of a picture through a network, from which a later attempt of the job goes on.

    pass-N   rows of the N-th pass as bytes, in the work folder; the next pass reads them
    kept     a checkpoint: `_Kept` as a line of JSON · all rows of the pass before, if there was one · the
             rows of this one so far · those that further windows change, float32

A checkpoint is made from time to time, seldom enough for what it takes, and when the job is asked to leave
off, if it is small enough to be kept in the seconds that a worker has then. It only saves work: where the
disk has no room for it, the job goes on without.
"""

import shutil
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import DiskFull
from app.storage.disk import NO_ROOM, Disk
from models.export.served import ServedSession
from models.manifest import TileFacts
from models.tasks.tiles import Stand, TileGrid, tiled
from workers.context import Interrupted, JobContext

KEEP_EVERY_S = 60.0
_LEAST_WORK = 30
"""Before the next checkpoint, so many times what the last one took."""
_QUICK_BYTES = 256 * 2**20
"""Written, hashed and copied in 1.2 s on a local disk; a worker that stops waits five."""
_AT_ONCE_BYTES = 2**20


class _Kept(BaseModel):
    """The head of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    turn: int
    """Number of the pass, from 0."""
    cut: tuple[int, int, int, int]
    """Rows and columns of windows, height and width of each: nothing goes on with what was cut otherwise."""
    row: int
    column: int
    open_rows: int


class Passes:
    """A picture's way through a network that enlarges it `scale` times in each pass."""

    def __init__(
        self,
        context: JobContext,
        session: ServedSession,
        tiles: TileFacts,
        pixels: NDArray[np.uint8],
        *,
        count: int,
        enlarged: float,
    ) -> None:
        """`pixels` is (h, w, 3). The job is as far as `enlarged`, 0..1, when all is done."""
        self._context, self._session, self._tiles, self._pixels = context, session, tiles, pixels
        self._last = count - 1
        self._grids = [TileGrid(*self._size(turn), tiles) for turn in range(count)]
        self._enlarged = enlarged
        self._turn, self._stand = 0, Stand()
        if context.resume is not None:
            self._take_up(context.resume.path)
        self._kept_step = self._step(self._turn, self._stand)
        self._kept_s = time.monotonic()
        self._every_s = KEEP_EVERY_S
        self._has_said_no_room = False

    def rows(self) -> Iterator[NDArray[np.uint8]]:
        """Rows of the last pass from top to bottom, (k, width, 3). Raises Interrupted."""
        self._finish(self._last)
        if self._turn == self._last:
            for rows in _rows_so_far(self._path(self._last), self._grids[self._last], self._stand.row):
                self._context.leave_if_asked()
                yield rows
        yield from self._further_rows(self._last)

    def whole(self) -> NDArray[np.uint8]:
        """All of them, on disk."""
        self._finish(self._last + 1)
        return self._result(self._last)

    # -- inside --------------------------------------------------------------------------------------

    def _size(self, turn: int) -> tuple[int, int]:
        """Height and width of what goes into a pass."""
        scale = self._tiles.scale**turn
        return self._pixels.shape[0] * scale, self._pixels.shape[1] * scale

    def _path(self, turn: int) -> Path:
        return self._context.work_dir / f"pass-{turn}"

    @property
    def _path_kept(self) -> Path:
        return self._context.work_dir / "kept"

    def _result(self, turn: int) -> NDArray[np.uint8]:
        return np.memmap(self._path(turn), np.uint8, "r", shape=(*self._size(turn + 1), 3))

    def _finish(self, count: int) -> None:
        """So many passes."""
        for turn in range(self._turn, count):
            for _ in self._further_rows(turn):
                pass

    def _further_rows(self, turn: int) -> Iterator[NDArray[np.uint8]]:
        """Rows of a pass that were not made before."""
        pixels = self._result(turn - 1) if turn else self._pixels
        stand = self._stand if turn == self._turn else Stand()
        with self._path(turn).open("ab") as file:
            look = partial(self._look, turn, stand, file)
            for rows in tiled(pixels, self._grids[turn], self._session.run, before_each=look, stand=stand):
                file.write(rows.tobytes())
                yield rows

    def _look(self, turn: int, stand: Stand, file: BinaryIO) -> None:
        """Before each window: keep what there is when it is time to; leave off if asked to, else say how far
        it is."""
        is_asked, size_bytes = self._context.stop_asked(), self._size_bytes(turn, stand)
        is_due = time.monotonic() - self._kept_s >= self._every_s
        if self._step(turn, stand) != self._kept_step and (
            size_bytes <= _QUICK_BYTES if is_asked else is_due
        ):
            file.flush()
            self._keep_if_there_is_room(turn, stand, size_bytes)
        if is_asked:
            raise Interrupted
        self._context.progress(self._progress(turn, stand), "enlarging")

    def _progress(self, turn: int, stand: Stand) -> float:
        """Of all pixels that go through the network, the share of those that have, as the job counts it."""
        grid = self._grids[turn]
        windows = (stand.row * grid.columns + stand.column) / (grid.rows * grid.columns)
        each = [prod(self._size(number)) for number in range(self._last + 1)]
        return self._enlarged * (sum(each[:turn]) + windows * each[turn]) / sum(each)

    def _step(self, turn: int, stand: Stand) -> int:
        """Windows that are done, over all passes."""
        before = sum(grid.rows * grid.columns for grid in self._grids[:turn])
        return before + stand.row * self._grids[turn].columns + stand.column

    # -- checkpoints ---------------------------------------------------------------------------------

    def _size_bytes(self, turn: int, stand: Stand) -> int:
        """Of a checkpoint, but for its head."""
        grid = self._grids[turn]
        above = 3 * grid.result_size[1] * grid.place(stand.row, 0)[0]
        before = 3 * prod(self._size(turn)) if turn else 0
        return before + above + (0 if stand.open is None else stand.open.nbytes)

    def _keep_if_there_is_room(self, turn: int, stand: Stand, size_bytes: int) -> None:
        began_s = time.monotonic()
        try:
            Disk.of(self._context.settings).check(2 * size_bytes)  # the store copies it
            self._keep(turn, stand)
        except (DiskFull, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_ROOM:
                raise
            self._path_kept.unlink(missing_ok=True)
            if not self._has_said_no_room:
                self._context.message("The disk has no room for a checkpoint; the job goes on without.")
            self._has_said_no_room = True
        self._kept_s = time.monotonic()
        self._every_s = max(KEEP_EVERY_S, _LEAST_WORK * (self._kept_s - began_s))

    def _keep(self, turn: int, stand: Stand) -> None:
        step = self._step(turn, stand)
        rows = np.empty(0, np.float32) if stand.open is None else stand.open
        cut = _cut(self._grids[turn])
        kept = _Kept(turn=turn, cut=cut, row=stand.row, column=stand.column, open_rows=len(rows))
        with self._path_kept.open("wb") as file:
            file.write(kept.model_dump_json().encode() + b"\n")
            for part in (turn - 1, turn) if turn else (turn,):
                with self._path(part).open("rb") as made:
                    shutil.copyfileobj(made, file, _AT_ONCE_BYTES)
            file.write(rows.tobytes())
        facts = {"progress": self._progress(turn, stand)}
        self._context.checkpoint(step, self._path_kept, facts)
        self._kept_step = step

    def _take_up(self, path: Path) -> None:
        with path.open("rb") as file:
            kept = self._head(file.readline())
            if kept is None:
                self._context.message("What was kept is of another version; the picture is begun anew.")
                return
            grid = self._grids[kept.turn]
            if kept.turn:
                self._copy(file, self._path(kept.turn - 1), 3 * prod(self._size(kept.turn)))
            width = grid.result_size[1]
            self._copy(file, self._path(kept.turn), 3 * width * grid.place(kept.row, 0)[0])
            rows = np.fromfile(file, np.float32, kept.open_rows * width * 3)
        self._turn = kept.turn
        self._stand = Stand(row=kept.row, column=kept.column, open=rows.reshape(kept.open_rows, width, 3))

    def _copy(self, source: BinaryIO, target: Path, count: int) -> None:
        """So many bytes, from where the source stands."""
        with target.open("wb") as file:
            while count and (piece := source.read(min(count, _AT_ONCE_BYTES))):
                self._context.leave_if_asked()
                file.write(piece)
                count -= len(piece)

    def _head(self, line: bytes) -> _Kept | None:
        try:
            kept = _Kept.model_validate_json(line)
        except ValidationError:
            return None
        fits = 0 <= kept.turn <= self._last and kept.cut == _cut(self._grids[kept.turn])
        return kept if fits else None


def _rows_so_far(path: Path, grid: TileGrid, row: int) -> Iterator[NDArray[np.uint8]]:
    """The rows above a row of windows, in the pieces in which they came first: so a PNG of them has the same
    bytes."""
    width = grid.result_size[1]
    tops = [grid.place(above, 0)[0] for above in range(row + 1)]
    for top, bottom in pairwise(tops):
        offset, count = 3 * width * top, 3 * width * (bottom - top)
        yield np.fromfile(path, np.uint8, count, offset=offset).reshape(-1, width, 3)


def _cut(grid: TileGrid) -> tuple[int, int, int, int]:
    return grid.rows, grid.columns, *grid.window_size
