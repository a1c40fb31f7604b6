"""A data set version as one file: encoded images one after the other, then an index.

    ATHPACK1 │ image │ image │ … │ index (JSON) │ length of the index (8 bytes, little-endian) │ ATHPACK1

Of segmentation, masks stand among the images: grey PNGs of a picture's size as seen, whose levels say what
each pixel is. With one label 0 is not it and 1 is; with more, a level is an index into the labels. 255 says
nothing.

Written once, never changed, named by its SHA-256. Read through a memory map, so that a set larger than
memory can be trained on and two runs share its pages.
"""

import hashlib
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import orjson

MAGIC = b"ATHPACK1"
IGNORED = 255
"""Level of a mask's pixels that neither train nor count."""
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
    """Index into the pack's labels; with a mask, the one that covers most, the first, usually the background,
    left aside where there is another."""
    split: Split
    sha256: str
    """Of its bytes."""
    width: int
    """Stored size, pixels."""
    height: int
    offset: int
    size: int
    """Bytes."""
    mask: tuple[int, int] | None = None
    """Offset and bytes of its mask."""
    small: tuple[int, int] | None = None
    """Offset and bytes of the small picture that it is to be made from."""


@contextmanager
def only_whole(out: Path) -> Iterator[Path]:
    """A path to write to within the block, at whose end the file becomes `out`; none is left if it fails."""
    partial = out.with_name(f"{out.name}.partial")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


class PackDamaged(ValueError):
    """The file is no pack, or not a whole one."""


class PackWriter:
    """Writes a pack; a context manager. Nothing is a pack before `finish`."""

    def __init__(self, path: Path, labels: Sequence[str], *, ratio: int | None = None) -> None:
        """`ratio`: of the sides of pairs."""
        self._file = path.open("wb")
        self._labels = list(labels)
        self._ratio = ratio
        self._items: list[Item] = []
        self._file.write(MAGIC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add_beside(self, data: bytes) -> tuple[int, int]:
        """Append what belongs to an image, a mask or a small picture; what `add` is to be told of it."""
        where = self._file.tell(), len(data)
        self._file.write(data)
        return where

    def add(
        self,
        data: bytes,
        *,
        name: str,
        label: int,
        split: Split,
        width: int,
        height: int,
        beside: tuple[int, int] | None = None,
    ) -> None:
        """Append one encoded image. `beside`: where its mask is, or in a pack of pairs its small picture."""
        sha256 = hashlib.sha256(data).hexdigest()
        mask, small = (beside, None) if self._ratio is None else (None, beside)
        item = Item(name, label, split, sha256, width, height, self._file.tell(), len(data), mask, small)
        self._file.write(data)
        self._items.append(item)

    def add_pack(self, pack: "Pack") -> None:
        """Append all images of another pack, with what belongs to them."""
        for item in pack.items:
            beside = None
            if item.mask is not None:
                beside = self.add_beside(pack.read_mask(item))
            elif item.small is not None:
                beside = self.add_beside(pack.read_small(item))
            self.add(
                pack.read(item),
                name=item.name,
                label=item.label,
                split=item.split,
                width=item.width,
                height=item.height,
                beside=beside,
            )

    def finish(self) -> None:
        """Write the index and have everything on disk."""
        items = [_stored(item) for item in self._items]
        paired = {} if self._ratio is None else {"ratio": self._ratio}
        index = orjson.dumps({"format": 1, "labels": self._labels, "items": items, **paired})
        self._file.write(index + len(index).to_bytes(8, "little") + MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())


def _stored(item: Item) -> tuple[object, ...]:
    """Without the last entries if they are empty: then the bytes are those of releases that knew none."""
    entries: tuple[object, ...] = tuple(item)
    while entries[-1] is None:
        entries = entries[:-1]
    return entries


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
        self.ratio: int | None = index.get("ratio")
        """How many times larger than its small picture each is; None where they have none."""
        self.items: tuple[Item, ...] = tuple(
            Item(name, label, Split(split), *rest) for name, label, split, *rest in index["items"]
        )

    def read(self, item: Item) -> bytes:
        """The encoded image."""
        return self._bytes[item.offset : item.offset + item.size]

    def read_mask(self, item: Item) -> bytes:
        """Its mask, a PNG. Raises PackDamaged when it has none."""
        if item.mask is None:
            raise PackDamaged(f"{item.name} has no mask.")
        offset, size = item.mask
        return self._bytes[offset : offset + size]

    def read_small(self, item: Item) -> bytes:
        """The small picture that belongs to it, encoded. Raises PackDamaged when it has none."""
        if item.small is None:
            raise PackDamaged(f"{item.name} has no small picture.")
        offset, size = item.small
        return self._bytes[offset : offset + size]

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
