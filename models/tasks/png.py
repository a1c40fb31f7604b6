"""PNG: a chunk walk that checks what the decoder does not, and hands on only what makes the picture."""

import zlib
from collections.abc import Iterator
from struct import error as struct_error
from struct import unpack_from
from typing import NamedTuple

from models.tasks.exif import exif_orientation
from models.tasks.image_facts import ImageLimits, RasterHeader, undecodable

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

_PICTURE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_CHUNKS = 65_536
_MAX_PROFILE_BYTES = 4 << 20
_DEFLATE_RATIO = 1040
"""Deflate cannot expand more than 1032-fold; a little more for rounding."""


def png_header(data: bytes, limits: ImageLimits) -> RasterHeader:
    """Size and orientation; refuses a size that the compressed data cannot hold."""
    if len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR":
        raise undecodable("The PNG does not begin with its header.")
    width, height, depth, colour = unpack_from(">IIBB", data, 16)
    limits.check(width, height)
    if colour not in _CHANNELS or depth not in {1, 2, 4, 8, 16}:
        raise undecodable(f"PNG has no colour type {colour} at {depth} bits.")
    orientation, compressed_bytes = 1, 0
    for kind, start, stop in _chunks(data):
        if kind == b"IDAT":
            compressed_bytes += stop - start
        elif kind == b"eXIf":
            orientation = exif_orientation(data, start, stop)
    if compressed_bytes * _DEFLATE_RATIO < height * ((width * depth * _CHANNELS[colour] + 7) // 8):
        raise undecodable("The PNG is too short to hold its own size.")
    return RasterHeader("png", width, height, orientation)


class Picture(NamedTuple):
    """What of a PNG makes the picture."""

    data: bytes
    """The same PNG without text, animation and other extras."""
    profile: bytes | None
    """The ICC profile, if it is sound."""
    transparent: int | tuple[int, int, int] | None
    """The level or colour that is to be transparent, on the scale that the pixels are decoded to, where
    the decoder would compare it on the stored one (2, 4 and 3 x 16 bits)."""


def png_picture(data: bytes) -> Picture:
    """Take what makes the picture out of a PNG, and check its checksums.

    The decoder below skips the checksums of the pixels, which is where damage is likeliest.
    """
    kept = [PNG_MAGIC]
    profile, transparent = None, None
    view = memoryview(data)
    for kind, start, stop in _chunks(data):
        if kind in _PICTURE:
            if zlib.crc32(view[start - 4 : stop]) != unpack_from(">I", data, stop)[0]:
                raise undecodable(f"The PNG's {kind.decode()} chunk is damaged: its checksum does not match.")
            kept.append(data[start - 8 : stop + 4])
        if kind == b"tRNS":
            transparent = _transparent(data, start, stop)
        elif kind == b"iCCP" and profile is None:
            profile = _inflated_profile(data[start:stop])
    return Picture(b"".join(kept), profile, transparent)


def _transparent(data: bytes, start: int, stop: int) -> int | tuple[int, int, int] | None:
    depth, colour = data[24], data[25]
    if colour == 0 and depth in {2, 4} and stop - start >= 2:
        return data[start + 1] * 255 // ((1 << depth) - 1)
    if colour == 2 and depth == 16 and stop - start >= 6:
        red, green, blue = data[start : start + 6 : 2]
        return red, green, blue
    return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, stop) of each chunk's payload up to IEND, which must come."""
    at = len(PNG_MAGIC)
    try:
        for _ in range(_MAX_CHUNKS):
            length, kind = unpack_from(">I4s", data, at)
            stop = at + 8 + length
            if stop + 4 > len(data):
                break
            yield kind, at + 8, stop
            if kind == b"IEND":
                return
            at = stop + 4
    except struct_error:
        pass  # ends inside a chunk's head: told below
    raise undecodable("The PNG is cut short: its end chunk is missing.")


def _inflated_profile(chunk: bytes) -> bytes | None:
    name_end = chunk.find(b"\0", 0, 80)
    if name_end < 0:
        return None
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(chunk[name_end + 2 :], _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None
