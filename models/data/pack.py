"""A data set version as one file: encoded images one after the other, then an index.

    ATHPACK1 │ image │ image │ … │ index (JSON) │ length of the index (8 bytes, little-endian) │ ATHPACK1

Written once, never changed, named by its SHA-256. Read through a memory map, so that a set larger than
memory can be trained on and two runs share its pages.
"""

import hashlib
import mmap
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import orjson

MAGIC = b"ATHPACK1"
_TAIL_BYTES = 8 + len(MAGIC)


class Split(StrEnum):
    """What an image is for. No image is in two."""

    TRAIN = "train"
    VALIDATION = "validation"
    """Chooses the checkpoint and ends training early."""
    TEST = "test"
    """Held out: evaluated once, at the end."""


class Item(NamedTuple):
    """One image of a pack."""

    name: str
    """Its path in the archive it came from."""
    label: int
    """Index into the pack's labels."""
    split: Split
    sha256: str
    """Of its bytes."""
    width: int
    """Stored size, pixels."""
    height: int
    offset: int
    size: int
    """Bytes."""


class PackDamaged(ValueError):
    """The file is no pack, or not a whole one."""


class PackWriter:
    """Writes a pack; a context manager. Nothing is a pack before `finish`."""

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._file = path.open("wb")
        self._labels = list(labels)
        self._items: list[Item] = []
        self._file.write(MAGIC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, data: bytes, *, name: str, label: int, split: Split, width: int, height: int) -> None:
        """Append one encoded image."""
        item = Item(
            name, label, split, hashlib.sha256(data).hexdigest(), width, height, self._file.tell(), len(data)
        )
        self._file.write(data)
        self._items.append(item)

    def finish(self) -> None:
        """Write the index and have everything on disk."""
        index = orjson.dumps(
            {"format": 1, "labels": self._labels, "items": [tuple(item) for item in self._items]}
        )
        self._file.write(index + len(index).to_bytes(8, "little") + MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())


class Pack:
    """A pack that is open for reading. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Raises PackDamaged."""
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < len(MAGIC) + _TAIL_BYTES:
                raise PackDamaged(f"{path.name} is no pack.")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        tail = self._bytes[-_TAIL_BYTES:]
        length = int.from_bytes(tail[:8], "little")
        is_whole = (
            self._bytes[: len(MAGIC)] == MAGIC == tail[8:] and length <= size - len(MAGIC) - _TAIL_BYTES
        )
        if not is_whole:
            raise PackDamaged(f"{path.name} is no pack, or cut short.")
        index = orjson.loads(self._bytes[size - _TAIL_BYTES - length : size - _TAIL_BYTES])
        self.labels: tuple[str, ...] = tuple(index["labels"])
        self.items: tuple[Item, ...] = tuple(
            Item(name, label, Split(split), *rest) for name, label, split, *rest in index["items"]
        )

    def read(self, item: Item) -> bytes:
        """The encoded image."""
        return self._bytes[item.offset : item.offset + item.size]

    def of(self, split: Split) -> list[Item]:
        """The items of a split, in their order."""
        return [item for item in self.items if item.split is split]

    def counts(self) -> Mapping[Split, Mapping[str, int]]:
        """Images by split and label."""
        counted = Counter((item.split, item.label) for item in self.items)
        return {
            split: {label: counted[split, index] for index, label in enumerate(self.labels)}
            for split in Split
        }

    def close(self) -> None:
        """Give the memory map back."""
        self._bytes.close()
