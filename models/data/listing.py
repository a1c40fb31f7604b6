"""What a file of images says it holds, before an image is opened: the same for every layout."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from models.data.pack import Split
from models.data.problems import LeftOut, Noted, Problem

Layout = Literal["class_folders", "manifest", "parquet", "images_and_masks", "coco", "pictures", "hr_and_lr"]


class Entry(NamedTuple):
    """One image that a source lists."""

    name: str
    label: str
    split: Split | None
    """None: nobody said."""
    size: int
    """Bytes; 0 where it is not known before."""
    row: int | None = None
    """In a Parquet file, from 1."""


@dataclass(kw_only=True)
class Listing:
    """Every image of a source with its label, and what is wrong with the others."""

    file: str
    """The source's own name."""
    layout: Layout
    entries: dict[str, Entry] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    """In the order that the source gives them; empty where it gives none."""
    left_out: Noted[LeftOut] = field(default_factory=Noted)
    broken: Noted[Problem] = field(default_factory=Noted)
    """Single images or rows: a data set may do without them if it is told to."""
    problems: Noted[Problem] = field(default_factory=Noted)
    """No data set comes of these."""


class ImageSource(ABC):
    """Where images come from: an archive or a Parquet file."""

    listing: Listing

    @abstractmethod
    def images(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes]]:
        """The entries of these names with their bytes, in the same order each time.

        Raises DataRefused for what only unpacking shows.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what is open, and remove what was written."""


class MaskSource(ABC):
    """Where pictures with masks come from: an archive."""

    listing: Listing

    @abstractmethod
    def images(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes]]:
        """The pictures of these names with their bytes, in the archive's order. Raises DataRefused."""

    @abstractmethod
    def mask_files(self, wanted: Collection[str]) -> Iterator[tuple[str, str, bytes]]:
        """Of the pictures of these names: picture, what messages call the mask, and the mask, a PNG.

        Raises DataRefused.
        """


def free_name(name: str, file: str, taken: Collection[str]) -> str:
    """What an image of `file` is called in a pack: as in its archive, or, where that is taken, with the
    file's name before it, and a number if need be."""
    stem = f"{file.rpartition('/')[2].partition('.')[0]}/{name}"
    numbered = (f"{stem} ({number})" for number in range(2, len(taken) + 3))
    return next(one for one in (name, stem, *numbered) if one not in taken)
