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
from typing import Generic, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.data.pack import Item, Pack, Split
from models.manifest import TileFacts
from models.tasks.images import ImageLimits, decode_image
from models.tasks.restoration import smaller
from models.train.chance import Purpose, generator
from models.train.feed import Batch, NumberedBatches, Reading
from models.train.kept import Decoded, Kept
from models.train.resolve import ResolvedSpec, patches_of
from models.train.spec import Degradation

Levels = NDArray[np.uint8]
_HIGHEST_QUALITY = 95
_WHITE = 255


class Pair(NamedTuple):
    """A picture, (scale h, scale w, 3), and its small one, (h, w, 3)."""

    large: Levels
    small: Levels


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


class _Pairs(Kept[Pair]):
    """Pictures of a data set for super-resolution, with their small ones."""

    def __init__(self, pack: Pack, items: Sequence[Item], scale: int, cache_bytes: int | None) -> None:
        self._scale = scale
        super().__init__(pack, items, cache_bytes)

    def _bytes_of(self, item: Item) -> int:
        size = item.width * item.height * 3
        return size + size // self._scale**2

    def _decode(self, item: Item) -> Pair:
        scale = self._scale
        large = decode_image(self._pack.read(item), limits=ImageLimits())
        if item.small is not None:
            return Pair(large, decode_image(self._pack.read_small(item), limits=ImageLimits()))
        height, width = (side // scale * scale for side in large.shape[:2])
        large = np.ascontiguousarray(large[:height, :width])
        return Pair(large, smaller(large, scale))


class Patches(NumberedBatches, Generic[Decoded]):
    """Batches of parts of pictures at random places: in an epoch as many of each as would cover it."""

    def __init__(self, items: Sequence[Item], whole: Kept[Decoded], *, side: int, reading: Reading) -> None:
        """`side`: of patches, pixels of `items`."""
        self._owners = np.repeat(np.arange(len(items)), [patches_of(item, side) for item in items])
        labels = np.array([item.label for item in items], np.int64)
        super().__init__(labels[self._owners], reading)
        self._whole = whole

    @property
    def pictures(self) -> int:
        """Those that patches are of."""
        return len(self._whole)

    @property
    def is_cached(self) -> bool:
        """All are kept."""
        return self._whole.is_cached

    @property
    def cache_bytes(self) -> int:
        """Of pictures and what belongs to them."""
        return self._whole.cache_bytes

    def pictures_in(self, number: int) -> int:
        """Those that its patches are of."""
        return len(np.unique(self._owners[self._chosen(number)[2]]))

    def _wholes(self, number: int) -> Iterator[tuple[Decoded, np.random.Generator]]:
        """Of each patch of a batch what it is of, and what decides over it."""
        epoch, start, chosen = self._chosen(number)
        for place, owner in enumerate(self._owners[chosen].tolist()):
            chance = generator(self._reading.seed, Purpose.AUGMENTATION, epoch, start + place)
            yield self._whole.get(owner), chance

    def _count(self, number: int) -> int:
        return self._sizes[number % len(self._sizes)]


class PatchSource(Patches[Pair]):
    """Images are small ones (n, 3, h, w), targets large ones (n, 3, scale h, scale w), both in 0..1."""

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
        super().__init__(items, _Pairs(pack, items, scale, reading.cache_bytes), side=side, reading=reading)
        self._degradation, self._scale, self._side = degradation, scale, side // scale

    def load(self, number: int) -> Batch:
        """As NumberedBatches's."""
        side, scale = self._side, self._scale
        images, small_rows = empty_pictures(self._count(number), side)
        targets, large_rows = empty_pictures(self._count(number), side * scale)
        for place, ((large, small), chance) in enumerate(self._wholes(number)):
            top, left = (int(chance.integers(length - side + 1)) for length in small.shape[:2])
            low = degraded(small[top : top + side, left : left + side], self._degradation, chance)
            top, left, wide = top * scale, left * scale, side * scale
            low, high = self._changes.of_pair(low, large[top : top + wide, left : left + wide], chance)
            np.divide(low, np.float32(_WHITE), out=small_rows[place])
            np.divide(high, np.float32(_WHITE), out=large_rows[place])
        return Batch(images, targets)


def empty_pictures(count: int, side: int) -> tuple[torch.Tensor, NDArray[np.float32]]:
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
        self.tiles, self.channels = tiles, 3
        self.batch_sizes: Sequence[int] = [1] * len(self._items)
        self.cache_bytes = self._pairs.cache_bytes
        self.patches = sum(patches_of(item, spec.image_size) for item in self._items)
        """Of training's size that would cover them: what validating costs."""

    def __iter__(self) -> Iterator[tuple[str, Pair]]:
        for index in range(len(self._items)):
            yield self._items[index].name, self.pair(index)

    @staticmethod
    def normalised(windows: Levels) -> torch.Tensor:
        """As `Whole`'s."""
        return torch.from_numpy(windows).permute(0, 3, 1, 2).float() / _WHITE

    @staticmethod
    def finished(made: torch.Tensor) -> torch.Tensor:
        """As it is."""
        return made

    def shown(self, index: int) -> Levels:
        """What the network is given of a picture. Raises ImageError."""
        return self.pair(index).small

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
        reading=Reading.for_training(spec),
        degradation=spec.degradation,
    )
