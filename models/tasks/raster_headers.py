"""Sizes of BMP, GIF, TIFF and WebP, read without a decoder.

The decoders allocate for whatever size a file claims, some already while opening it. These readers look
first, and refuse what cannot be true.
"""

from struct import error as struct_error
from struct import unpack_from

from models.tasks.exif import exif_orientation
from models.tasks.image_facts import ImageError, ImageLimits, RasterHeader, undecodable

_MAX_RLE_PIXELS = 4_000_000
_MAX_GIF_BLOCKS = 65_536
_MAX_WEBP_CHUNKS = 4_096
_MAX_TIFF_ENTRIES = 4_096
_MAX_TIFF_PIECES = 262_144


def bmp_header(data: bytes, limits: ImageLimits) -> RasterHeader:
    """Size of a BMP; a raw one must be long enough to hold its rows."""
    try:
        header_bytes = unpack_from("<I", data, 14)[0]
        compression = 0
        if header_bytes == 12:
            width, height, _, bits = unpack_from("<HHHH", data, 18)
        else:
            width, height, _, bits, compression = unpack_from("<iiHHI", data, 18)
    except struct_error:
        raise undecodable("The BMP ends inside its header.") from None
    height = abs(height)  # negative: rows from top to bottom
    limits.check(width, height)
    if compression in {1, 2}:
        # Pillow unpacks run lengths in Python: slow, and holding everybody else up.
        if width * height > _MAX_RLE_PIXELS:
            raise ImageError(
                "image_too_large",
                f"A run-length BMP may have {_MAX_RLE_PIXELS} pixels; this one has {width * height}.",
                hint="Save it as PNG.",
            )
    elif (width * bits + 31) // 32 * 4 * height > len(data):
        raise undecodable("The BMP is too short to hold its own size.")
    return RasterHeader("bmp", width, height, 1)


def gif_header(data: bytes, limits: ImageLimits) -> RasterHeader:
    """Size of a GIF's first frame's canvas, which grows with a frame that reaches beyond it."""
    try:
        width, height, flags = unpack_from("<HHB", data, 6)
        limits.check(width, height)
        at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        at = _after_gif_extensions(data, at)
        left, top, frame_width, frame_height = unpack_from("<HHHH", data, at + 1)
    except (struct_error, IndexError):
        raise undecodable("The GIF ends before its first frame.") from None
    limits.check(frame_width, frame_height)
    width, height = max(width, left + frame_width), max(height, top + frame_height)
    limits.check(width, height)
    return RasterHeader("gif", width, height, 1)


def _after_gif_extensions(data: bytes, at: int) -> int:
    """Where the first image descriptor begins. IndexError when the data end first."""
    for _ in range(_MAX_GIF_BLOCKS):
        if data[at] == 0x2C:
            return at
        if data[at] != 0x21:
            break
        at += 2
        for _ in range(_MAX_GIF_BLOCKS):
            block_bytes = data[at]
            at += 1 + block_bytes
            if block_bytes == 0:
                break
    raise undecodable("The GIF has no frame.")


def webp_header(data: bytes, limits: ImageLimits) -> RasterHeader:
    """Size of a WebP's canvas, and the orientation of its EXIF chunk."""
    kind = data[12:16]
    orientation = 1
    try:
        if kind == b"VP8X":
            flags, _, width, width_high, height, height_high = unpack_from("<BHxHBHB", data, 20)
            width, height = (width_high << 16) + width + 1, (height_high << 16) + height + 1
            if flags & 0x08:
                orientation = _webp_orientation(data)
        elif kind == b"VP8L":
            (bits,) = unpack_from("<I", data, 21)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"VP8 ":
            width, height = (side & 0x3FFF for side in unpack_from("<HH", data, 26))
        else:
            raise undecodable("The WebP has no image chunk.")
    except struct_error:
        raise undecodable("The WebP ends inside its header.") from None
    limits.check(width, height)
    return RasterHeader("webp", width, height, orientation)


def _webp_orientation(data: bytes) -> int:
    at = 12
    for _ in range(_MAX_WEBP_CHUNKS):
        if at + 8 > len(data):
            break
        kind, length = unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            start = at + 8 + (6 if data.startswith(b"Exif\0\0", at + 8) else 0)
            return exif_orientation(data, start, min(at + 8 + length, len(data)))
        at += 8 + length + (length & 1)
    return 1


def tiff_header(data: bytes, limits: ImageLimits) -> RasterHeader:
    """Displayed size of a TIFF's first page, classic or BigTIFF. Its decoder turns the page upright itself,
    so that no orientation is left to apply.

    Refuses tiles far larger than the page and absurd numbers of strips, for which the decoder would
    allocate before it finds out.
    """
    try:
        tags = _first_directory(data)
    except (struct_error, KeyError, OverflowError):
        raise undecodable("The TIFF's directory is damaged or cut short.") from None
    width, height = tags.get(256, (1, 0))[1], tags.get(257, (1, 0))[1]
    limits.check(width, height)
    tile_pixels = tags.get(322, (1, 1))[1] * tags.get(323, (1, 1))[1]
    if tile_pixels > max(4 * width * height, 1 << 20):
        raise undecodable("The TIFF's tiles are far larger than its page.")
    if max(tags.get(tag, (0, 0))[0] for tag in (273, 279, 324, 325)) > _MAX_TIFF_PIECES:
        raise undecodable("The TIFF is cut into absurdly many pieces.")
    if tags.get(339, (1, 1))[1] == 3 or tags.get(258, (1, 8))[1] > 16:
        raise ImageError(
            "unsupported_media",
            "The TIFF holds floating point or 32-bit samples, which have no agreed white.",
            hint="Save it with 8 or 16 bits per sample.",
        )
    if tags.get(274, (1, 1))[1] in {5, 6, 7, 8}:
        width, height = height, width
    return RasterHeader("tiff", width, height, 1)


def _first_directory(data: bytes) -> dict[int, tuple[int, int]]:
    """{tag: (count, first value)} of the tags with whole numbers in the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] in {b"+\0", b"\0+"}:
        at, entry_bytes, head = unpack_from(order + "Q", data, 8)[0], 20, order + "HHQ"
        (entries,) = unpack_from(order + "Q", data, at)
        at, inline_bytes, pointer = at + 8, 8, order + "Q"
    else:
        at, entry_bytes, head = unpack_from(order + "I", data, 4)[0], 12, order + "HHI"
        (entries,) = unpack_from(order + "H", data, at)
        at, inline_bytes, pointer = at + 2, 4, order + "I"
    if entries > _MAX_TIFF_ENTRIES:
        raise undecodable(f"The TIFF's directory has {entries} entries.")
    tags: dict[int, tuple[int, int]] = {}
    claimed_bytes = 0
    for _ in range(entries):
        tag, kind, count = unpack_from(head, data, at)
        value_bytes = count * _TIFF_TYPE_BYTES.get(kind, 0)
        claimed_bytes += value_bytes
        if kind in _TIFF_WHOLE_NUMBERS and count and tag not in tags:
            where = at + entry_bytes - inline_bytes
            if value_bytes > inline_bytes:
                (where,) = unpack_from(pointer, data, where)
            tags[tag] = (count, unpack_from(order + _TIFF_WHOLE_NUMBERS[kind], data, where)[0])
        at += entry_bytes
    if claimed_bytes > len(data):  # values that overlap, or reach beyond the end
        raise undecodable("The TIFF's tags claim more bytes than the file has.")
    return tags


_TIFF_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
}
_TIFF_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
