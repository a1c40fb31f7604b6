"""Fitting: an encoded image → the uint8 tensor that a `Preprocessing` says.

`decode` is the service's hot path. For a JPEG it chooses the smallest decoding scale that still covers the
tensor, and when that scale gives the right size already it only cuts the centre out: a 512 x 512 JPEG for a
224 x 224 tensor with crop 0.875 is decoded to 256 x 256 and cut, without any resampling.
"""

from functools import lru_cache, partial
from math import ceil
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.manifest import Preprocessing
from models.tasks.colour import rgb_array
from models.tasks.exif import upright
from models.tasks.image_facts import ImageLimits
from models.tasks.images import Header, read_header, stored_pixels
from models.tasks.jpeg import JpegHeader, jpeg_scale, scaled_size

_RESAMPLING: Final = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
_CHEAP_PIXELS = 1_500_000


class ImageFitter:
    """Turns encoded images into tensors of one size. Thread-safe."""

    def __init__(self, preprocessing: Preprocessing, limits: ImageLimits) -> None:
        # Callers send many images of few sizes: a plan is worth keeping.
        self._plan = lru_cache(maxsize=512)(partial(_Plan.make, preprocessing))
        self.limits = limits

    def open(self, data: bytes) -> "OpenedImage":
        """Read the headers alone: how it will be decoded, and whether that is cheap. Microseconds.

        Raises ImageError for what headers can tell.
        """
        header = read_header(data, self.limits)
        plan = self._plan(header.height, header.width, header.orientation >= 5)
        if isinstance(header, JpegHeader):
            cost = _jpeg_cost(len(data), header, plan.at_least)
        else:
            cost = header.width * header.height * _RASTER_COST
        return OpenedImage(data, header, plan, cost < _CHEAP_PIXELS)

    def decode(self, data: bytes, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Make the (height, width, 3) sRGB tensor; into `out`, a row of a batch for example, when given.

        Raises ImageError as `models.tasks.images.decode_image` does.
        """
        return self.open(data).decode(out)


_RASTER_COST = 10
"""A pixel of a PNG or WebP, through Pillow, takes about as long as ten of a JPEG at full scale (measured)."""


def _jpeg_cost(size_bytes: int, header: JpegHeader, at_least: tuple[int, int] | None) -> float:
    """Estimated work in pixels of an ordinary JPEG at full scale (about 3 ns each).

    Entropy decoding goes by the bytes, whatever the scale; the rest by the pixels that come out; a further
    scan goes over all coefficients.
    """
    pixels = header.width * header.height
    shrink = 1.0
    if at_least is not None:
        shrink = max(min(1.0, at_least[0] / header.height), min(1.0, at_least[1] / header.width))
    return 3.0 * size_bytes + pixels * (0.15 + 0.4 * shrink**2 + 0.3 * (header.scans - 1))


class _Plan(NamedTuple):
    """How one stored image becomes the tensor, before its orientation is applied. Sizes are (height, width).

    The tensor's centre is the picture's, so that cutting and turning may change places: the small result
    is turned instead of the large image.
    """

    stored: tuple[int, int]
    tensor: tuple[int, int]
    region: tuple[float, float]
    """The central part of the stored image that is used, pixels."""
    content: tuple[int, int]
    """What the region becomes; smaller than the tensor where `pad` leaves margins."""
    at_least: tuple[int, int] | None
    """Smallest decoded size whose region still covers the content; None for `nearest`, which picks stored
    pixels."""
    resample: Image.Resampling

    cut: tuple[tuple[int, int], slice, slice] | None
    """(decoded size, rows, columns): where the content lies in what a JPEG's scaled decoding gives, if it
    has the right size there and needs no resampling."""

    @classmethod
    def make(cls, preprocessing: Preprocessing, height: int, width: int, is_lying: bool) -> "_Plan":
        """Plan for a stored size; `is_lying` says that the orientation will swap height and width."""
        tensor = rows, columns = (
            (preprocessing.width, preprocessing.height)
            if is_lying
            else (preprocessing.height, preprocessing.width)
        )
        region_height, region_width = float(height), float(width)
        if preprocessing.fit == "crop":
            region_height = min(height, width * rows / columns) * preprocessing.crop
            region_width = min(width, height * columns / rows) * preprocessing.crop
        elif preprocessing.fit == "pad":
            scale = min(rows / height, columns / width)
            rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        at_least = None
        if preprocessing.interpolation != "nearest":
            # Less a little, lest 256.0000001 be taken for 257.
            at_least = (
                ceil(rows * height / region_height - 1e-6),
                ceil(columns * width / region_width - 1e-6),
            )
        resample = _RESAMPLING[preprocessing.interpolation]
        stored, region = (height, width), (region_height, region_width)
        plan = cls(stored, tensor, region, (rows, columns), at_least, resample, None)
        return plan._replace(cut=plan._find_cut(scaled_size(stored, at_least)))

    def _find_cut(self, decoded: tuple[int, int]) -> tuple[tuple[int, int], slice, slice] | None:
        slices = []
        # The scale is exact though the decoded size is rounded up: the centre stays the stored image's.
        scale = jpeg_scale(self.stored, decoded)
        for axis in (0, 1):
            length = self.content[axis]
            if abs(self.region[axis] * scale - length) >= 0.5:
                return None
            first = min(int((self.stored[axis] * scale - length) / 2), decoded[axis] - length)
            slices.append(slice(first, first + length))
        return decoded, slices[0], slices[1]

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut and resample decoded pixels (h, w, 3) to the content's size; a view where cutting is enough."""
        decoded = pixels.shape[0], pixels.shape[1]
        cut = self.cut if self.cut and self.cut[0] == decoded else self._find_cut(decoded)
        return pixels[cut[1], cut[2]] if cut else self._resampled(pixels)

    def _resampled(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = pixels.shape[:2]
        scale = jpeg_scale(self.stored, (height, width))
        middle_row, middle_column = self.stored[0] * scale / 2, self.stored[1] * scale / 2
        half_height, half_width = self.region[0] * scale / 2, self.region[1] * scale / 2
        box = (
            max(0.0, middle_column - half_width),
            max(0.0, middle_row - half_height),
            min(float(width), middle_column + half_width),
            min(float(height), middle_row + half_height),
        )
        rows, columns = self.content
        return rgb_array(Image.fromarray(pixels).resize((columns, rows), self.resample, box=box))


class OpenedImage(NamedTuple):
    """An encoded image whose headers have been read."""

    data: bytes
    header: Header
    plan: _Plan
    is_cheap: bool
    """Decoding takes a few milliseconds at most; else it belongs in a side pool."""

    def decode(self, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The tensor, as `ClassificationCodec.decode` makes it."""
        small = self.plan.fit(stored_pixels(self.data, self.header, at_least=self.plan.at_least))
        if self.header.orientation != 1:
            small = upright(small, self.header.orientation)
        if self.plan.content != self.plan.tensor:
            tensor = self.plan.tensor
            small = _framed(small, tensor[::-1] if self.header.orientation >= 5 else tensor)
        if out is None:
            return small.copy()
        np.copyto(out, small)
        return out


def _framed(content: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """In the middle of a black tensor of `size`; the narrower margins, where one pixel is over, are above and
    on the left of the picture as it is seen."""
    rows, columns = content.shape[:2]
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    tensor = np.zeros((*size, 3), np.uint8)
    tensor[top : top + rows, left : left + columns] = content
    return tensor
