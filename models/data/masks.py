"""Masks as people make them: PNGs whose levels, or palette indices, say what each pixel is.

Only PNGs that hold one small number for each pixel are taken. Colours are refused: which one means what is
not written anywhere, and smoothed edges would be colours of their own.
"""

from io import BytesIO
from struct import unpack_from
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.tasks.image_facts import ImageError, ImageLimits, undecodable
from models.tasks.images import DECODER_FAULTS
from models.tasks.png import PNG_MAGIC, png_header, png_picture

Mask = NDArray[np.uint8]
"""(height, width)"""

_GREY, _PALETTE = 0, 3
_COLOUR_TYPES: Final = {2: "colours", 4: "grey with transparency", 6: "colours with transparency"}
_HINT = "Save it as an 8-bit grey or palette PNG whose values are the labels' indices; 255 says nothing."


def read_mask(data: bytes, limits: ImageLimits) -> Mask:
    """The numbers that a PNG holds, one for each pixel: of one bit 0 and 1, of a palette its indices.

    Raises ImageError for what is no PNG, is damaged, or holds something else than numbers of at most 8 bits.
    """
    if not data.startswith(PNG_MAGIC):
        raise ImageError("unsupported_media", "A mask must be a PNG: others blur it.", hint=_HINT)
    png_header(data, limits)
    depth, colour = unpack_from(">BB", data, 24)
    if colour in _COLOUR_TYPES:
        raise ImageError("unsupported_media", f"The mask holds {_COLOUR_TYPES[colour]}.", hint=_HINT)
    if depth == 16 or (colour == _GREY and depth in {2, 4}):
        raise ImageError("unsupported_media", f"The mask holds grey of {depth} bits.", hint=_HINT)
    try:
        with Image.open(BytesIO(png_picture(data).data), formats=["PNG"]) as image:
            return np.asarray(image).astype(np.uint8)
    except ImageError:
        raise
    except DECODER_FAULTS as error:
        raise undecodable("The mask cannot be decoded.") from error


def write_mask(mask: Mask) -> bytes:
    """A grey PNG; the same mask gives the same bytes."""
    out = BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    return out.getvalue()


def fit_mask(data: bytes, height: int, width: int) -> Mask:
    """A mask of a pack, squashed to a network's size: each of its pixels is the nearest of the mask's."""
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        if image.size == (width, height):
            return np.array(image, np.uint8)
        return np.array(image.resize((width, height), Image.Resampling.NEAREST), np.uint8)
