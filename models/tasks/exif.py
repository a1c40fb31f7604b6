"""The one fact of EXIF that changes what a person sees: the orientation, and how to undo it."""

from struct import Struct

import numpy as np
from numpy.typing import NDArray

_ENTRIES = {
    # By the block's first bytes: its byte order, and its directory's entry up to the value: tag 0x0112, one
    # SHORT. Looking for the bytes is several times faster than reading entry after entry.
    b"II*\0": (Struct("<I"), Struct("<H"), b"\x12\x01\3\0\1\0\0\0"),
    b"MM\0*": (Struct(">I"), Struct(">H"), b"\x01\x12\0\3\0\0\0\1"),
}
_ENTRY_BYTES = 12


def exif_orientation(data: bytes, start: int, stop: int) -> int:
    """Read the orientation from the EXIF block (a small TIFF) at data[start:stop]; 1 when it has none.

    A block that makes no sense is worth no more than a missing one: the picture is what was asked for.
    """
    known = _ENTRIES.get(data[start : start + 4])
    if known is None or stop - start < 10:
        return 1
    long, short, entry = known
    directory = start + long.unpack_from(data, start + 4)[0]
    if directory + 2 > stop:
        return 1
    first = directory + 2
    stop = min(stop, first + _ENTRY_BYTES * short.unpack_from(data, directory)[0])
    at = data.find(entry, first, stop)
    while at >= 0 and (at - first) % _ENTRY_BYTES:  # the same bytes inside another entry
        at = data.find(entry, at + 1, stop)
    if at < 0 or at + _ENTRY_BYTES > stop:
        return 1
    orientation: int = short.unpack_from(data, at + 8)[0]
    return orientation if 1 <= orientation <= 8 else 1


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels (H, W, C) the way EXIF `orientation` says they are to be seen; a view."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    rows = -1 if orientation in {3, 4, 7, 8} else 1
    columns = -1 if orientation in {2, 3, 6, 7} else 1
    return pixels[::rows, ::columns]
