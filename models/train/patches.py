"""Patches of pictures and of their small ones, for super-resolution, and whole pictures to validate with.

    pack ─ decoded once, while memory lasts ─► large ─ cut to whole pixels of the small one
                                                 └─ Pillow's cubic, 1/scale ─► small, unless the pack has it
    an epoch: as many patches of each picture as would cover it, at random places ─► small ones degraded
              ─► both mirrored and turned alike ─► 0..1

What is in a batch depends on seed, epoch and place in the epoch alone. Of pictures that do not fit into
memory together, the later ones are decoded anew for each patch.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.data.pack import Item, Pack, Split
from models.manifest import TileFacts
from models.tasks.images import ImageLimits, decode_image
from models.train.chance import Purpose, generator
from models.train.feed import CACHE_SHARE, Batch, NumberedBatches, Reading
from models.train.memory import available_bytes
from models.train.resolve import ResolvedSpec, patches_of
from models.train.spec import Degradation

Levels = NDArray[np.uint8]
_HIGHEST_QUALITY = 95


class Pair(NamedTuple):
    """A picture, (scale h, scale w, 3), and its small one, (h, w, 3)."""

    large: Levels
    small: Levels


def smaller(large: Levels, scale: int) -> Levels:
    """(scale h, scale w, 3) to (h, w, 3) by Pillow's cubic filter, which looks at all pixels under it."""
    height, width = large.shape[:2]
    size = width // scale, height // scale
    return np.asarray(Image.fromarray(large).resize(size, Image.Resampling.BICUBIC))


def degraded(small: Levels, degradation: Degradation | None, chance: np.random.Generator) -> Levels:
    """The same with noise, then stored as JPEG, as the run wants it."""
    if degradation is None:
        return small
    deviation = degradation.noise * chance.random()
    if deviation:
        noisy = small + chance.normal(0.0, deviation, small.shape)
        small = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if degradation.jpeg_quality is not None:
        lowest = min(degradation.jpeg_quality, _HIGHEST_QUALITY)
        stored = BytesIO()
        Image.fromarray(small).save(
            stored, "JPEG", quality=int(chance.integers(lowest, _HIGHEST_QUALITY + 1))
        )
        with Image.open(stored) as image:
            small = np.asarray(image)
    return small


class _Pairs:
    """Decoded pictures of some items with their small ones, the first ones kept. Thread-safe."""

    def __init__(self, pack: Pack, items: Sequence[Item], scale: int, cache_bytes: int | None) -> None:
        self._pack, self._items, self._scale = pack, items, scale
        budget = int(CACHE_SHARE * available_bytes()) if cache_bytes is None else cache_bytes
        self._kept: dict[int, Pair | None] = {}
        self.cache_bytes = 0
        for index, item in enumerate(items):
            size = item.width * item.height * 3
            if self.cache_bytes + size + size // scale**2 > budget:
                break
            self._kept[index] = None
            self.cache_bytes += size + size // scale**2
        self._locks = [Lock() for _ in items]
        self.is_cached = len(self._kept) == len(items)

    def __len__(self) -> int:
        return len(self._items)

    def get(self, index: int) -> Pair:
        """Not to be written into. Raises ImageError for a picture that cannot be decoded."""
        if index not in self._kept:
            return self._decode(index)
        with self._locks[index]:  # two threads would decode it twice
            pair = self._kept[index]
            if pair is None:
                pair = self._kept[index] = self._decode(index)
            return pair

    def _decode(self, index: int) -> Pair:
        item, scale = self._items[index], self._scale
        large = decode_image(self._pack.read(item), limits=ImageLimits())
        if item.small is not None:
            return Pair(large, decode_image(self._pack.read_small(item), limits=ImageLimits()))
        height, width = (side // scale * scale for side in large.shape[:2])
        large = np.ascontiguousarray(large[:height, :width])
        return Pair(large, smaller(large, scale))


class PatchSource(NumberedBatches):
    """Batches of patches: images are small ones (n, 3, h, w), targets large ones (n, 3, scale h, scale w),
    both in 0..1."""

    def __init__(
        self,
        pack: Pack,
        items: Sequence[Item],
        *,
        scale: int,
        side: int,
        reading: Reading,
        degradation: Degradation | None = None,
    ) -> None:
        """`side`: of large patches, pixels, a multiple of `scale`."""
        self._owners = np.repeat(np.arange(len(items)), [patches_of(item, side) for item in items])
        super().__init__(np.zeros(len(self._owners), np.int64), reading)
        self._degradation, self._scale, self._side = degradation, scale, side // scale
        self._pairs = _Pairs(pack, items, scale, reading.cache_bytes)

    @property
    def pictures(self) -> int:
        """Those that patches are of."""
        return len(self._pairs)

    @property
    def is_cached(self) -> bool:
        """All are kept."""
        return self._pairs.is_cached

    @property
    def cache_bytes(self) -> int:
        """Of pictures and small ones."""
        return self._pairs.cache_bytes

    def pictures_in(self, number: int) -> int:
        """Those that its patches are of."""
        return len(np.unique(self._owners[self._chosen(number)[2]]))

    def load(self, number: int) -> Batch:
        """As NumberedBatches's."""
        epoch, start, chosen = self._chosen(number)
        side, scale = self._side, self._scale
        images, small_rows = _empty(len(chosen), side)
        targets, large_rows = _empty(len(chosen), side * scale)
        for place, owner in enumerate(self._owners[chosen].tolist()):
            chance = generator(self._reading.seed, Purpose.AUGMENTATION, epoch, start + place)
            large, small = self._pairs.get(owner)
            top, left = (int(chance.integers(length - side + 1)) for length in small.shape[:2])
            low = degraded(small[top : top + side, left : left + side], self._degradation, chance)
            top, left, wide = top * scale, left * scale, side * scale
            low, high = self._changes.of_pair(low, large[top : top + wide, left : left + wide], chance)
            np.divide(low, np.float32(255), out=small_rows[place])
            np.divide(high, np.float32(255), out=large_rows[place])
        return Batch(images, targets)


def _empty(count: int, side: int) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """(n, 3, side, side), channels last, in torch's own memory, and the same as NumPy sees it,
    (n, side, side, 3)."""
    tensor = torch.empty((count, 3, side, side), memory_format=torch.channels_last)
    return tensor, tensor.permute(0, 2, 3, 1).numpy()


class WholePictures:
    """All pictures of a split, whole, for marks; degraded, if the run wants that, the same way each time."""

    def __init__(self, pack: Pack, split: Split, spec: ResolvedSpec, tiles: TileFacts) -> None:
        """`tiles`: how they go through the network."""
        self._items = pack.of(split)
        self._pairs = _Pairs(pack, self._items, tiles.scale, None)
        self._seed, self._degradation = spec.seed, spec.degradation
        self.tiles = tiles
        self.batch_sizes: Sequence[int] = [1] * len(self._items)
        self.cache_bytes = self._pairs.cache_bytes
        self.patches = sum(patches_of(item, spec.image_size) for item in self._items)
        """Of training's size that would cover them: what validating costs."""

    def __iter__(self) -> Iterator[tuple[str, Pair]]:
        for index in range(len(self._items)):
            yield self._items[index].name, self.pair(index)

    def pair(self, index: int) -> Pair:
        """A picture and the small one to make it from. Raises ImageError."""
        large, small = self._pairs.get(index)
        chance = generator(self._seed, Purpose.DEGRADATION, index)
        return Pair(large, degraded(small, self._degradation, chance))


def patch_source(pack: Pack, spec: ResolvedSpec, tiles: TileFacts) -> PatchSource:
    """The training split as a run reads it."""
    return PatchSource(
        pack,
        pack.of(Split.TRAIN),
        scale=tiles.scale,
        side=spec.image_size,
        reading=Reading(
            batch_size=spec.batch_size,
            seed=spec.seed,
            sampler=spec.sampler,
            augmentation=spec.augmentation,
            threads=spec.threads,
        ),
        degradation=spec.degradation,
    )
