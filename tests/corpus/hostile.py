"""Files built to hurt a decoder: bombs, lies about sizes, loops, polyglots, things that are no image.

Each builder takes the generator of random numbers and answers the bytes. A few are valid pictures with
something hidden in them, which must decode as if nothing were there.
"""

import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np

from tests.corpus.flag import FLAG, HEIGHT, WIDTH, exif, flag, flag_jpeg, later, png, png_chunk, saved

Builder = Callable[[np.random.Generator], bytes]

_PAGE = b"<html><script>alert(document.domain)</script></html>"
_HUGE = (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 65_535, 100_000)


@cache
def deflated_zeros(megabytes: int) -> bytes:
    """A zlib stream of so many megabytes of zeros, without the work of compressing them."""
    packer = zlib.compressobj(9)
    head = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + more * (megabytes - 1) + packer.flush()


def _png_claiming(width: int, height: int, colour: int, pixels: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _png_with(*extra: bytes) -> bytes:
    return png(WIDTH, HEIGHT, 8, 2, FLAG.tobytes(), before=b"".join(extra))


def _overwritten(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def _after(data: bytes, marker: bytes, offset: int, value: bytes) -> bytes:
    return _overwritten(data, data.index(marker) + offset, value)


def _inserted(data: bytes, segments: bytes) -> bytes:
    return data[:2] + segments + data[2:]


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _big_profile(rng: np.random.Generator) -> bytes:
    heads = [b"ICC_PROFILE\0" + bytes([number, 66]) for number in range(1, rng.integers(2, 68))]
    parts = [_segment(0xE2, head + rng.bytes(65_000)) for head in heads]
    return _inserted(flag_jpeg(), b"".join(parts))


def _many_scans(rng: np.random.Generator) -> bytes:
    """A progressive JPEG that claims 40 megapixels and goes over them again and again."""
    data = flag_jpeg(progressive=True)
    data = _after(data, b"\xff\xc2", 5, struct.pack(">HH", 8000, 5000))
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * int(rng.integers(300, 900)) + b"\0" * 40_000 + b"\xff\xd9"


def _tiff(entries: list[tuple[int, int, int, int]], *, following: int = 0, tail: bytes = b"") -> bytes:
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in sorted(entries):
        directory += struct.pack("<HHII", tag, kind, count, value & 0xFFFFFFFF)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following) + tail


def _page(width: int, height: int, **changed: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    """Directory entries of a grey page; t273=(kind, count, value) changes or adds one."""
    tags = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        273: (4, 1, 300), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, min(width * height, 0xFFFFFFFF)),
    }  # fmt: skip
    tags |= {int(name[1:]): entry for name, entry in changed.items()}
    return [(tag, *entry) for tag, entry in tags.items()]


def _lying_tiff(rng: np.random.Generator) -> bytes:
    huge = int(rng.choice(_HUGE[1:]))
    lies = (
        _page(60_000, 60_000),
        _page(7_000, 7_000),
        _page(64, 64, t279=(4, 1, huge)),
        _page(64, 64, t273=(4, 1, huge)),
        _page(64, 64, t273=(4, huge, 300)),
        _page(64, 64, t259=(3, 1, 5), t279=(4, 1, huge)),
        _page(64, 64, t278=(4, 1, huge)),
        _page(64, 64, t322=(4, 1, 60_000), t323=(4, 1, 60_000), t324=(4, 1, 300), t325=(4, 1, huge)),
        _page(64, 64, t277=(3, 1, 65_535)),
        _page(64, 64, t258=(3, 1, 64)),
        _page(64, 64, t270=(2, huge, 8)),
        _page(64, 64, t34675=(7, huge, 8)),
        _page(64, 64, t320=(3, huge, 8), t262=(3, 1, 3)),
    )
    return _tiff(lies[rng.integers(len(lies))], tail=rng.bytes(5_000))


def _looping_tiff(rng: np.random.Generator) -> bytes:
    """The next directory, and those of EXIF, GPS and sub-images, are the first one again."""
    pointers = {"t34665": (4, 1, 8), "t34853": (4, 1, 8), "t330": (4, 1, 8), "t40965": (4, 1, 8)}
    return _tiff(_page(64, 64, **pointers), following=8, tail=rng.bytes(5_000))


@cache
def _pages(count: int) -> bytes:
    page = _page(64, 64)
    size = 2 + 12 * len(page) + 4
    data = b"II*\0" + struct.pack("<I", 8)
    for number in range(1, count):
        data += _tiff(page, following=8 + size * number)[8:]
    return data


def _thousands_of_pages(rng: np.random.Generator) -> bytes:
    return _pages(3_000) + rng.bytes(5_000)


def _overlapping_tags(rng: np.random.Generator) -> bytes:
    """Thousands of tags that each claim the same megabyte."""
    entries = [(40_000 + tag, 7, 1 << 20, 8) for tag in range(4_000)]
    return _tiff(_page(64, 64) + entries, tail=rng.bytes(1 << 20))


def _deep_exif(rng: np.random.Generator) -> bytes:
    """An EXIF block full of entries, pointing to itself, with no end."""
    start = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 65_535)
    tags = rng.choice([0x8769, 0x8825, 0x0111], 4_999).tolist()
    block = start + b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in tags)
    return _inserted(flag_jpeg(), _segment(0xE1, block))


def _gif_bomb(rng: np.random.Generator) -> bytes:
    side = int(rng.choice([65_535, 3_000]))
    data = saved(flag(), "GIF")
    data = _overwritten(data, 6, struct.pack("<HH", side, side))
    if rng.integers(2):
        data = _overwritten(data, data.index(b"\x2c\0\0\0\0") + 5, struct.pack("<HH", side, side))
    return data


def _broken_later_frame(rng: np.random.Generator) -> bytes:
    kind = ("GIF", "WEBP")[rng.integers(2)]
    data = saved(flag(), kind, save_all=True, append_images=[later()] * 3, duration=40)
    cut = int(rng.integers(len(data) * 3 // 4, len(data) - 2))
    return data[:cut] + rng.bytes(len(data) - cut)


def _webp_canvas(rng: np.random.Generator) -> bytes:
    data = saved(flag(), "WEBP", lossless=True, exif=exif(6))
    side = int(rng.choice([0xFFFFFF, 16_384, 7_900])) - 1
    return _overwritten(data, 24, side.to_bytes(3, "little") * 2)


def _pick(*choices: bytes) -> Builder:
    return lambda rng: choices[rng.integers(len(choices))]


_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBPVP8 ")
_EXIF_HEAD = b"MM\0*\0\0\0\x08\xff\xff"


def hostile_builders() -> dict[str, Builder]:
    """All of them by kind."""
    return _no_images() | _polyglots() | _bad_pngs() | _bad_jpegs() | _bad_others()


def _no_images() -> dict[str, Builder]:
    heif = b"\0\0\0\x18ftyp"
    return {
        "empty": lambda rng: b"",
        "one byte": lambda rng: rng.bytes(1),
        "random": lambda rng: rng.bytes(int(rng.integers(2, 5_000))),
        "magic then random": lambda rng: _MAGICS[rng.integers(6)] + rng.bytes(int(rng.integers(1, 2_000))),
        "marker bytes": _pick(b"\xff" * 5_000, b"\xff\xd8" * 2_000, b"\xff\xd8" + b"\xff" * 9_000),
        "text": _pick("\ufeffnot an image".encode(), b"\xff\xfen\0o\0", b"<svg/>", _PAGE, b"%PDF-1.7\n"),
        "other media": _pick(heif + b"heic" + bytes(99), heif + b"avif" + bytes(99), b"PK\3\4" + bytes(99)),
    }


def _polyglots() -> dict[str, Builder]:
    jpeg = flag_jpeg()
    return {
        "pdf and jpeg": lambda rng: b"%PDF-1.4\n" + jpeg,
        "jpeg and zip": lambda rng: jpeg + b"PK\x03\x04" + rng.bytes(200) + b"PK\x05\x06" + bytes(18),
        "gif and script": lambda rng: saved(flag(), "GIF", comment=b"*/=1;alert(1)//") + _PAGE,
        "page in png text": lambda rng: _png_with(png_chunk(b"tEXt", b"Comment\0" + _PAGE)),
    }


def _bad_pngs() -> dict[str, Builder]:
    whole = saved(flag(), "PNG")
    return {
        "png bomb": lambda rng: _png_claiming(50_000, 50_000, 0, deflated_zeros(2_400)),
        "png bomb within the limit": lambda rng: _png_claiming(3_000, 3_000, 0, deflated_zeros(9)),
        "png claims": lambda rng: _png_claiming(
            *rng.choice(_HUGE, 2).tolist(), 2 * int(rng.integers(4)), zlib.compress(bytes(500))
        ),
        "png text bomb": lambda rng: _png_with(png_chunk(b"zTXt", b"Comment\0\0" + deflated_zeros(100))),
        "png profile bomb": lambda rng: _png_with(png_chunk(b"iCCP", b"icc\0\0" + deflated_zeros(100))),
        "png many chunks": lambda rng: _png_with(png_chunk(b"tEXt", b"k\0v") * 70_000),
        "png large exif": lambda rng: _png_with(png_chunk(b"eXIf", _EXIF_HEAD + rng.bytes(500_000))),
        "png bad checksum": lambda rng: _after(whole, b"IDAT", 40, rng.bytes(4)),
        "png chunk length": lambda rng: _after(whole, b"IDAT", -4, struct.pack(">I", rng.choice(_HUGE))),
    }


def _bad_jpegs() -> dict[str, Builder]:
    jpeg, frame = flag_jpeg(), b"\xff\xc0"
    return {
        "jpeg claims": lambda rng: _after(
            jpeg, frame, 5, struct.pack(">HH", *rng.choice([0, 1, 7_000, 65_535], 2).tolist())
        ),
        "jpeg components": lambda rng: _after(jpeg, frame, 9, rng.bytes(1)),
        "jpeg sampling": lambda rng: _after(jpeg, frame, 11, rng.bytes(1)),
        "jpeg other process": lambda rng: _after(jpeg, frame, 1, bytes([rng.integers(0xC1, 0xD0)])),
        "jpeg many scans": _many_scans,
        "jpeg many segments": lambda rng: _inserted(jpeg, _segment(0xFE, b"x") * 20_000),
        "jpeg large profile": _big_profile,
        "jpeg deep exif": _deep_exif,
    }


def _bad_others() -> dict[str, Builder]:
    bmp = saved(flag(), "BMP")
    return {
        "tiff lies": _lying_tiff,
        "tiff loop": _looping_tiff,
        "tiff thousands of pages": _thousands_of_pages,
        "tiff overlapping tags": _overlapping_tags,
        "gif bomb": _gif_bomb,
        "broken later frame": _broken_later_frame,
        "webp canvas": _webp_canvas,
        "bmp claims": lambda rng: _overwritten(
            bmp, 18, struct.pack("<ii", *rng.choice([0, -1, 1 << 30, 7_900, -(1 << 31)], 2).tolist())
        ),
        "bmp run lengths": lambda rng: _overwritten(bmp, 28, b"\x08\0\1\0\0\0"),
    }
