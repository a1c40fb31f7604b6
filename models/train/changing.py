"""What training does to a picture, and to its mask with it."""

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Kind
from models.catalogue.augmentations import Augmentation
from models.train.parts import Augment
from models.train.spec import Choice

Levels = NDArray[np.uint8]


class Changes:
    """Augmentations in their order."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._steps: list[tuple[Augment, bool]] = []
        for choice in choices:
            row = choice.row(Kind.AUGMENTATION)
            augment = row.build()(choice.told(Kind.AUGMENTATION))
            self._steps.append((augment, isinstance(row, Augmentation) and row.moves))

    def __bool__(self) -> bool:
        return bool(self._steps)

    def of_picture(self, pixels: Levels, chance: np.random.Generator) -> Levels:
        """(H, W, 3) to the same."""
        for augment, _ in self._steps:
            pixels = augment(pixels, chance)
        return pixels

    def of_pair(self, pixels: Levels, mask: Levels, chance: np.random.Generator) -> tuple[Levels, Levels]:
        """(H, W, 3) and (H, W) to the same; the picture is changed as without a mask."""
        for augment, moves in self._steps:
            twin = copy.deepcopy(chance) if moves else None
            pixels = augment(pixels, chance)
            if twin is not None:
                mask = augment(mask, twin)
        return pixels, mask
