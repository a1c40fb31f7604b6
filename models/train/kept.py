"""Decoded pictures of some items, with what belongs to them, the first ones kept."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Generic, TypeVar

from models.data.pack import Item, Pack
from models.train.memory import available_bytes

CACHE_SHARE = 0.25
"""Of the memory that is free when a source is made."""

Decoded = TypeVar("Decoded")


class Kept(ABC, Generic[Decoded]):
    """As many as fit; the later ones are decoded anew each time. Thread-safe."""

    def __init__(self, pack: Pack, items: Sequence[Item], cache_bytes: int | None) -> None:
        """`cache_bytes`: at most; None: a share of the free memory."""
        self._pack, self._items = pack, items
        budget = int(CACHE_SHARE * available_bytes()) if cache_bytes is None else cache_bytes
        self._kept: dict[int, Decoded | None] = {}
        self.cache_bytes = 0
        for index, item in enumerate(items):
            size = self._bytes_of(item)
            if self.cache_bytes + size > budget:
                break
            self._kept[index] = None
            self.cache_bytes += size
        self._locks = [Lock() for _ in items]
        self.is_cached = len(self._kept) == len(items)

    @abstractmethod
    def _bytes_of(self, item: Item) -> int:
        """What it holds once decoded."""

    @abstractmethod
    def _decode(self, item: Item) -> Decoded:
        """Raises ImageError for what cannot be decoded."""

    def __len__(self) -> int:
        return len(self._items)

    def get(self, index: int) -> Decoded:
        """Not to be written into. Raises ImageError for a picture that cannot be decoded."""
        if index not in self._kept:
            return self._decode(self._items[index])
        with self._locks[index]:  # two threads would decode it twice
            decoded = self._kept[index]
            if decoded is None:
                decoded = self._kept[index] = self._decode(self._items[index])
            return decoded
