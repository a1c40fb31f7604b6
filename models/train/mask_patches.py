"""Patches of pictures with masks at their own size, and whole ones to validate with: segmentation in windows.

    pack ─ decoded once, while memory lasts ─► picture and mask ─ a patch at a random place ─► augmentations
              ─► (x - mean) / std ─► batch

A picture that is smaller than a patch goes on with its border's pixels, which belong to no label.
"""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.masks import Mask, read_mask
from models.data.pack import IGNORED, Item, Pack, Split
from models.manifest import Preprocessing, TileFacts
from models.tasks.images import ImageLimits, decode_image
from models.tasks.tiles import TileGrid
from models.train.feed import Batch, Reading
from models.train.kept import Kept
from models.train.patches import Levels, Patches, empty_pictures
from models.train.resolve import ResolvedSpec


class Labelled(NamedTuple):
    """A picture, (h, w, 3), and what each of its pixels is, (h, w)."""

    pixels: Levels
    mask: Mask


class _Labelled(Kept[Labelled]):
    def _bytes_of(self, item: Item) -> int:
        return item.width * item.height * 4

    def _decode(self, item: Item) -> Labelled:
        limits = ImageLimits()
        return Labelled(
            decode_image(self._pack.read(item), limits=limits), read_mask(self._pack.read_mask(item), limits)
        )


class MaskPatchSource(Patches[Labelled]):
    """Images are (n, 3, side, side), normalised, targets (n, side, side)."""

    def __init__(
        self,
        pack: Pack,
        items: Sequence[Item],
        *,
        side: int,
        preprocessing: Preprocessing,
        reading: Reading,
    ) -> None:
        """`side`: of patches, pixels; of `preprocessing` mean and deviation are used."""
        super().__init__(items, _Labelled(pack, items, reading.cache_bytes), side=side, reading=reading)
        self._side = side
        self._mean = np.tile(np.array(preprocessing.mean, np.float32), side)
        self._std = np.tile(np.array(preprocessing.std, np.float32), side)

    def load(self, number: int) -> Batch:
        """As NumberedBatches's."""
        count, side = self._count(number), self._side
        images, rows = empty_pictures(count, side)
        targets = torch.empty((count, side, side), dtype=torch.int64)
        for place, (whole, chance) in enumerate(self._wholes(number)):
            pixels, mask = self._changes.of_pair(*_part(whole, side, chance), chance)
            targets[place] = torch.from_numpy(mask.astype(np.int64))
            row = rows[place].reshape(side, side * 3)  # whole lines: numpy is slow at rows of three
            np.subtract(pixels.reshape(side, side * 3), self._mean, out=row)
            np.divide(row, self._std, out=row)
        return Batch(images, targets)


def _part(whole: Labelled, side: int, chance: np.random.Generator) -> Labelled:
    """A patch of `side` x `side`."""
    pixels, mask = whole
    below, beside = (max(0, side - length) for length in mask.shape)
    if below or beside:
        pixels = np.pad(pixels, ((0, below), (0, beside), (0, 0)), mode="edge")
        mask = np.pad(mask, ((0, below), (0, beside)), constant_values=IGNORED)
    top, left = (int(chance.integers(length - side + 1)) for length in mask.shape)
    return Labelled(pixels[top : top + side, left : left + side], mask[top : top + side, left : left + side])


class WholeMasks:
    """All pictures of a split, whole, with their masks, for marks."""

    def __init__(
        self, pack: Pack, split: Split, spec: ResolvedSpec, *, preprocessing: Preprocessing, tiles: TileFacts
    ) -> None:
        """`tiles`: how they go through the network."""
        items = pack.of(split)
        self._whole = _Labelled(pack, items, None)
        self._how, self.tiles, self.channels = preprocessing, tiles, len(pack.labels)
        self.batch_sizes: Sequence[int] = [1] * len(items)
        self.cache_bytes = self._whole.cache_bytes
        pixels = sum(TileGrid(item.height, item.width, tiles).window_pixels for item in items)
        self.patches = ceil(pixels / spec.image_size**2)
        """Of training's size that have as many pixels as all windows: what validating costs."""

    def __iter__(self) -> Iterator[Labelled]:
        for index in range(len(self._whole)):
            yield self.picture(index)

    def picture(self, index: int) -> Labelled:
        """Not to be written into. Raises ImageError."""
        return self._whole.get(index)

    def shown(self, index: int) -> Levels:
        """What the network is given of a picture. Raises ImageError."""
        return self.picture(index).pixels

    def finished(self, made: torch.Tensor) -> torch.Tensor:
        """Shares."""
        return made.softmax(1) if self.channels > 1 else made.sigmoid()

    def normalised(self, windows: NDArray[np.uint8]) -> torch.Tensor:
        """As `Whole`'s."""
        pixels = torch.from_numpy(windows).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (self._how.mean, self._how.std))
        return (pixels - mean) / std


def mask_patch_source(pack: Pack, spec: ResolvedSpec, preprocessing: Preprocessing) -> MaskPatchSource:
    """The training split as a run reads it."""
    return MaskPatchSource(
        pack,
        pack.of(Split.TRAIN),
        side=spec.image_size,
        preprocessing=preprocessing,
        reading=Reading.for_training(spec),
    )
