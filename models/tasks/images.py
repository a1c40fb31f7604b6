"""Encoded bytes → uint8 (H, W, 3) sRGB, the way a person sees the picture.

The format is decided by the first bytes, never by a name or a Content-Type. JPEG goes through
libjpeg-turbo, and may be decoded at a fraction of its size; the rest goes through Pillow. Sizes are read
and checked before a decoder is asked for anything. All functions are thread-safe, and the decoders run
without the GIL.
"""

import struct
import zlib
from io import BytesIO
from types import TracebackType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from models.tasks.colour import Layers, over_white, rgb_array, srgb_layers, srgb_pixels
from models.tasks.exif import upright
from models.tasks.image_facts import (
    ImageError,
    ImageFacts,
    ImageFormat,
    ImageLimits,
    RasterHeader,
    undecodable,
)
from models.tasks.jpeg import JPEG_MAGIC, JpegHeader, bare_jpeg, jpeg_profile, scan_jpeg, turbo_pixels
from models.tasks.png import PNG_MAGIC, png_header, png_picture
from models.tasks.raster_headers import bmp_header, gif_header, tiff_header, webp_header

__all__ = [
    "ImageError",
    "ImageFacts",
    "ImageLimits",
    "Picture",
    "decode_image",
    "decode_picture",
    "has_deep_samples",
    "probe_image",
]

Header = JpegHeader | RasterHeader

DECODER_FAULTS = (
    # What Pillow and the libraries under it have been seen to raise, or to pass through, for hostile bytes.
    # Programming errors of ours would mostly be AttributeError or NameError, which are not in the list.
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # in a process that turns warnings into errors
)

_FOREIGN = (
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "ICO"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)
_FTYP_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})


def probe_image(data: bytes, limits: ImageLimits) -> ImageFacts:
    """Read format, displayed size and orientation from the headers alone, in microseconds.

    Raises ImageError like `decode_image`, for what headers can tell.
    """
    header = read_header(data, limits)
    width, height = header.width, header.height
    if header.orientation >= 5:
        width, height = height, width
    return ImageFacts(header.format, width, height, header.orientation)


def decode_image(
    data: bytes, *, at_least: tuple[int, int] | None = None, limits: ImageLimits
) -> NDArray[np.uint8]:
    """Decode to a writable (H, W, 3) sRGB array, upright, alpha laid over white, 16 bits scaled to 8.

    `at_least` = (height, width) of the picture as displayed allows a JPEG to be decoded at 1/2, 1/4 or 1/8
    of its size, faster and slightly softer, but never below it in either direction.

    Raises ImageError: `unsupported_media` for other formats, `image_too_large` over `limits`,
    `image_undecodable` for damaged or truncated files, of which no part is ever returned.
    """
    header = read_header(data, limits)
    if at_least is not None and header.orientation >= 5:
        at_least = at_least[1], at_least[0]
    pixels = stored_pixels(data, header, at_least=at_least)
    return np.require(upright(pixels, header.orientation), requirements=["C", "W"])


class Picture(NamedTuple):
    """A picture, upright, with what `decode_image` lays over white kept apart."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) sRGB"""
    alpha: NDArray[np.uint8] | None
    """(H, W), 255 is opaque; None: all of it is."""
    is_grey: bool
    """Its samples were grey."""


def decode_picture(data: bytes, *, limits: ImageLimits) -> Picture:
    """Decode to 8 bits, colours and opacity apart. Raises as `decode_image`."""
    header = read_header(data, limits)
    if isinstance(header, JpegHeader):
        stored, alpha, is_grey = stored_pixels(data, header), None, header.components == 1
    else:
        with _AsUndecodable(header):
            layers = _raster_layers(data, header)
            stored, is_grey = rgb_array(layers.rgb), layers.is_grey
            alpha = None if layers.alpha is None else np.asarray(layers.alpha)
    if alpha is not None:
        alpha = np.ascontiguousarray(upright(alpha[..., None], header.orientation)[..., 0])
    return Picture(np.ascontiguousarray(upright(stored, header.orientation)), alpha, is_grey)


def has_deep_samples(data: bytes, format_: ImageFormat) -> bool:
    """Whether the samples of a file whose header has been read have more than the 8 bits that decoding
    leaves. Of a damaged one: False."""
    if format_ == "png":
        return data[_PNG_DEPTH_AT] > 8
    if format_ != "tiff":
        return False
    try:
        tags = TiffImagePlugin.TiffImageFile(BytesIO(data)).tag_v2
        return bool(max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8)
    except DECODER_FAULTS:
        return False


_PNG_DEPTH_AT = 24


def read_header(data: bytes, limits: ImageLimits) -> Header:
    """What the header says, stored size first: for callers that decode with `stored_pixels`."""
    if data.startswith(JPEG_MAGIC):
        return scan_jpeg(data, limits)
    if data.startswith(PNG_MAGIC):
        return png_header(data, limits)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return webp_header(data, limits)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return gif_header(data, limits)
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return tiff_header(data, limits)
    if data.startswith(b"BM"):
        return bmp_header(data, limits)
    raise _unsupported(data)


def _unsupported(data: bytes) -> ImageError:
    if data.startswith((b"\xff\xd8", b"\x89PNG")):
        return undecodable("The image ends inside its first bytes.")
    name = next((name for magic, name in _FOREIGN if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        name = _FTYP_BRANDS.get(brand, "HEIC" if brand in _HEIF_BRANDS else "a video or HEIF")
    elif name is None and b"<svg" in data[:1024].lower():
        name = "SVG"
    return ImageError(
        "unsupported_media",
        f"The bytes are {name}." if name else "The bytes are not an image in a known format.",
        hint="Send JPEG, PNG, WebP, BMP, GIF or TIFF; convert HEIC, AVIF, SVG and PDF first.",
    )


def stored_pixels(
    data: bytes, header: Header, *, at_least: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode to (h, w, 3) sRGB as stored: the orientation is still to be applied (`exif.upright`).

    `at_least` is in stored (height, width) too. The array may be read-only.
    """
    with _AsUndecodable(header):
        if isinstance(header, JpegHeader):
            return _jpeg_pixels(data, header, at_least)
        return over_white(_raster_layers(data, header))


class _AsUndecodable:
    """What a decoder raises becomes an ImageError. Not a generator, which would cost more per picture."""

    __slots__ = ("_header",)

    def __init__(self, header: Header) -> None:
        self._header = header

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(fault, DECODER_FAULTS) and not isinstance(fault, ImageError):
            name = self._header.format.upper()
            raise undecodable(f"The {name} is damaged or of a kind that is not read.") from fault


def _jpeg_pixels(data: bytes, header: JpegHeader, at_least: tuple[int, int] | None) -> NDArray[np.uint8]:
    profile = jpeg_profile(data, header) if header.profile_parts else None
    colours = _TURBO_COLOURS[header.components] if header.is_plain else None
    if colours == "GRAY" and profile is None:
        colours = "RGB"
    pixels = turbo_pixels(data, header, colours, at_least) if colours else None
    if pixels is None:
        image: Image.Image = JpegImagePlugin.JpegImageFile(BytesIO(bare_jpeg(data)))
        _check_size(image, header)
        image.load()
        return srgb_pixels(image, profile)
    if colours == "CMYK":
        # Every writer of CMYK JPEG follows Adobe, and stores ink upside down.
        return srgb_pixels(Image.fromarray(np.invert(pixels), "CMYK"), profile)
    if profile is None:
        return pixels
    return srgb_pixels(Image.fromarray(pixels[:, :, 0] if colours == "GRAY" else pixels), profile)


_TURBO_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}


def _raster_layers(data: bytes, header: RasterHeader) -> Layers:
    if header.format == "tiff":
        return _tiff_layers(data, header)
    if header.format == "png":
        data, profile, transparent = png_picture(data)
        image: _Reader = PngImagePlugin.PngImageFile(BytesIO(data))
        if transparent is not None:
            image.info["transparency"] = transparent
    else:
        reader = _READERS[header.format]
        image = reader(BytesIO(data))
        profile = image.info.get("icc_profile")
    _check_size(image, header)
    covered = image.tile[0][1] if header.format == "gif" and image.tile else None
    image.load()
    layers = srgb_layers(image, profile)
    if covered is None or covered == (0, 0, *image.size):
        return layers
    alpha = Image.new("L", image.size, 0)  # a GIF's frame leaves the rest of the canvas transparent
    alpha.paste(255 if layers.alpha is None else layers.alpha.crop(covered), covered)
    return layers._replace(alpha=alpha)


_Reader = (
    PngImagePlugin.PngImageFile
    | WebPImagePlugin.WebPImageFile
    | BmpImagePlugin.BmpImageFile
    | GifImagePlugin.GifImageFile
)
_READERS: Final[dict[str, type[_Reader]]] = {
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
}


def _tiff_layers(data: bytes, header: RasterHeader) -> Layers:
    image = TiffImagePlugin.TiffImageFile(BytesIO(data))
    _check_size(image, header)
    # Pillow turns a TIFF itself, but also by an orientation in XMP, which the size it told leaves out.
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)
    profile = image.info.get("icc_profile")
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]
    is_inverted = image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC) == 0
    image.load()
    _check_size(image, header)
    layers = srgb_layers(image, profile, white=2**bits - 1 if 8 < bits < 16 else 65_535)
    return layers._replace(rgb=ImageChops.invert(layers.rgb)) if is_inverted else layers


_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262


def _check_size(image: Image.Image, header: Header) -> None:
    if image.size != (header.width, header.height):
        raise undecodable(f"The {header.format.upper()} contradicts itself about its size.")
