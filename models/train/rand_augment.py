"""RandAugment, Cubuk et al. 2019, https://arxiv.org/abs/1909.13719: N of fourteen changes, all of strength M.

The changes and their strongest forms are the paper's (those of AutoAugment); which, and to which side, is
drawn for each picture. Uncovered parts take the mean colour of the picture's border, not the paper's grey.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from models.catalogue import Parameters
from models.catalogue import augmentations as told
from models.train.augment import border_colour
from models.train.parts import Augment

Change = Callable[[Image.Image, float, tuple[int, int, int]], Image.Image]
"""Picture, strength -1..1 and the colour of what is uncovered."""


def build_rand_augment(parameters: Parameters) -> Augment:
    """Draws the changes without repetition, and each one's sign."""
    assert isinstance(parameters, told.RandAugment)
    strength = parameters.magnitude / 10

    def augment(pixels: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
        image, fill = Image.fromarray(pixels), border_colour(pixels)
        chosen = generator.choice(len(CHANGES), size=parameters.operations, replace=False)
        signs = generator.choice((-1.0, 1.0), size=parameters.operations)
        for change, sign in zip(chosen.tolist(), signs.tolist(), strict=True):
            image = CHANGES[change](image, sign * strength, fill)
        return np.asarray(image)

    return augment


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Change:
    return lambda image, strength, _: kind(image).enhance(1.0 + 0.9 * strength)


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: tuple[int, int, int]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
    )


CHANGES: tuple[Change, ...] = (
    lambda image, _strength, _fill: image,
    lambda image, _strength, _fill: ImageOps.autocontrast(image),
    lambda image, _strength, _fill: ImageOps.equalize(image),
    lambda image, strength, fill: image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=fill),
    lambda image, strength, _fill: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
    lambda image, strength, _fill: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    lambda image, strength, fill: _affine(image, (1, 0.3 * strength, 0, 0, 1, 0), fill),
    lambda image, strength, fill: _affine(image, (1, 0, 0, 0.3 * strength, 1, 0), fill),
    lambda image, strength, fill: _affine(image, (1, 0, 0.33 * strength * image.width, 0, 1, 0), fill),
    lambda image, strength, fill: _affine(image, (1, 0, 0, 0, 1, 0.33 * strength * image.height), fill),
)
"""Nothing, contrast stretched, histogram levelled, turned, light tones inverted, fewer bits; colour,
contrast, brightness, sharpness; sheared and shifted along each axis."""
