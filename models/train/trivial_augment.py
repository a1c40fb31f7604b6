"""TrivialAugment, Müller & Hutter 2021, https://arxiv.org/abs/2103.10158: one change of any strength.

    k ~ uniform of the fourteen changes, m ~ uniform of 0, 1, .. 30;   x ← change_k(x, ±m / 30)

The changes and their strongest forms are RandAugment's, the first of the two sets that the paper tries.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalogue import Parameters
from models.train.augment import border_colour
from models.train.parts import Augment
from models.train.rand_augment import CHANGES

_STRONGEST = 30


def build_trivial_augment(parameters: Parameters) -> Augment:
    """Draws the change, its strength and its sign for each picture (H, W, 3)."""

    def augment(pixels: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
        change = CHANGES[int(generator.integers(len(CHANGES)))]
        strength = int(generator.integers(_STRONGEST + 1)) / _STRONGEST
        sign = 1.0 if generator.random() < 0.5 else -1.0
        return np.asarray(change(Image.fromarray(pixels), sign * strength, border_colour(pixels)))

    return augment
