"""What a file of images says it holds, before an image is opened: the same for every layout."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from models.data.pack import Split
from models.data.problems import LeftOut, Noted, Problem

Layout = Literal["class_folders", "manifest", "parquet"]


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
