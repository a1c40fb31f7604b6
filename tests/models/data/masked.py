"""Archives of pictures and masks."""

import io

import numpy as np
from PIL import Image

from tests.models.data.pictures import png

SIDE = 12


def mask(numbers, *, palette=False, mode=None) -> bytes:
    """A PNG of these numbers, (height, width)."""
    image = Image.fromarray(np.asarray(numbers, np.uint8), mode)
    if palette:
        image.putpalette([level for index in range(256) for level in (index, 255 - index, 7)])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def halves(number: int, *, side: int = SIDE, rest: int = 0):
    """The upper half is of one number."""
    numbers = np.full((side, side), rest, np.uint8)
    numbers[: side // 2] = number
    return numbers


def pairs(count: int = 10, *, number: int = 1, prefix: str = "", seed: int = 0) -> dict[str, bytes]:
    """Contents of an archive whose masks have one number in the upper half."""
    contents = {}
    for at in range(count):
        contents[f"{prefix}images/{at}.png"] = png(seed + at, side=SIDE)
        contents[f"{prefix}masks/{at}.png"] = mask(halves(number))
    return contents
