"""JPEG: a marker scanner that takes a few microseconds, and libjpeg-turbo decoding at 1/1 to 1/8 scale."""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from models.tasks.exif import exif_orientation
from models.tasks.image_facts import ImageFormat, ImageLimits, undecodable

JPEG_MAGIC = b"\xff\xd8\xff"

_SOS, _APP1, _APP2, _APP14, _COM = 0xDA, 0xE1, 0xE2, 0xEE, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE = 0xC2
_SEGMENT = Struct(">BBH")
"""0xFF, the marker, the length of what follows with these two bytes."""
_BARE_MARKERS = frozenset(range(0xD0, 0xDA)) | {0x00, 0x01}
_MAX_SEGMENTS = 4096  # a profile takes up to 255 and extended XMP some hundreds
_MAX_SCANS = 1000
_MAX_PROFILE_BYTES = 4 << 20
_PIXELS_PER_BYTE = 2048
"""Huffman coding spends at least one bit on each 8 x 8 block of the finest component; sampling factors can
make that component up to four times coarser than the image. A file with less than this is a bomb."""


class JpegHeader(NamedTuple):
    """What the segments before the first scan say. A tuple, because every request makes one."""

    format: ImageFormat
    width: int
    height: int
    """Stored size, pixels: before the orientation is applied."""
    orientation: int
    components: int
    is_plain: bool
    """8-bit Huffman baseline, extended or progressive: what libjpeg-turbo's fast interface takes."""
    scans: int
    """How often the decoder goes over the image; counted only where it can be more than once."""
    profile_parts: tuple[tuple[int, int, int], ...]
    """(number, start, stop) of each piece of the embedded ICC profile."""


def scan_jpeg(data: bytes, limits: ImageLimits) -> JpegHeader:
    """Read the segments up to the first scan, and refuse what would cost more than a picture should."""
    frame = 0
    frame_at = 0
    orientation = 1
    parts: list[tuple[int, int, int]] = []
    at = 2
    for marker, start, stop in _segments(data):
        if marker == _SOS:
            at = start
            break
        if marker in _FRAMES:
            if frame:
                raise undecodable("The JPEG has two frame headers.")
            frame, frame_at = marker, start
        elif marker == _APP1:
            if orientation == 1 and data.startswith(b"Exif\0\0", start):
                orientation = exif_orientation(data, start + 6, stop)
        elif marker == _APP2 and data.startswith(b"ICC_PROFILE\0", start) and stop - start > 14:
            parts.append((data[start + 12], start + 14, stop))
    if not frame or frame_at + 6 > at:
        raise undecodable("The JPEG has no frame header before its first scan.")
    height = data[frame_at + 1] << 8 | data[frame_at + 2]
    width = data[frame_at + 3] << 8 | data[frame_at + 4]
    components = data[frame_at + 5]
    limits.check(width, height)
    is_plain = frame in _HUFFMAN_FRAMES and data[frame_at] == 8 and components in {1, 3, 4}
    if is_plain and len(data) * _PIXELS_PER_BYTE < width * height:
        raise undecodable("The JPEG is too short to hold its own size.")
    scans = 1
    if frame == _PROGRESSIVE or data[at] < components:
        scans = _count_scans(data, at, width * height, limits)
    return JpegHeader("jpeg", width, height, orientation, components, is_plain, scans, tuple(parts))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, stop) of each segment's payload, up to and with the first start of scan."""
    at, end = 2, len(data)
    for _ in range(_MAX_SEGMENTS):
        if at + 5 > end:
            break
        fill, marker, length = _SEGMENT.unpack_from(data, at)
        if marker == 0xFF and fill == 0xFF:  # a fill byte: any number of them may stand before a marker
            at += 1
            continue
        stop = at + 2 + length
        if fill != 0xFF or marker in _BARE_MARKERS or length < 3 or stop > end:
            break
        yield marker, at + 4, stop
        if marker == _SOS:
            return
        at = stop
    raise undecodable("The JPEG ends, or goes astray, before its first scan.")


def _count_scans(data: bytes, at: int, pixels: int, limits: ImageLimits) -> int:
    """Count the scans: each costs a pass over the whole image, and a few bytes can ask for one.

    Scan markers cannot occur inside entropy-coded data, so that counting the bytes is enough.
    """
    scans = data.count(b"\xff\xda", at) + 1
    if scans > _MAX_SCANS or scans * pixels > 16 * limits.max_pixels:
        raise undecodable(f"The JPEG asks for {scans} passes over {pixels} pixels.")
    return scans


def jpeg_profile(data: bytes, header: JpegHeader) -> bytes | None:
    """Put the embedded ICC profile together; None when there is none or it is absurdly long."""
    if not header.profile_parts:
        return None
    profile = b"".join(data[start:stop] for _, start, stop in sorted(header.profile_parts))
    return profile if len(profile) <= _MAX_PROFILE_BYTES else None


def turbo_pixels(
    data: bytes, header: JpegHeader, colourspace: str, at_least: tuple[int, int] | None
) -> NDArray[np.uint8] | None:
    """Decode to (h, w, channels) as stored, at the `scaled_size` for `at_least` (stored height, width).

    With `at_least` the caller is going to shrink the image, and the fast DCT and upsampling do (they darken
    red and blue by about one level of 255); without it the accurate ones are used. None means that
    libjpeg-turbo's fast interface does not take this kind of JPEG. Corrupt or missing entropy-coded data is
    an ImageError, never a half-grey picture.
    """
    is_fast = at_least is not None
    height, width = scaled_size((header.height, header.width), at_least)
    try:
        return _turbo(data, colourspace, height, width, is_fast)
    except ValueError as fault:
        message = str(fault)
        if message.startswith(_NOT_FOR_TURBO):
            return None
        mended = _without_padding(data) if "extraneous bytes before marker 0xd9" in message else None
        if mended is None:
            raise undecodable("The JPEG's image data is cut short or corrupt.") from fault
    try:
        return _turbo(mended, colourspace, height, width, is_fast)
    except ValueError as fault:
        raise undecodable("The JPEG's image data is cut short or corrupt.") from fault


_DIVISORS = (8, 4, 2)
"""Only powers of two: scales such as 5/8 have no SIMD code and take longer than 1/1 (measured)."""


def scaled_size(stored: tuple[int, int], at_least: tuple[int, int] | None) -> tuple[int, int]:
    """What a stored (height, width) is decoded to: the smallest of 1/1 to 1/8 not below `at_least`."""
    height, width = stored
    if at_least is not None:
        for divisor in _DIVISORS:
            rows, columns = -(-height // divisor), -(-width // divisor)
            if rows >= at_least[0] and columns >= at_least[1]:
                return rows, columns
    return stored


def jpeg_scale(stored: tuple[int, int], decoded: tuple[int, int]) -> float:
    """The scale, 1 to 1/8, at which a stored (height, width) was decoded to what `turbo_pixels` gave."""
    if stored == decoded:
        return 1.0
    (height, width), (rows, columns) = stored, decoded
    return next(1 / d for d in _DIVISORS if -(-height // d) == rows and -(-width // d) == columns)


_NOT_FOR_TURBO = (
    "tjDecompressHeader",  # unusual sampling factors
    "Unsupported color conversion",
    # Harmless slips of encoders about which libjpeg only warns, in its words:
    "Invalid SOS parameters for sequential JPEG",
    "Warning: unknown JFIF revision number",
    "Unknown Adobe color transform code",
)


def _turbo(data: bytes, colourspace: str, height: int, width: int, is_fast: bool) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data,
        colourspace,
        fastdct=is_fast,
        fastupsample=is_fast,
        min_height=height,
        min_width=width,
        min_factor=1,
    )
    return pixels


def _without_padding(data: bytes) -> bytes | None:
    """Take out zeros between the image data and its end marker, as some cameras write; None if none are.

    To the decoder they look like data left over after a corruption, so that it refuses both.
    """
    end = data.rfind(b"\xff\xd9")
    body = data[:end].rstrip(b"\0") if end > 0 else data
    # One zero more than needed may belong to a stuffed 0xFF.
    return body + (b"\0" if body.endswith(b"\xff") else b"") + b"\xff\xd9" if len(body) < end else None


def bare_jpeg(data: bytes) -> bytes:
    """The same image without comments and application segments, except Adobe's, which says the colours.

    For decoders that would read the metadata, and whatever is hidden in it.
    """
    kept = [data[:2]]
    for marker, start, stop in _segments(data):
        if marker == _SOS:
            kept.append(data[start - 4 :])
        elif not (0xE0 <= marker <= 0xEF or marker == _COM) or marker == _APP14:
            kept.append(data[start - 4 : stop])
    return b"".join(kept)
