"""Super-resolution: a picture → windows for the graph; its results → a picture `scale` times as large.

    picture ─tiles─► graph ─tiles─► its own scale ┬─► once more, while that is too little
                                                  └─resample─► exactly the scale that was asked for

Colours go through the network; opacity, which no network was trained on, is resampled.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.tasks.colour import rgb_array
from models.tasks.images import Picture
from models.tasks.windows import WindowCodec

_HALO = 8
"""Rows of the source that a row of the result may depend on when a picture is made smaller, at most."""


class RestorationCodec(WindowCodec):
    """What an engine and a certificate need of the task. Thread-safe."""

    def encode_batch(
        self, pieces: NDArray[np.float32], asked: Sequence[object], /
    ) -> list[NDArray[np.float32] | ValueError]:
        """Each window's result (h, w, 3) of pieces (N, 3, h, w); a ValueError for one that is not finite."""
        return [
            piece.transpose(1, 2, 0) if np.isfinite(piece).all() else ValueError("pixels are not finite")
            for piece in pieces
        ]


def smaller(large: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """(scale h, scale w, 3) to (h, w, 3) by Pillow's cubic filter, which looks at all pixels under it: how
    small pictures are made for a network to learn from, or to be judged by."""
    size = large.shape[1] // scale, large.shape[0] // scale
    return rgb_array(Image.fromarray(large).resize(size, Image.Resampling.BICUBIC))


def passes_for(wanted: int, own: int) -> int:
    """How often a network that enlarges `own` times must be applied to enlarge at least `wanted` times."""
    passes, reached = 1, own
    while reached < wanted:
        passes, reached = passes + 1, reached * own
    return passes


def resampled(
    pixels: NDArray[np.uint8], size: tuple[int, int], *, rows: int = 512
) -> Iterator[NDArray[np.uint8]]:
    """(H, W, 3) made smaller, exactly to `size` (height, width), by Lanczos with antialiasing, in strips of
    `rows`. The strips are what the whole would be: each is made with the rows around it."""
    height, width = size
    ratio = pixels.shape[0] / height
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first = max(0, int(top * ratio) - _HALO)
        last = min(pixels.shape[0], int(np.ceil(bottom * ratio)) + _HALO)
        window = Image.fromarray(np.ascontiguousarray(pixels[first:last]))
        box = (0.0, top * ratio - first, float(pixels.shape[1]), bottom * ratio - first)
        yield rgb_array(window.resize((width, bottom - top), Image.Resampling.LANCZOS, box=box))


def finished(picture: Picture, pixels: NDArray[np.uint8], scale: int) -> Picture:
    """The result for a picture: what the network made of its colours, exactly `scale` times as large, and the
    rest of the picture as it was."""
    height, width = picture.pixels.shape[0] * scale, picture.pixels.shape[1] * scale
    if pixels.shape[:2] != (height, width):
        pixels = np.concatenate(list(resampled(pixels, (height, width))))
    alpha = None if picture.alpha is None else enlarged_alpha(picture.alpha, scale)
    return Picture(pixels, alpha, picture.is_grey)


def enlarged_alpha(alpha: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """(H, W) opacity, `scale` times as large, by cubic interpolation."""
    height, width = alpha.shape
    image = Image.fromarray(alpha).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    return np.asarray(image)
