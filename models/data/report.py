"""What validation found in a data set that it took."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median_low
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from models.data.listing import Layout, Listing
from models.data.pack import Item, Pack, Split
from models.data.problems import LeftOut, Noted
from models.described import with_docstrings

MAX_LISTED: Final = 1000
"""Duplicates and files left out, one by one; the counts are of all."""
_PREVIEW_LABELS, _PREVIEWS_PER_LABEL = 100, 4
_CONFUSABLE_PAIRS = 20


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, json_schema_extra=with_docstrings)


class SourceFacts(_Frozen):
    """One file that images came from."""

    file: str
    layout: Layout
    images: int
    """It lists."""


class Duplicate(_Frozen):
    """An image that was left out because its bytes are there already."""

    name: str
    same_as: str
    """The one that was kept."""
    is_across_splits: bool
    """The two were in different splits; the copy of the later one was left out."""


class Sides(_Frozen):
    """Stored sizes, pixels."""

    min_width: int
    median_width: int
    max_width: int
    min_height: int
    median_height: int
    max_height: int


class DatasetReport(_Frozen):
    """Published beside the data set version."""

    sources: tuple[SourceFacts, ...]
    labels: tuple[str, ...]
    """By their index."""
    images: int
    added: int
    """Of them, new since the version before; all of a first version."""
    size_bytes: int
    """Of the images."""
    counts: dict[Split, dict[str, int]]
    """Images by split and label; of segmentation, an image counts for each label that is in its mask."""
    pixels: dict[str, int] | None = None
    """Of segmentation: pixels of all masks by label."""
    ignored_pixels: int | None = None
    """Of segmentation: those that neither train nor count."""
    ratio: int | None = None
    """Of super-resolution: how many times larger than its small one each picture is; null where they have
    none."""
    sides: Sides
    duplicates: tuple[Duplicate, ...]
    """At most 1,000 of `duplicate_count`."""
    duplicate_count: int
    left_out: tuple[LeftOut, ...]
    """At most 1,000 of `left_out_count`: files that no label reaches, and broken ones that were skipped."""
    left_out_count: int
    previews: dict[str, tuple[str, ...]]
    """Names of a few training images of each label."""
    warnings: tuple[str, ...]
    """What may be meant so, and may be a mistake."""
    seed: int
    validation_share: float
    test_share: float


def report_of(
    pack: Pack,
    listings: Sequence[Listing],
    *,
    added: int,
    counts: Mapping[Split, Mapping[str, int]],
    duplicates: Sequence[Duplicate],
    left_out: Noted[LeftOut],
    options: Mapping[str, Any],
) -> DatasetReport:
    """What every task's report says; `options`: seed and shares of the splits."""
    return DatasetReport(
        sources=tuple(
            SourceFacts(file=one.file, layout=one.layout, images=len(one.entries)) for one in listings
        ),
        labels=pack.labels,
        images=len(pack.items),
        added=added,
        size_bytes=sum(item.size for item in pack.items),
        counts={split: dict(of_split) for split, of_split in counts.items()},
        sides=sides_of(pack.items),
        duplicates=tuple(duplicates[:MAX_LISTED]),
        duplicate_count=len(duplicates),
        left_out=tuple(left_out.items[:MAX_LISTED]),
        left_out_count=left_out.count,
        previews=previews_of(pack.items, pack.labels),
        warnings=warnings_of(pack.items, pack.labels, listings),
        **options,
    )


def sides_of(items: Sequence[Item]) -> Sides:
    """Range and median."""
    widths, heights = [item.width for item in items], [item.height for item in items]
    return Sides(
        min_width=min(widths),
        median_width=median_low(widths),
        max_width=max(widths),
        min_height=min(heights),
        median_height=median_low(heights),
        max_height=max(heights),
    )


def previews_of(items: Sequence[Item], labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """A few names per label."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    for item in items:
        if item.split is Split.TRAIN and len(names[item.label]) < _PREVIEWS_PER_LABEL:
            names[item.label].append(item.name)
    return {label: tuple(names[index]) for index, label in enumerate(labels[:_PREVIEW_LABELS])}


def warnings_of(items: Sequence[Item], labels: Sequence[str], listings: Sequence[Listing]) -> tuple[str, ...]:
    """Labels that look alike, names that no image has, splits that stay empty."""
    seen: dict[str, str] = {}
    warnings: list[str] = []
    for label in labels:
        first = seen.setdefault(" ".join(label.casefold().replace("_", " ").split()), label)
        if first != label and len(warnings) < _CONFUSABLE_PAIRS:
            warnings.append(f"The labels {first!r} and {label!r} are nearly the same.")
    unused = sorted({name for listing in listings for name in listing.labels} - set(labels))
    if unused:
        shown = ", ".join(repr(name) for name in unused[:10]) + (", …" if len(unused) > 10 else "")
        warnings.append(f"No image has the label {shown}.")
    filled = Counter(item.split for item in items)
    warnings += [f"No image is for {split}." for split in Split if not filled[split]]
    return tuple(warnings)
