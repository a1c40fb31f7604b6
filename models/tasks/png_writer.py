"""A PNG written strip by strip: the picture is never in memory as a whole.

ISO/IEC 15948. Of each row the filter is taken whose bytes are smallest in sum, as the standard recommends.
"""

import struct
import zlib
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from models.tasks.png import PNG_MAGIC

_COLOUR_TYPES: Final = {1: 0, 2: 4, 3: 2, 4: 6}
"""By channels: grey, grey with alpha, RGB, RGB with alpha."""
MAX_SIDE = 2**31 - 1
_EFFORT = 4
_STRIP_ROWS = 64
_SUB, _UP, _PAETH = 1, 2, 4


class PngWriter:
    """Writes one picture of 8 bits per sample: `add` its rows from top to bottom, then `close`."""

    def __init__(self, file: BinaryIO, *, width: int, height: int, channels: int) -> None:
        self._file = file
        self._left = height
        self._deflate = zlib.compressobj(_EFFORT)
        self._above = np.zeros((1, width, channels), np.uint8)
        file.write(PNG_MAGIC)
        header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
        self._chunk(b"IHDR", header)

    def add(self, rows: NDArray[np.uint8]) -> None:
        """The next rows, (k, width, channels)."""
        self._left -= len(rows)
        if self._left < 0:
            raise ValueError(f"{-self._left} rows more than the picture has")
        for top in range(0, len(rows), _STRIP_ROWS):
            strip = rows[top : top + _STRIP_ROWS]
            self._pack(self._deflate.compress(_filtered(strip, self._above)))
            self._above = strip[-1:].copy()

    def close(self) -> None:
        """Write the end. The file stays open."""
        if self._left:
            raise ValueError(f"{self._left} rows are missing")
        self._pack(self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _pack(self, data: bytes) -> None:
        if data:
            self._chunk(b"IDAT", data)

    def _chunk(self, kind: bytes, data: bytes) -> None:
        crc = zlib.crc32(data, zlib.crc32(kind))
        self._file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc))


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8]) -> bytes:
    """Rows (k, width, channels) as filtered scan lines, each after its filter's number."""
    up = np.concatenate([above, rows[:-1]])
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, 1:], corner[:, 1:] = rows[:, :-1], up[:, :-1]
    guesses = {_SUB: left, _UP: up, _PAETH: _paeth(left, up, corner)}
    numbers = np.array(list(guesses), np.uint8)
    lines = np.stack([rows - guess for guess in guesses.values()]).reshape(len(guesses), len(rows), -1)
    costs = np.abs(lines.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = costs.argmin(axis=0)
    chosen = lines[best, np.arange(len(rows))]
    return np.concatenate([numbers[best][:, None], chosen], axis=1).tobytes()


def _paeth(left: NDArray[np.uint8], up: NDArray[np.uint8], corner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of the three neighbours the nearest to left + up - corner; ties go to the left one, then to that
    above."""
    a, b, c = (plane.astype(np.int16) for plane in (left, up, corner))
    from_left, from_up = np.abs(b - c), np.abs(a - c)
    from_corner = np.abs(a + b - 2 * c)
    is_left = (from_left <= from_up) & (from_left <= from_corner)
    return np.where(is_left, left, np.where(from_up <= from_corner, up, corner))
