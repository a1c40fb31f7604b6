"""Batches for the loop: decoded as serving decodes, changed, normalised, ready before they are asked for.

    pack ─ serving codec ─► uint8 picture ─ cached ─► augmentations ─► (x - mean) / std ─► batch
           once per picture, while memory lasts       in threads, some batches ahead of the trainer

Batches are numbered over all epochs. Which pictures are in one and what is done to them depends on seed,
epoch and place in the epoch alone, so that a run can begin with any batch and several threads can make them.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from time import perf_counter
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.catalogue import Kind
from models.data.masks import fit_mask
from models.data.pack import Item, Pack, Split
from models.manifest import Preprocessing
from models.tasks.fitting import ImageFitter
from models.tasks.images import ImageLimits
from models.train.chance import Purpose, generator
from models.train.changing import Changes
from models.train.kept import CACHE_SHARE
from models.train.memory import available_bytes
from models.train.resolve import ResolvedSpec
from models.train.spec import Choice

_MOST_THREADS = 8


class Batch(NamedTuple):
    """Normalised pictures (n, 3, h, w) float32, channels last in memory, and labels (n,) or masks (n, h, w),
    int64."""

    images: torch.Tensor
    targets: torch.Tensor


class BatchSource(Protocol):
    """Where the loop's batches come from."""

    @property
    def batch_sizes(self) -> Sequence[int]:
        """Of one epoch, in order; all epochs have the same."""

    @property
    def waited_s(self) -> float:
        """How long the taker of batches has waited for them so far, in all streams together."""

    def stream(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Batches number `first` to `last - 1`; to be closed when it is left early."""


def even_sizes(images: int, batch_size: int) -> list[int]:
    """Sizes of an epoch's batches: as few as can be, none larger than asked, all within one of each other.

    No picture is left out, and no batch is so small that its norms and gradients stand alone.
    """
    batches = ceil(images / batch_size)
    small, larger = divmod(images, batches) if batches else (0, 0)
    return [small + (at < larger) for at in range(batches)]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How pictures become batches."""

    batch_size: int
    seed: int = 0
    sampler: Choice | None = None
    """None: in the pack's order."""
    augmentation: Sequence[Choice] = ()
    threads: int = 1
    """That make batches ahead."""
    cache_bytes: int | None = None
    """For decoded pictures, as many as fit; None: a share of the free memory."""

    @classmethod
    def for_training(cls, spec: ResolvedSpec, *, cache_bytes: int | None = None) -> "Reading":
        """As a run reads what it learns from."""
        return cls(
            batch_size=spec.batch_size,
            seed=spec.seed,
            sampler=spec.sampler,
            augmentation=spec.augmentation,
            threads=spec.threads,
            cache_bytes=cache_bytes,
        )


class NumberedBatches(ABC):
    """A BatchSource that can make any batch by its number, some ahead of their taker."""

    def __init__(self, labels: NDArray[np.int64], reading: Reading) -> None:
        """`labels`: of all that an epoch goes over, for the sampler."""
        self._reading, self._labels = reading, labels
        self._order = lru_cache(maxsize=3)(self._new_order)
        self._changes = Changes(reading.augmentation)
        self._threads = max(1, min(reading.threads, _MOST_THREADS))
        self._sizes = even_sizes(len(labels), reading.batch_size)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes, dtype=np.int64)]).tolist()
        self._waited_s = 0.0

    @property
    def batch_sizes(self) -> Sequence[int]:
        """Of one epoch."""
        return self._sizes

    @property
    def waited_s(self) -> float:
        """How long the taker has waited."""
        return self._waited_s

    @property
    @abstractmethod
    def pictures(self) -> int:
        """That are decoded in an epoch, each once if all are kept."""

    @property
    @abstractmethod
    def is_cached(self) -> bool:
        """Every picture is decoded once only."""

    @property
    @abstractmethod
    def cache_bytes(self) -> int:
        """What the cache will hold in the end."""

    @abstractmethod
    def pictures_in(self, number: int) -> int:
        """How many different pictures a batch needs."""

    @abstractmethod
    def load(self, number: int) -> Batch:
        """One batch, in the calling thread. Raises ImageError for a picture that cannot be decoded."""

    def stream(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Batches `first` to `last - 1`, made ahead in threads."""
        ahead = self._threads + 1
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(self._threads, "feed") as pool:
            try:
                waiting.extend(pool.submit(self.load, at) for at in range(first, min(first + ahead, last)))
                for number in range(first, last):
                    began_s = perf_counter()
                    batch = waiting.popleft().result()
                    self._waited_s += perf_counter() - began_s
                    if number + ahead < last:
                        waiting.append(pool.submit(self.load, number + ahead))
                    yield batch
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _chosen(self, number: int) -> tuple[int, int, NDArray[np.int64]]:
        """Of a batch its epoch, its first place in it, and what is in it."""
        epoch, at = divmod(number, len(self._sizes))
        start, stop = self._starts[at], self._starts[at + 1]
        return epoch, start, self._order(epoch)[start:stop]

    def _new_order(self, epoch: int) -> NDArray[np.int64]:
        sampler = self._reading.sampler
        if sampler is None:
            return np.arange(len(self._labels), dtype=np.int64)
        sample = sampler.row(Kind.SAMPLER).build()
        chance = generator(self._reading.seed, Purpose.ORDER, epoch)
        order: NDArray[np.int64] = sample(sampler.told(Kind.SAMPLER), self._labels, chance)
        if order.shape != self._labels.shape:
            raise ValueError(f"the sampler {sampler.method} gave {order.shape} of {self._labels.shape}")
        return order


class PackSource(NumberedBatches):
    """Batches of one split of a pack."""

    def __init__(
        self, pack: Pack, items: Sequence[Item], *, preprocessing: Preprocessing, reading: Reading
    ) -> None:
        super().__init__(np.array([item.label for item in items], np.int64), reading)
        self._pictures = _Pictures(pack, items, preprocessing, reading.cache_bytes)
        width = preprocessing.width
        self._shape = (preprocessing.height, width)
        self._mean = np.tile(np.array(preprocessing.mean, np.float32), width)
        self._std = np.tile(np.array(preprocessing.std, np.float32), width)

    @classmethod
    def of(
        cls,
        pack: Pack,
        split: Split,
        spec: ResolvedSpec,
        *,
        preprocessing: Preprocessing,
        cache_bytes: int | None = None,
    ) -> Self:
        """A split as a run reads it: sampled and changed when it is for training, else in order and as it is.

        Raises ValueError when the preprocessing is not the run's: `ResolvedSpec.sized` gives that.
        """
        if (preprocessing.height, preprocessing.width) != (spec.image_size, spec.image_size):
            raise ValueError(f"preprocessing for {preprocessing.height} pixels, run for {spec.image_size}")
        reading = Reading.for_training(spec, cache_bytes=cache_bytes)
        if split is not Split.TRAIN:
            reading = replace(reading, sampler=None, augmentation=())
        return cls(pack, pack.of(split), preprocessing=preprocessing, reading=reading)

    @property
    def pictures(self) -> int:
        """All."""
        return len(self._labels)

    def pictures_in(self, number: int) -> int:
        """As many as it is large."""
        return self._sizes[number % len(self._sizes)]

    @property
    def cache_bytes(self) -> int:
        """What the cache will hold in the end."""
        return self._pictures.cache_bytes

    @property
    def is_cached(self) -> bool:
        """Every picture is decoded once only."""
        return self._pictures.is_cached

    def load(self, number: int) -> Batch:
        """One batch, in the calling thread. Raises ImageError for a picture that cannot be decoded."""
        epoch, start, chosen = self._chosen(number)
        height, width = self._shape
        # Memory of torch's own: numpy's may begin anywhere, and the last bits of a product depend on that.
        images = torch.empty((len(chosen), 3, height, width), memory_format=torch.channels_last)
        rows = images.permute(0, 2, 3, 1).numpy().reshape(len(chosen), height, width * 3)
        targets = torch.from_numpy(self._labels[chosen])
        if self._pictures.has_masks:
            targets = torch.empty((len(chosen), height, width), dtype=torch.int64)
        for at, (row, index) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            pixels = self._pictures.get(index)
            mask = self._pictures.mask(index) if self._pictures.has_masks else None
            if self._changes:
                chance = generator(self._reading.seed, Purpose.AUGMENTATION, epoch, start + at)
                if mask is None:
                    pixels = self._changes.of_picture(pixels, chance)
                else:
                    pixels, mask = self._changes.of_pair(pixels, mask, chance)
            if mask is not None:
                targets[at] = torch.from_numpy(mask.astype(np.int64))
            # Whole lines: numpy is slow at rows of three.
            np.subtract(pixels.reshape(height, width * 3), self._mean, out=row)
            np.divide(row, self._std, out=row)
        return Batch(images, targets)


class _Pictures:
    """Decoded pictures of some items, with their masks, the first ones kept. Thread-safe: two threads may
    decode one picture, and write the same bytes."""

    def __init__(
        self, pack: Pack, items: Sequence[Item], preprocessing: Preprocessing, cache_bytes: int | None
    ) -> None:
        self._fitter = ImageFitter(preprocessing, ImageLimits())
        self._pack, self._items = pack, items
        if cache_bytes is None:
            cache_bytes = int(CACHE_SHARE * available_bytes())
        shape = (preprocessing.height, preprocessing.width, 3)
        self.has_masks = any(item.mask is not None for item in items)
        kept = min(len(items), cache_bytes // (shape[0] * shape[1] * (4 if self.has_masks else 3)))
        self._cache = np.empty((kept, *shape), np.uint8)
        self._masks = np.empty((kept, *shape[:2]) if self.has_masks else 0, np.uint8)
        self._is_there, self._is_mask_there = bytearray(kept), bytearray(kept)
        self._shape = shape
        self.cache_bytes = self._cache.nbytes + self._masks.nbytes
        self.is_cached = kept == len(items)

    def get(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3), not to be written into."""
        if index >= len(self._is_there):
            return self._fitter.decode(self._pack.read(self._items[index]))
        kept: NDArray[np.uint8] = self._cache[index]
        if not self._is_there[index]:
            self._fitter.decode(self._pack.read(self._items[index]), kept)
            self._is_there[index] = 1
        return kept

    def mask(self, index: int) -> NDArray[np.uint8]:
        """(H, W), not to be written into. Raises PackDamaged when the item has none."""
        height, width, _ = self._shape
        if index >= len(self._is_mask_there):
            return fit_mask(self._pack.read_mask(self._items[index]), height, width)
        kept: NDArray[np.uint8] = self._masks[index]
        if not self._is_mask_there[index]:
            kept[:] = fit_mask(self._pack.read_mask(self._items[index]), height, width)
            self._is_mask_there[index] = 1
        return kept


class TensorSource:
    """Batches of tensors that are there already: normalised pictures (n, 3, h, w) and labels (n,)."""

    waited_s = 0.0

    def __init__(
        self, images: torch.Tensor, targets: torch.Tensor, *, batch_size: int, shuffle_seed: int | None = None
    ) -> None:
        """Shuffled anew each epoch when a seed is given."""
        self._images, self._targets = images, targets
        self._seed = shuffle_seed
        self.batch_sizes: Sequence[int] = even_sizes(len(images), batch_size)

    def stream(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Batches `first` to `last - 1`."""
        order = torch.arange(len(self._images))
        for number in range(first, last):
            epoch, at = divmod(number, len(self.batch_sizes))
            if self._seed is not None and (at == 0 or number == first):
                chance = generator(self._seed, Purpose.ORDER, epoch)
                order = torch.from_numpy(chance.permutation(len(self._images)))
            start = sum(self.batch_sizes[:at])
            chosen = order[start : start + self.batch_sizes[at]]
            yield Batch(self._images[chosen], self._targets[chosen])
