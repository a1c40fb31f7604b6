"""Changes of single pictures, uint8 (H, W, 3) to the same shape, in NumPy and Pillow: mostly without the GIL.

They work on what the serving codec made of the file, at the network's own size. What they return may be a
view of what they were given; they never write into it. Those that move pixels take a mask (H, W) as well and,
with a generator in the same state, move it alike: its numbers are never mixed, and what a turn brings in from
outside is IGNORED.
"""

from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from models.catalogue import Parameters
from models.catalogue import augmentations as told
from models.data.pack import IGNORED
from models.train.parts import Augment

Picture = NDArray[np.uint8]


def build_flip(parameters: Parameters) -> Augment:
    """Mirrors."""
    assert isinstance(parameters, told.Flip)

    def augment(pixels: Picture, generator: np.random.Generator) -> Picture:
        sideways, upside_down = generator.random(2).tolist()
        if sideways < parameters.share:
            pixels = pixels[:, ::-1]
        return pixels[::-1] if upside_down < parameters.vertical_share else pixels

    return augment


def build_quarter_turns(parameters: Parameters) -> Augment:
    """Turns to the left; half turns of what is not square."""
    assert isinstance(parameters, told.QuarterTurns)

    def augment(pixels: Picture, generator: np.random.Generator) -> Picture:
        turns, is_square = int(generator.integers(4)), pixels.shape[0] == pixels.shape[1]
        return np.rot90(pixels, turns if is_square else turns // 2 * 2)

    return augment


def build_random_crop(parameters: Parameters) -> Augment:
    """Shifts by whole pixels."""
    assert isinstance(parameters, told.RandomCrop)

    def augment(pixels: Picture, generator: np.random.Generator) -> Picture:
        for axis in (0, 1):
            side = pixels.shape[axis]
            largest = round(parameters.shift_share * side)
            shift = int(generator.integers(-largest, largest + 1))
            if shift:
                pixels = pixels.take(np.arange(side) + shift, axis=axis, mode="clip")
        return pixels

    return augment


def build_random_resized_crop(parameters: Parameters) -> Augment:
    """Cuts out and enlarges, by bilinear interpolation."""
    assert isinstance(parameters, told.RandomResizedCrop)

    def augment(pixels: Picture, generator: np.random.Generator) -> Picture:
        height, width = pixels.shape[:2]
        area = generator.uniform(parameters.smallest_area, 1.0)
        part_height, part_width = _rectangle(height, width, area, parameters.largest_aspect, generator)
        top = generator.uniform(0.0, height - part_height)
        left = generator.uniform(0.0, width - part_width)
        box = (left, top, left + part_width, top + part_height)
        resampling = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.BILINEAR
        return np.asarray(Image.fromarray(pixels).resize((width, height), resampling, box=box))

    return augment


def _rectangle(
    height: int, width: int, area: float, largest_aspect: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Height and width of a share of a picture's area; a side that would not fit is cut to the picture's."""
    aspect = exp(generator.uniform(-log(largest_aspect), log(largest_aspect)))
    return (
        min(float(height), height * sqrt(area / aspect)),
        min(float(width), width * sqrt(area * aspect)),
    )


def build_rotate(parameters: Parameters) -> Augment:
    """Turns, by bilinear interpolation."""
    assert isinstance(parameters, told.Rotate)

    def augment(pixels: Picture, generator: np.random.Generator) -> Picture:
        degrees = generator.uniform(-parameters.largest_degrees, parameters.largest_degrees)
        image = Image.fromarray(pixels)
        if pixels.ndim == 2:
            return np.asarray(image.rotate(degrees, Image.Resampling.NEAREST, fillcolor=IGNORED))
        colour = border_colour(pixels)
        return np.asarray(image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=colour))

    return augment


def border_colour(pixels: Picture) -> tuple[int, int, int]:
    """Mean colour of the outermost rows and columns."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = border.mean(axis=0).round().astype(int).tolist()
    return red, green, blue


def build_colour_jitter(parameters: Parameters) -> Augment:
    """Brightness, contrast, saturation, then hue."""
    assert isinstance(parameters, told.ColourJitter)
    strengths = (
        (ImageEnhance.Brightness, parameters.brightness),
        (ImageEnhance.Contrast, parameters.contrast),
        (ImageEnhance.Color, parameters.saturation),
    )

    def augment(pixels: Picture, generator: np.random.Generator) -> Picture:
        image = Image.fromarray(pixels)
        for change, strength in strengths:
            factor = 1.0 + generator.uniform(-strength, strength)
            if strength:
                image = change(image).enhance(factor)
        turn = round(256 * generator.uniform(-parameters.hue_share, parameters.hue_share))
        return np.asarray(_turned(image, turn) if turn else image)

    return augment


def _turned(image: Image.Image, turn: int) -> Image.Image:
    """All hues moved by `turn` 256ths of the colour circle."""
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(at + turn) % 256 for at in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def build_random_erasing(parameters: Parameters) -> Augment:
    """Overwrites a rectangle, inside the picture, with noise."""
    assert isinstance(parameters, told.RandomErasing)

    def augment(pixels: Picture, generator: np.random.Generator) -> Picture:
        if generator.random() >= parameters.share:
            return pixels
        height, width = pixels.shape[:2]
        low, high = sorted((parameters.smallest_area, parameters.largest_area))
        area = generator.uniform(low, high)
        sides = _rectangle(height, width, area, parameters.largest_aspect, generator)
        rows, columns = (max(1, round(side)) for side in sides)
        top = int(generator.integers(0, height - rows + 1))
        left = int(generator.integers(0, width - columns + 1))
        erased = pixels.copy()
        erased[top : top + rows, left : left + columns] = generator.integers(
            0, 256, (rows, columns, 3), dtype=np.uint8
        )
        return erased

    return augment
