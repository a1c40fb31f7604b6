"""Small valid images in every format and mode, each with what a person should see in it."""

import struct

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from tests.corpus.flag import (
    BLUE,
    FLAG,
    GREEN,
    GREYS,
    HEIGHT,
    LOSSY,
    QUADRANT,
    RED,
    SAND,
    SWAPPED,
    WHITE,
    WIDTH,
    Sample,
    exif,
    flag,
    flag_jpeg,
    ink,
    later,
    linear_grey_profile,
    png,
    png_chunk,
    quadrants,
    saved,
    srgb_profile,
    swapped_ink_profile,
    swapped_profile,
    tiff,
    with_alpha,
)

NO_BLUE = quadrants(RED, GREEN, WHITE, SAND)


def valid_images(seed: int) -> list[Sample]:
    """Every format and mode once; `seed` fills the pixels of the odd-sized ones."""
    return [
        *_jpegs(),
        *_profiled(),
        *_orientations(),
        *_pngs(),
        *_sixteen_bit_pngs(),
        *_webps(),
        *_bmps(),
        *_gifs(),
        *_tiffs(),
        *_odd_sizes(np.random.default_rng(seed)),
    ]


def _jpegs() -> list[Sample]:
    samples = [
        Sample(f"jpeg {name}", simplejpeg.encode_jpeg(FLAG, quality=95, colorsubsampling=name), FLAG, LOSSY)
        for name in ("444", "422", "420", "440", "411")
    ]
    samples += [
        Sample("jpeg progressive", flag_jpeg(progressive=True, subsampling="4:2:0"), FLAG, LOSSY),
        Sample("jpeg restart markers", flag_jpeg(restart_marker_blocks=2), FLAG, LOSSY),
        Sample("jpeg stored as rgb", flag_jpeg(keep_rgb=True), FLAG, LOSSY),
        Sample("jpeg grey", saved(Image.fromarray(GREYS[..., 0]), "JPEG", quality=95), GREYS, LOSSY),
        Sample("jpeg cmyk", saved(ink(), "JPEG", quality=95), FLAG, LOSSY),
        Sample("jpeg ycck", _ycck(ink()), FLAG, LOSSY),
        Sample("jpeg srgb profile", flag_jpeg(icc_profile=srgb_profile()), FLAG, LOSSY),
        Sample("jpeg swapped profile", flag_jpeg(icc_profile=swapped_profile()), SWAPPED, LOSSY),
        Sample("jpeg broken profile", flag_jpeg(icc_profile=b"profile" * 40), FLAG, LOSSY),
        Sample(
            "jpeg grey with a colour profile",
            saved(Image.fromarray(GREYS[..., 0]), "JPEG", quality=95, icc_profile=swapped_profile()),
            GREYS,
            LOSSY,
        ),
        Sample(
            "jpeg cmyk with a colour profile",
            saved(ink(), "JPEG", quality=95, icc_profile=swapped_profile()),
            FLAG,
            LOSSY,
        ),
        Sample("jpeg then other bytes", flag_jpeg() + b"PK\x03\x04 and so on", FLAG, LOSSY),
        Sample("jpeg padded before its end", flag_jpeg()[:-2] + b"\0" * 100 + b"\xff\xd9", FLAG, LOSSY),
    ]
    return samples


def _profiled() -> list[Sample]:
    """Profiles for other pixels than RGB, which show when they are applied."""
    solid = Image.fromarray(np.eye(4, dtype=np.uint8)[QUADRANT] * 255, "CMYK")
    grey = Image.fromarray(GREYS[..., 0])
    light = GREYS / 255
    brighter = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    brighter = np.round(255 * brighter).astype(np.uint8)
    plain, swapped = ((CYAN, MAGENTA, YELLOW), (YELLOW, MAGENTA, CYAN))
    profile, ink_profile = linear_grey_profile(), swapped_ink_profile()
    return [
        Sample("jpeg inks", saved(solid, "JPEG", quality=95), quadrants(*plain, BLACK), LOSSY),
        Sample(
            "jpeg inks with a profile",
            saved(solid, "JPEG", quality=95, icc_profile=ink_profile),
            quadrants(*swapped, BLACK),
            LOSSY,
        ),
        Sample(
            "tiff inks with a profile",
            saved(solid, "TIFF", icc_profile=ink_profile),
            quadrants(*swapped, BLACK),
            6,
        ),
        Sample("jpeg grey profile", saved(grey, "JPEG", quality=95, icc_profile=profile), brighter, LOSSY),
        Sample("png grey profile", saved(grey, "PNG", icc_profile=profile), brighter, 2),
        Sample("png grey alpha profile", saved(grey.convert("LA"), "PNG", icc_profile=profile), brighter, 2),
        Sample(
            "jpeg of an unknown JFIF revision", flag_jpeg().replace(b"JFIF\0\1", b"JFIF\0\7", 1), FLAG, LOSSY
        ),
    ]


CYAN, MAGENTA, YELLOW, BLACK = (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)


def _ycck(inks: Image.Image) -> bytes:
    """Adobe's YCCK: the inks' luma and chroma, black upside down. Pillow only writes CMYK, upside down."""
    cyan, magenta, yellow, black = inks.split()
    luma_chroma = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    stored = Image.merge("CMYK", [*(channel.point(lambda v: 255 - v) for channel in luma_chroma), black])
    data = saved(stored, "JPEG", quality=95)
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\2" + data[at + 1 :]


def _orientations() -> list[Sample]:
    """What each orientation shows, written out by hand: the stored quadrants are red green / blue sand."""
    samples = []
    for orientation, corners in SEEN_BY_ORIENTATION.items():
        seen = quadrants(*corners)
        if orientation >= 5:
            seen = np.ascontiguousarray(np.array(Image.fromarray(seen).resize((HEIGHT, WIDTH), 0)))
        block = exif(orientation, entries=orientation % 3)
        samples += [
            Sample(f"jpeg orientation {orientation}", flag_jpeg(exif=block), seen, LOSSY),
            Sample(f"png orientation {orientation}", saved(flag(), "PNG", exif=block), seen),
            Sample(f"webp orientation {orientation}", saved(flag(), "WEBP", lossless=True, exif=block), seen),
            Sample(
                f"tiff orientation {orientation}",
                saved(flag(), "TIFF", tiffinfo={0x0112: orientation}, compression="tiff_lzw"),
                seen,
            ),
        ]
    return samples


SEEN_BY_ORIENTATION = {
    1: (RED, GREEN, BLUE, SAND),
    2: (GREEN, RED, SAND, BLUE),
    3: (SAND, BLUE, GREEN, RED),
    4: (BLUE, SAND, RED, GREEN),
    5: (RED, BLUE, GREEN, SAND),
    6: (BLUE, RED, SAND, GREEN),
    7: (SAND, GREEN, BLUE, RED),
    8: (GREEN, SAND, RED, BLUE),
}


def _pngs() -> list[Sample]:
    layers, over_white = with_alpha((255, 128, 0, 30))
    grey_alpha = Image.merge("LA", (Image.fromarray(GREYS[..., 0]), layers.getchannel("A")))
    share = np.asarray(layers.getchannel("A"))[..., None] / 255
    palette = Image.fromarray(QUADRANT.astype(np.uint8), "P")
    palette.putpalette([*RED, *GREEN, *BLUE, *SAND])
    bits = Image.fromarray(QUADRANT % 2 == 1)
    two_bits = np.packbits(np.stack([QUADRANT >> 1 & 1, QUADRANT & 1], -1).reshape(HEIGHT, -1), axis=1)
    levels = quadrants(*((85 * level,) * 3 for level in range(4)))
    return [
        Sample("png rgb", saved(flag(), "PNG"), FLAG),
        Sample("png alpha", saved(layers, "PNG"), over_white),
        Sample("png palette", saved(palette, "PNG"), FLAG),
        Sample(
            "png palette, one transparent",
            saved(palette, "PNG", transparency=2),
            NO_BLUE,
        ),
        Sample(
            "png palette with alpha", saved(palette, "PNG", transparency=bytes([255, 128, 0, 30])), over_white
        ),
        Sample("png grey", saved(Image.fromarray(GREYS[..., 0]), "PNG"), GREYS),
        Sample(
            "png grey alpha",
            saved(grey_alpha, "PNG"),
            np.round(GREYS * share + 255 * (1 - share)).astype(np.uint8),
        ),
        Sample("png 1 bit", saved(bits, "PNG"), quadrants((0,) * 3, WHITE, (0,) * 3, WHITE)),
        Sample("png 2 bits", png(WIDTH, HEIGHT, 2, 0, two_bits.tobytes()), levels),
        Sample(
            "png 2 bits, one transparent",
            png(WIDTH, HEIGHT, 2, 0, two_bits.tobytes(), before=png_chunk(b"tRNS", b"\0\1")),
            quadrants((0,) * 3, WHITE, (170,) * 3, WHITE),
        ),
        Sample(
            "png rgb, one transparent",
            png(WIDTH, HEIGHT, 8, 2, FLAG.tobytes(), before=png_chunk(b"tRNS", struct.pack(">3H", *BLUE))),
            NO_BLUE,
        ),
        Sample("png srgb profile", saved(flag(), "PNG", icc_profile=srgb_profile()), FLAG),
        Sample("png swapped profile", saved(flag(), "PNG", icc_profile=swapped_profile()), SWAPPED),
        Sample("png palette, swapped profile", saved(palette, "PNG", icc_profile=swapped_profile()), SWAPPED),
        Sample("png broken profile", saved(flag(), "PNG", icc_profile=b"nonsense" * 20), FLAG),
        Sample(
            "png grey with a colour profile",
            saved(Image.fromarray(GREYS[..., 0]), "PNG", icc_profile=swapped_profile()),
            GREYS,
        ),
    ]


def _sixteen_bit_pngs() -> list[Sample]:
    """Levels between 8-bit ones, and far above 255: what is clipped, or read as 8 bits, shows."""
    wide = (FLAG.astype(">u2") * 257) - (FLAG > 0)
    grey = (GREYS[..., :1].astype(">u2") * 257) - (GREYS[..., :1] > 0)
    alpha = np.full_like(grey, 65_535)
    half = np.full_like(grey, 32_768)
    marked = png_chunk(b"tRNS", struct.pack(">H", int(grey[0, -1, 0])))
    blue = png_chunk(b"tRNS", wide[-1, 0].astype(">u2").tobytes())

    def sixteen(colour: int, rows: NDArray[np.uint16], before: bytes = b"") -> bytes:
        return png(WIDTH, HEIGHT, 16, colour, rows.astype(">u2").tobytes(), before=before)

    one_gone = quadrants((0,) * 3, WHITE, (170,) * 3, WHITE)
    paled = (FLAG // 2 + 128).astype(np.uint8)
    return [
        Sample("png 16-bit grey", sixteen(0, grey), GREYS),
        Sample(
            "png 16-bit grey, one transparent",
            sixteen(0, grey, marked),
            one_gone,
        ),
        Sample("png 16-bit rgb", sixteen(2, wide), FLAG),
        Sample("png 16-bit rgb, one transparent", sixteen(2, wide, blue), NO_BLUE),
        Sample("png 16-bit grey alpha", sixteen(4, np.concatenate([grey, alpha], -1)), GREYS),
        Sample(
            "png 16-bit alpha",
            sixteen(6, np.concatenate([wide, half], -1)),
            paled,
            2,
        ),
    ]


def _webps() -> list[Sample]:
    layers, over_white = with_alpha((255, 128, 0, 30))
    return [
        Sample("webp lossy", saved(flag(), "WEBP", quality=95), FLAG, LOSSY + 5),
        Sample("webp lossless", saved(flag(), "WEBP", lossless=True), FLAG),
        Sample("webp alpha", saved(layers, "WEBP", lossless=True, exact=True), over_white),
        Sample(
            "webp swapped profile",
            saved(flag(), "WEBP", lossless=True, icc_profile=swapped_profile()),
            SWAPPED,
        ),
        Sample(
            "webp animated",
            saved(
                flag(),
                "WEBP",
                lossless=True,
                save_all=True,
                append_images=[later()],
            ),
            FLAG,
        ),
    ]


def _bmps() -> list[Sample]:
    palette = flag().quantize(16)
    upside_down = bytearray(saved(Image.fromarray(FLAG[::-1]), "BMP"))
    upside_down[22:26] = struct.pack("<i", -HEIGHT)
    bits = Image.fromarray(QUADRANT % 2 == 1)
    return [
        Sample("bmp 24 bits", saved(flag(), "BMP"), FLAG),
        Sample("bmp 8 bits", saved(palette, "BMP"), FLAG),
        Sample("bmp 1 bit", saved(bits, "BMP"), quadrants((0,) * 3, WHITE, (0,) * 3, WHITE)),
        Sample("bmp top to bottom", bytes(upside_down), FLAG),
        Sample("bmp run lengths", _rle_bmp(), quadrants(RED, RED, RED, RED)),
    ]


def _rle_bmp() -> bytes:
    rows = (bytes([WIDTH, 1, 0, 0]) * HEIGHT) + b"\0\1"
    colours = bytes([0, 0, 0, 0, *RED[::-1], 0])
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(rows), 0, 0, 2, 0)
    start = 14 + len(header) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + colours + rows


def _gifs() -> list[Sample]:
    palette = flag().quantize(4, dither=Image.Dither.NONE)
    blue = int(np.asarray(palette)[-1, 0])
    partial = bytearray(saved(palette, "GIF"))
    partial[6:10] = struct.pack("<HH", WIDTH + 16, HEIGHT)
    beside = np.concatenate([FLAG, np.full((HEIGHT, 16, 3), 255, np.uint8)], 1)
    return [
        Sample("gif", saved(palette, "GIF"), FLAG),
        Sample("gif transparent", saved(palette, "GIF", transparency=blue), NO_BLUE),
        Sample("gif animated", saved(palette, "GIF", save_all=True, append_images=[later()]), FLAG),
        Sample("gif frame smaller than its canvas", bytes(partial), beside),
    ]


def _tiffs() -> list[Sample]:
    layers, over_white = with_alpha((255, 128, 0, 30))
    wide = FLAG.astype(np.uint16) * 257
    grey = GREYS[..., 0].astype(np.uint16) * 257
    bits = Image.fromarray(QUADRANT % 2 == 1)
    stripes = quadrants((0,) * 3, WHITE, (0,) * 3, WHITE)
    samples = [
        Sample(f"tiff {name}", saved(flag(), "TIFF", compression=name), FLAG)
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd")
    ]
    return [
        *samples,
        Sample("tiff jpeg", saved(flag(), "TIFF", compression="jpeg", quality=95), FLAG, LOSSY),
        Sample("tiff fax", saved(bits, "TIFF", compression="group4"), stripes),
        Sample("tiff palette", saved(flag().quantize(8), "TIFF"), FLAG),
        Sample("tiff alpha", saved(layers, "TIFF"), over_white),
        Sample("tiff cmyk", saved(ink(), "TIFF"), FLAG),
        Sample("tiff swapped profile", saved(flag(), "TIFF", icc_profile=swapped_profile()), SWAPPED),
        Sample("tiff 16-bit rgb", tiff(wide, photometric="rgb"), FLAG),
        Sample("tiff 16-bit grey", tiff(grey), GREYS),
        Sample("tiff 16-bit grey, other byte order", tiff(grey, byteorder=">"), GREYS),
        Sample("tiff 16-bit grey, white is zero", tiff(65_535 - grey, photometric="miniswhite"), GREYS),
        Sample("tiff tiled", tiff(FLAG, photometric="rgb", tile=(16, 16), compression="zlib"), FLAG),
        Sample("tiff big", tiff(FLAG, photometric="rgb", bigtiff=True), FLAG),
        Sample(
            "tiff two pages",
            saved(flag(), "TIFF", save_all=True, append_images=[later()]),
            FLAG,
        ),
    ]


def _odd_sizes(rng: np.random.Generator) -> list[Sample]:
    samples = []
    for height, width in ((1, 1), (1, 3000), (3000, 1), (17, 31), (31, 17), (2, 2), (8, 9), (255, 257)):
        flat = np.broadcast_to(rng.integers(20, 235, 3).astype(np.uint8), (height, width, 3))
        noise = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        size = f"{width} x {height}"
        samples += [
            Sample(f"jpeg {size}", saved(Image.fromarray(flat.copy()), "JPEG", quality=95), flat, LOSSY),
            Sample(f"png {size}", saved(Image.fromarray(noise), "PNG"), noise),
            Sample(f"bmp {size}", saved(Image.fromarray(noise), "BMP"), noise),
            Sample(f"tiff {size}", saved(Image.fromarray(noise), "TIFF"), noise),
            Sample(f"webp {size}", saved(Image.fromarray(noise), "WEBP", lossless=True), noise),
        ]
    return samples
