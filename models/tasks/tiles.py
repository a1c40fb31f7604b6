"""Tiles: a picture of any size through a graph that takes windows of it, in bounded memory.

    picture ─► windows, row by row ─graph─► pieces ─► rows of the result, from top to bottom

Windows lie evenly, so that each is about as large as the others and none is mostly padding. Beyond its border
a picture goes on with its border's pixels. Where pieces of neighbours lie over each other they are blended,
each counting the less the nearer its own edge is: the weights of all pieces sum to one everywhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.manifest import TileFacts

_STEP = 16
"""Sides of windows are multiples of this, so that pictures of like sizes have windows of equal ones."""


class _Spread(NamedTuple):
    """Where pieces lie along one side, in pixels of the picture."""

    starts: tuple[int, ...]
    length: int
    """Of each; only a lone piece may be longer than the picture."""

    @classmethod
    def over(cls, pixels: int, facts: TileFacts) -> "_Spread":
        """As few pieces as cover so many pixels, evenly."""
        if pixels <= facts.side:
            return cls((0,), _stepped(pixels))
        overlap = min(facts.overlap, facts.side // 2)
        count = -(-(pixels - overlap) // (facts.side - overlap))
        length = min(facts.side, _stepped(-(-(pixels + (count - 1) * overlap) // count)))
        last = pixels - length
        return cls(tuple(round(last * index / (count - 1)) for index in range(count)), length)


def _stepped(pixels: int) -> int:
    return -(-pixels // _STEP) * _STEP


class TileGrid:
    """The windows of pictures of one size."""

    def __init__(self, height: int, width: int, facts: TileFacts) -> None:
        """For pictures of (height, width) pixels."""
        self.facts = facts
        self.size = height, width
        self._down, self._across = _Spread.over(height, facts), _Spread.over(width, facts)
        self.rows = len(self._down.starts)
        self.columns = len(self._across.starts)

    @property
    def result_size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return self.size[0] * self.facts.scale, self.size[1] * self.facts.scale

    @property
    def window_size(self) -> tuple[int, int]:
        """(height, width) of what the graph is given, the same for all windows."""
        around = 2 * self.facts.surround
        return self._down.length + around, self._across.length + around

    @property
    def window_pixels(self) -> int:
        """Of all windows together."""
        height, width = self.window_size
        return self.rows * self.columns * height * width

    def window(self, pixels: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
        """The window's pixels, (h, w, 3) of `window_size`, contiguous, from the picture's (height, width,
        3)."""
        rows, above, below = self._reach(self._down, row, self.size[0])
        columns, left, right = self._reach(self._across, column, self.size[1])
        inside = pixels[rows, columns]
        if above or below or left or right:
            return np.pad(inside, ((above, below), (left, right), (0, 0)), mode="edge")
        return np.ascontiguousarray(inside)

    def _reach(self, spread: _Spread, index: int, length: int) -> tuple[slice, int, int]:
        """The part of the picture inside a window, and how far the window goes beyond it on either side."""
        first = spread.starts[index] - self.facts.surround
        end = spread.starts[index] + spread.length + self.facts.surround
        return slice(max(0, first), min(length, end)), max(0, -first), max(0, end - length)

    def place(self, row: int, column: int) -> tuple[int, int]:
        """(top, left) of a piece in the result."""
        scale = self.facts.scale
        return self._down.starts[row] * scale, self._across.starts[column] * scale

    @cached_property
    def row_weights(self) -> list[NDArray[np.float32]]:
        """Of each row of windows: how much its pieces' rows count, (piece height,)."""
        return _weights(self._down, self.size[0], self.facts)

    @cached_property
    def column_weights(self) -> list[NDArray[np.float32]]:
        """Of each column of windows: how much its pieces' columns count, (piece width,)."""
        return _weights(self._across, self.size[1], self.facts)


def _weights(spread: _Spread, pixels: int, facts: TileFacts) -> list[NDArray[np.float32]]:
    """Weights of each piece along one side, within the picture; those of one pixel sum to one."""
    scale, total = facts.scale, pixels * facts.scale
    ramp = max(1, facts.overlap * scale)
    pieces = []
    for start in spread.starts:
        first, end = start * scale, min(total, (start + spread.length) * scale)
        position = np.arange(first, end, dtype=np.float64) + 0.5
        before = position - first if first else np.inf
        behind = end - position if end < total else np.inf
        pieces.append((first, np.minimum(np.minimum(before, behind), ramp) * np.ones(end - first)))
    sums = np.zeros(total)
    for first, weights in pieces:
        sums[first : first + len(weights)] += weights
    return [(weights / sums[first : first + len(weights)]).astype(np.float32) for first, weights in pieces]


class RowBlender:
    """Puts pieces together, one row of windows after the other.

    It keeps as much of the result as one row of windows covers, in float32.
    """

    def __init__(self, grid: TileGrid, *, channels: int = 3) -> None:
        self._grid = grid
        self._height, self._width = grid.result_size
        self._channels = channels
        self._top = 0
        """First row of the result that is not given out yet; `_open` begins with it."""
        self._open = self._empty(0)

    def _empty(self, rows: int) -> NDArray[np.float32]:
        return np.zeros((rows, self._width, self._channels), np.float32)

    @property
    def open(self) -> NDArray[np.float32]:
        """The rows of the result that are not given out yet, as far as they have come."""
        return self._open

    def go_on(self, row: int, open_rows: NDArray[np.float32]) -> None:
        """Take up what another had left `open` in a row of windows; all rows above it were given out."""
        self._top, self._open = self._grid.place(row, 0)[0], open_rows

    def add(self, row: int, column: int, piece: NDArray[np.float32]) -> None:
        """Take a window's result, (h, w, channels), with the results of its context around."""
        facts = self._grid.facts
        cut = facts.context * facts.scale
        by_row, by_column = self._grid.row_weights[row], self._grid.column_weights[column]
        top, left = self._grid.place(row, column)
        inner = piece[cut : cut + len(by_row), cut : cut + len(by_column)]
        self._reach(top + len(by_row))
        into = self._open[top - self._top : top - self._top + len(by_row), left : left + len(by_column)]
        if (by_row == 1).all() and (by_column == 1).all():
            into[:] = inner
        else:
            into += inner * (by_row[:, None] * by_column)[..., None]

    def _reach(self, bottom: int) -> None:
        missing = bottom - self._top - len(self._open)
        if missing > 0:
            more = self._empty(missing)
            self._open = np.concatenate([self._open, more]) if len(self._open) else more

    def finish(self, row: int) -> NDArray[np.float32]:
        """All pieces of a row of windows have come: the rows of the result, (k, width, channels), that no
        further one changes."""
        is_last = row == self._grid.rows - 1
        bottom = self._height if is_last else self._grid.place(row + 1, 0)[0]
        done, rest = self._open[: bottom - self._top], self._open[bottom - self._top :]
        self._open, self._top = rest.copy(), bottom
        return done


def to_bytes(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0..1 to 0..255, rounded; what lies beyond is cut off. `shares` is overwritten."""
    shares *= 255
    np.rint(shares, out=shares)
    np.clip(shares, 0, 255, out=shares)
    return shares.astype(np.uint8)


@dataclass(kw_only=True)
class Stand:
    """How far a picture's windows have gone through a graph, one after the other."""

    row: int = 0
    column: int = 0
    """Of the next window."""
    open: NDArray[np.float32] | None = None
    """Rows of the result that further windows change; None before the first."""


def blended(
    pixels: NDArray[np.uint8],
    grid: TileGrid,
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    *,
    channels: int = 3,
    before_each: Callable[[], None] = lambda: None,
    stand: Stand | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Rows of the result from top to bottom, (k, width, channels): one window after the other through `run`,
    (1, h, w, 3) uint8 to (1, channels, h', w').

    It goes on from `stand`, with the first row of the result that was not given yet, and keeps it up to date:
    `before_each` finds there where to go on if that window is not to be run.
    """
    stand = stand or Stand()
    blender = RowBlender(grid, channels=channels)
    if stand.open is not None:
        blender.go_on(stand.row, stand.open)
    for row in range(stand.row, grid.rows):
        for column in range(stand.column, grid.columns):
            before_each()
            piece = run(grid.window(pixels, row, column)[None])[0]
            blender.add(row, column, piece.transpose(1, 2, 0))
            stand.column, stand.open = column + 1, blender.open
        rows = blender.finish(row)
        stand.row, stand.column, stand.open = row + 1, 0, blender.open
        yield rows


def tiled(
    pixels: NDArray[np.uint8],
    grid: TileGrid,
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    *,
    before_each: Callable[[], None] = lambda: None,
    stand: Stand | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """The same of colours in 0..1, in 8 bits."""
    for rows in blended(pixels, grid, run, before_each=before_each, stand=stand):
        yield to_bytes(rows)
