"""How near made pictures come to the wanted ones, beside what cubic interpolation makes.

Both marks are of luminance, Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 (ITU-R BT.601), of pictures in 8
bits, without a border of as many pixels as the scale says, as papers on super-resolution have it:

    PSNR = 10 log10(255² / mean((y - y')²)), at most 100 dB
    SSIM: Wang et al. 2004, a Gaussian window of 11 x 11 pixels with a deviation of 1.5

Of several pictures the mean of theirs.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

Levels = NDArray[np.uint8]
"""(height, width, 3)"""
Luminance = NDArray[np.float64]
"""(height, width), 16..235"""

HIGHEST_PSNR: Final = 100.0
"""Decibels, of pictures that are the same."""
_WINDOW, _DEVIATION = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_STRIP = 512
"""Rows that are looked at together."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PictureSample(_Frozen):
    """A picture."""

    index: int
    """Its place in the split."""
    name: str
    psnr: float
    """Decibels."""
    ssim: float
    cubic_psnr: float
    """Of cubic interpolation from the same small picture."""
    cubic_ssim: float

    @property
    def gain(self) -> float:
        """Decibels over cubic interpolation."""
        return self.psnr - self.cubic_psnr


class PictureEvaluation(_Frozen):
    """Marks of pictures that were made larger."""

    samples: int = Field(ge=1)
    scale: int = Field(ge=1)
    psnr: float
    """Mean, decibels."""
    ssim: float
    """Mean."""
    mean_error: float
    """Mean absolute difference of colours, white being 1."""
    cubic_psnr: float
    cubic_ssim: float
    worst: tuple[PictureSample, ...]
    """Smallest gain over cubic interpolation first."""
    best: tuple[PictureSample, ...]
    """Largest first."""

    @property
    def gain(self) -> float:
        """Decibels over cubic interpolation."""
        return self.psnr - self.cubic_psnr


class Marks(NamedTuple):
    """Of one picture."""

    psnr: float
    ssim: float


def luminance(pixels: Levels) -> Luminance:
    """BT.601, not rounded."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    levels: Luminance = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
    return levels


def marks(made: Levels, wanted: Levels, *, border: int) -> Marks:
    """Of two pictures of one size; `border`: pixels at each side that do not count."""
    height, width = wanted.shape[:2]
    inside = np.s_[border : height - border, border : width - border]
    one, other = made[inside], wanted[inside]
    return Marks(_psnr(one, other), _ssim(one, other))


def psnr(made: Levels, wanted: Levels, *, border: int) -> float:
    """The one mark alone, decibels."""
    height, width = wanted.shape[:2]
    inside = np.s_[border : height - border, border : width - border]
    return _psnr(made[inside], wanted[inside])


def cubic(small: Levels, scale: int) -> Levels:
    """What Pillow's cubic interpolation makes."""
    size = small.shape[1] * scale, small.shape[0] * scale
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def _psnr(made: Levels, wanted: Levels) -> float:
    total = sum(
        float(np.square(luminance(made[rows]) - luminance(wanted[rows])).sum())
        for rows in _strips(len(wanted), around=0)
    )
    error = total / max(1, wanted.shape[0] * wanted.shape[1])
    return HIGHEST_PSNR if error == 0 else min(HIGHEST_PSNR, float(10 * np.log10(255**2 / error)))


def _ssim(made: Levels, wanted: Levels) -> float:
    """Mean over the places where the window fits; of a smaller picture, 1 if it is the same and else 0."""
    if min(wanted.shape[:2]) < _WINDOW:
        return float(np.array_equal(made, wanted))
    total, count = 0.0, 0
    for rows in _strips(len(wanted) - _WINDOW + 1, around=_WINDOW - 1):
        similar = _similarity(luminance(made[rows]), luminance(wanted[rows]))
        total, count = total + float(similar.sum()), count + similar.size
    return total / count


def _strips(rows: int, *, around: int) -> Iterator[slice]:
    """Slices of rows of a picture, and `around` more at the end of each: memory stays small."""
    for first in range(0, rows, _STRIP):
        yield slice(first, min(rows, first + _STRIP) + around)


def _similarity(one: Luminance, other: Luminance) -> Luminance:
    mean_one, mean_other = _blurred(one), _blurred(other)
    spread_one = _blurred(one * one) - mean_one**2
    spread_other = _blurred(other * other) - mean_other**2
    together = _blurred(one * other) - mean_one * mean_other
    similar: Luminance = ((2 * mean_one * mean_other + _C1) * (2 * together + _C2)) / (
        (mean_one**2 + mean_other**2 + _C1) * (spread_one + spread_other + _C2)
    )
    return similar


def _blurred(values: Luminance) -> Luminance:
    """(h, w) to (h - 10, w - 10)."""
    weights = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * _DEVIATION**2))
    weights /= weights.sum()
    for axis in (0, 1):
        length = values.shape[axis] - _WINDOW + 1
        values = sum(
            weight * values.take(np.arange(at, at + length), axis=axis) for at, weight in enumerate(weights)
        )
    return values


class PictureTally:
    """Marks pictures one by one."""

    def __init__(self, scale: int) -> None:
        self._scale = scale
        self._samples: list[PictureSample] = []
        self._errors: list[float] = []

    def add(self, made: Levels, wanted: Levels, small: Levels, *, name: str) -> None:
        """Mark a picture."""
        own = marks(made, wanted, border=self._scale)
        plain = marks(cubic(small, self._scale), wanted, border=self._scale)
        self._errors.append(mean_error(made, wanted))
        self._samples.append(
            PictureSample(
                index=len(self._samples),
                name=name,
                psnr=own.psnr,
                ssim=own.ssim,
                cubic_psnr=plain.psnr,
                cubic_ssim=plain.ssim,
            )
        )

    def evaluation(self, *, listed: int = 6) -> PictureEvaluation:
        """All marks; `listed`: how many of the worst and best are named.

        Raises ValueError when there is no picture.
        """
        samples = self._samples
        if not samples:
            raise ValueError("no picture was marked")
        ordered = sorted(samples, key=lambda sample: sample.gain)
        return PictureEvaluation(
            samples=len(samples),
            scale=self._scale,
            psnr=_mean([sample.psnr for sample in samples]),
            ssim=_mean([sample.ssim for sample in samples]),
            mean_error=_mean(self._errors),
            cubic_psnr=_mean([sample.cubic_psnr for sample in samples]),
            cubic_ssim=_mean([sample.cubic_ssim for sample in samples]),
            worst=tuple(ordered[:listed]),
            best=tuple(ordered[: -listed - 1 : -1]),
        )


def mean_error(made: Levels, wanted: Levels) -> float:
    """Mean absolute difference of colours, white being 1."""
    total = sum(
        int(np.abs(made[rows].astype(np.int16) - wanted[rows]).sum(dtype=np.int64))
        for rows in _strips(len(wanted), around=0)
    )
    return total / wanted.size / 255


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
