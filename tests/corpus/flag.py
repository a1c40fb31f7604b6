"""The test picture, and what writes it.

It is four quadrants of flat colour (`FLAG`), so that orientation, channel order, profiles, alpha
and depth each show in it, and compression does not.
"""

import struct
import zlib
from io import BytesIO
from typing import NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

HEIGHT, WIDTH = 64, 96
RED, GREEN, BLUE, SAND = (220, 40, 30), (30, 180, 60), (40, 70, 210), (240, 220, 150)
WHITE = (255, 255, 255)
LOSSLESS, LOSSY = 1, 9
"""Largest difference from what should be seen, levels of 255."""


class Sample(NamedTuple):
    """One encoded image, and for a valid one what is to be seen in it, within `tolerance` levels."""

    kind: str
    data: bytes
    seen: NDArray[np.uint8] | None = None
    tolerance: int = LOSSLESS


def quadrants(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3): upper left, upper right, lower left, lower right."""
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for index, colour in enumerate(colours):
        top, left = index // 2 * HEIGHT // 2, index % 2 * WIDTH // 2
        picture[top : top + HEIGHT // 2, left : left + WIDTH // 2] = colour
    return picture


FLAG = quadrants(RED, GREEN, BLUE, SAND)
GREYS = quadrants((0,) * 3, (90,) * 3, (170,) * 3, (255,) * 3)
QUADRANT = GREYS[..., 0] // 85
"""(HEIGHT, WIDTH): 0..3, which quadrant a pixel is in; 90 // 85 = 1 and 170 // 85 = 2."""


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flag() -> Image.Image:
    """The four colours as a Pillow image."""
    return Image.fromarray(FLAG)


def flag_jpeg(**options: object) -> bytes:
    """The four colours as a good JPEG."""
    return saved(flag(), "JPEG", **{"quality": 95, "subsampling": "4:4:4", **options})


def exif(orientation: int, entries: int = 0) -> bytes:
    """An EXIF block with its usual prefix, `entries` more tags before the orientation."""
    block = Image.Exif()
    for tag in range(entries):
        block[0x010E + tag] = "x" * 8  # description, make, model
    block[0x0112] = orientation
    return b"Exif\0\0" + block.tobytes().removeprefix(b"Exif\0\0")


def srgb_profile() -> bytes:
    """An ICC profile of sRGB, as little CMS spells it."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]  # without the moment of its making


def swapped_profile() -> bytes:
    """A profile in whose device the red and the blue primary have changed places."""
    profile = srgb_profile()
    return profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A minimal ICC v2 output profile for a device space."""
    white = b"XYZ " + struct.pack(">4x3i", 63_190, 65_536, 54_061)  # D50
    at, table, body = 128 + 4 + 12 * (len(tags) + 1), b"", b""
    for name, value in {b"wtpt": white, **tags}.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4xI", at + len(body), 0x02400000) + b"prtr" + space + connection
    head = head.ljust(36, b"\0") + b"acsp" + bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags) + 1) + table + body


def linear_grey_profile() -> bytes:
    """A profile for grey whose levels are proportional to light, so that sRGB shows them brighter."""
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": b"curv" + bytes(8)})


def swapped_ink_profile() -> bytes:
    """A profile for CMYK in which the cyan ink prints yellow and the yellow ink cyan."""
    corners = [
        tuple(255 * (1 - ink) * (1 - black) for ink in (yellow, magenta, cyan))
        for cyan in (0, 1)
        for magenta in (0, 1)
        for yellow in (0, 1)
        for black in (0, 1)
    ]
    colours = Image.fromarray(np.array([corners], np.uint8))
    lab = ImageCms.createProfile("LAB", 5000)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB", 1)
    # Pillow keeps a* and b* as signed bytes, ICC adds 128.
    grid = np.asarray(ImageCms.applyTransform(colours, to_lab)) ^ np.array([0, 128, 128], np.uint8)
    identity = struct.pack(">9i", *(65_536 if index % 4 == 0 else 0 for index in range(9)))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + grid.tobytes() + ramp * 3
    return _profile(b"CMYK", b"Lab ", {b"A2B0": table, b"A2B1": table})


SWAPPED = np.ascontiguousarray(FLAG[..., ::-1])


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """A PNG chunk with its right checksum."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG from raw rows without filter bytes; chunks `before` and `after` its pixels."""
    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", zlib.compress(lines))
        + after
        + png_chunk(b"IEND", b"")
    )


def with_alpha(alphas: tuple[int, int, int, int]) -> tuple[Image.Image, NDArray[np.uint8]]:
    """The flag with one alpha per quadrant, and how it looks over white."""
    alpha = np.array(alphas, np.uint8)[QUADRANT]
    image = flag()
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    return image, np.round(FLAG * share + 255 * (1 - share)).astype(np.uint8)


def ink() -> Image.Image:
    """The flag in CMYK without black."""
    inks = [Image.fromarray(255 - FLAG[..., channel]) for channel in range(3)]
    return Image.merge("CMYK", [*inks, Image.new("L", (WIDTH, HEIGHT))])


def later() -> Image.Image:
    """What a second frame or page shows."""
    return Image.new("RGB", (WIDTH, HEIGHT), "black")


def tiff(pixels: NDArray[np.generic], **options: object) -> bytes:
    """An array as a TIFF that Pillow cannot write."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()
