"""The part of a picture that is hardest to make, three times beside each other, for pages."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.evaluate.picture_marks import cubic

SIDE = 96
"""Of the part, pixels of the large picture."""
_SHOWN = 2
"""Pixels of a page for each of the picture's."""
_GAP = 4
_STEP = 16

Levels = NDArray[np.uint8]


def hardest(wanted: Levels, plain: Levels) -> tuple[int, int]:
    """(top, left) of the part where `plain`, of cubic interpolation, is furthest from what is wanted."""
    error = np.square(wanted.astype(np.float32) - plain).mean(axis=-1)
    height, width = error.shape
    sums = np.pad(error, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    tall, wide = min(SIDE, height), min(SIDE, width)
    tops, lefts = np.arange(0, height - tall + 1, _STEP), np.arange(0, width - wide + 1, _STEP)
    rows, columns = np.ix_(tops, lefts)
    within = sums[rows + tall, columns + wide] - sums[rows, columns + wide]
    within -= sums[rows + tall, columns] - sums[rows, columns]
    at = int(within.argmax())
    return int(tops[at // len(lefts)]), int(lefts[at % len(lefts)])


def crops_of(small: Levels, made: Levels, wanted: Levels, scale: int) -> bytes:
    """A JPEG of the hardest part: by cubic interpolation, as it was made, as it was wanted."""
    plain = cubic(small, scale)
    top, left = hardest(wanted, plain)
    panels = []
    for pixels in (plain, made, wanted):
        part = Image.fromarray(np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE]))
        size = part.width * _SHOWN, part.height * _SHOWN
        panels.append(part.resize(size, Image.Resampling.NEAREST))
    width, height = panels[0].size
    sheet = Image.new("RGB", (3 * width + 2 * _GAP, height), (255, 255, 255))
    for at, panel in enumerate(panels):
        sheet.paste(panel, (at * (width + _GAP), 0))
    out = BytesIO()
    sheet.save(out, "JPEG", quality=90)
    return out.getvalue()
