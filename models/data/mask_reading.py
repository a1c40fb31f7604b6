"""Pictures and masks of archives, each decoded once: what is sound, and what is wrong with the rest."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.data.image_check import Checked, check_images
from models.data.listing import MaskSource, free_name
from models.data.masks import read_mask
from models.data.pack import Pack, Split
from models.data.problems import LeftOut, Noted, Problem
from models.data.report import Duplicate
from models.data.sources import DataLimits
from models.tasks.image_facts import ImageError

_MAX_THREADS = 4
CHECKED, COUNTED = 0.5, 0.8
"""Of the time, about, when pictures, and then masks, have been read once."""


class Pair(NamedTuple):
    """A sound picture with a sound mask."""

    source: int
    entry_name: str
    name: str
    """In the pack, where no two have the same."""
    split: Split | None
    sha256: str
    """Of the picture's bytes."""
    mask_sha256: str
    """Of the mask's numbers."""
    mask_file: str
    width: int
    height: int
    counts: NDArray[np.int64]
    """(256,): pixels of the mask by number."""


@dataclass
class Found:
    """What reading has come to."""

    pairs: list[Pair] = field(default_factory=list)
    problems: Noted[Problem] = field(default_factory=Noted)
    broken: Noted[Problem] = field(default_factory=Noted)
    left_out: Noted[LeftOut] = field(default_factory=Noted)
    duplicates: list[Duplicate] = field(default_factory=list)


def read_pairs(
    sources: Sequence[MaskSource],
    found: Found,
    limits: DataLimits,
    *,
    file_splits: Sequence[Split | None] | None,
    progress: Callable[[float], None],
    previous: Pack | None,
) -> None:
    """Decode every picture and every mask once."""
    taken = {item.name for item in previous.items} if previous else set()
    total = max(1, sum(len(source.listing.entries) for source in sources))
    done = 0
    for at, source in enumerate(sources):
        pictures: dict[str, Checked] = {}
        for checked in _sound_pictures(source, found, limits):
            pictures[checked.entry.name] = checked
            done += 1
            progress(CHECKED * done / total)
        for counted, (name, file, data) in enumerate(source.mask_files(pictures.keys())):
            progress(CHECKED + (COUNTED - CHECKED) * counted / total)
            picture = pictures[name]
            try:
                mask = read_mask(data, limits.image)
                _check_size(mask, picture)
            except ImageError as error:
                found.broken.add(Problem(file=file, message=error.message, hint=error.hint))
                continue
            own_name = free_name(name, source.listing.file, taken)
            taken.add(own_name)
            found.pairs.append(
                Pair(
                    source=at,
                    entry_name=name,
                    name=own_name,
                    split=(file_splits[at] if file_splits else None) or picture.entry.split,
                    sha256=picture.sha256,
                    mask_sha256=hashlib.sha256(mask.tobytes()).hexdigest(),
                    mask_file=file,
                    width=picture.width,
                    height=picture.height,
                    counts=np.bincount(mask.ravel(), minlength=256),
                )
            )


def _sound_pictures(source: MaskSource, found: Found, limits: DataLimits) -> Iterator[Checked]:
    threads = max(1, min(_MAX_THREADS, os.cpu_count() or 1))
    images = source.images(source.listing.entries.keys())
    for checked in check_images(images, limits.image, threads=threads):
        if (fault := checked.fault) is None:
            yield checked
        else:
            problem = Problem(file=checked.entry.name, message=fault.message, hint=fault.hint)
            found.broken.add(problem)


def _check_size(mask: NDArray[np.uint8], picture: Checked) -> None:
    """Raises ImageError unless the mask has the picture's size as seen."""
    seen = (picture.width, picture.height) if picture.is_lying else (picture.height, picture.width)
    if mask.shape != seen:
        height, width = mask.shape
        raise ImageError(
            "image_undecodable",
            f"The mask is {width} x {height} pixels, its picture, as seen, {seen[1]} x {seen[0]}.",
            hint="Draw it on the picture itself, turned as viewers show it.",
        )
