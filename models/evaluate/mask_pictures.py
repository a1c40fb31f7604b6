"""A picture beside its mask and the answer, for pages."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.pack import IGNORED
from models.evaluate.thumbnail import SIDE
from models.tasks.segmentation import palette

_GREY = 128
_GAP = 4


def beside_each_other(pixels: NDArray[np.uint8], wanted: NDArray[np.uint8], said: NDArray[np.uint8]) -> bytes:
    """A JPEG of the picture (H, W, 3), the same with its mask (H, W), and with the answer (H, W).

    Labels are tinted but for level 0; what says nothing is grey.
    """
    panels = [Image.fromarray(panel) for panel in (pixels, _tinted(pixels, wanted), _tinted(pixels, said))]
    for panel in panels:
        panel.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    width, height = panels[0].size
    sheet = Image.new("RGB", (3 * width + 2 * _GAP, height), (255, 255, 255))
    for at, panel in enumerate(panels):
        sheet.paste(panel, (at * (width + _GAP), 0))
    out = BytesIO()
    sheet.save(out, "JPEG", quality=80)
    return out.getvalue()


def _tinted(pixels: NDArray[np.uint8], levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    colours = palette()
    colours[IGNORED] = _GREY
    mixed = (pixels.astype(np.uint16) + colours[levels] + 1) // 2
    return np.where(levels[..., None] > 0, mixed, pixels).astype(np.uint8)
