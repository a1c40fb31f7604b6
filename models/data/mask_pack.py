"""From uploaded files to a pack of pictures with masks, or to the list of all that is wrong with them.

    archives ─► pairs ─► every picture and mask decoded once ─► labels, duplicates, splits ─► pack

As `validate.py` does for classification, and to the same report. Memory holds names, hashes and, of each
mask, how often each number is in it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.archive import ArchiveRefused, open_archive
from models.data.coco import CocoSource, coco_files
from models.data.duplicates import copies_of_others, duplicate_of
from models.data.listing import MaskSource
from models.data.mask_labels import Labelling, find_labelling
from models.data.mask_reading import COUNTED, Found, Pair, read_pairs
from models.data.masks import read_mask, write_mask
from models.data.pack import Pack, PackWriter, Split, only_whole
from models.data.pairs import PairSource, has_masks
from models.data.problems import DataRefused, Noted, Problem, skip
from models.data.report import DatasetReport, report_of
from models.data.sources import DataLimits
from models.data.splits import Shares, Unsplit, assign_splits
from models.data.validate import DatasetOptions


def make_mask_pack(
    files: Sequence[Path],
    out: Path,
    *,
    options: DatasetOptions | None = None,
    previous: Pack | None = None,
    progress: Callable[[float], None] = lambda _: None,
    limits: DataLimits | None = None,
    file_splits: Sequence[Split | None] | None = None,
) -> DatasetReport:
    """Validate archives of pictures and masks and write them as one pack to `out`.

    Arguments, and what they mean, are those of `models.data.validate.make_pack`.

    Raises:
        DataRefused: all that is wrong, with file and reason.

    """
    options, limits = options or DatasetOptions(), limits or DataLimits()
    with ExitStack() as stack:
        opened = partial(
            _open, scratch=out.parent, limits=limits, stack=stack, before_each=partial(progress, 0.0)
        )
        sources = [opened(path) for path in files]
        found = Found()
        for source in sources:
            found.problems.extend(source.listing.problems)
            found.broken.extend(source.listing.broken)
            found.left_out.extend(source.listing.left_out)
        read_pairs(sources, found, limits, file_splits=file_splits, progress=progress, previous=previous)
        making = _Making(sources, found, options, previous)
        making.choose()
        return making.write(out, progress)


def _open(
    path: Path, *, scratch: Path, limits: DataLimits, stack: ExitStack, before_each: Callable[[], None]
) -> MaskSource:
    try:
        archive = stack.enter_context(open_archive(path, limits.archive))
    except ArchiveRefused as refused:
        raise DataRefused.from_archive(refused, path.name) from refused
    if coco_files(archive.members) and not has_masks(archive.members):
        coco = CocoSource(archive, path.name, limits=limits, scratch=scratch, before_each=before_each)
        stack.callback(coco.close)
        return coco
    return PairSource(archive, path.name, max_image_bytes=limits.max_image_bytes)


class _Making:
    """One data set on its way, everything read."""

    def __init__(
        self, sources: Sequence[MaskSource], found: Found, options: DatasetOptions, previous: Pack | None
    ) -> None:
        self._sources, self._found = sources, found
        self._options, self._previous = options, previous
        self._old_items = previous.items if previous else ()
        self._labelling = Labelling(labels=())
        self._chosen: list[Split] = []

    def choose(self) -> None:
        """Name what the numbers mean, leave duplicates out, deal out splits. Raises DataRefused."""
        found = self._found
        if not found.problems:
            self._name_numbers()
        self._drop_duplicates()
        if self._options.skip_broken:
            skip(found.broken, found.left_out)
        else:
            found.problems.extend(found.broken)
        if not found.problems:
            found.problems.extend(Noted(self._whole_problems()))
        if found.problems:
            raise DataRefused(found.problems.items, count=found.problems.count)
        self._chosen = assign_splits(
            [Unsplit(self._main_label(pair), pair.sha256, pair.split) for pair in found.pairs],
            Shares(self._options.validation_share, self._options.test_share),
            seed=self._options.seed,
            settled=Counter((item.label, item.split) for item in self._old_items),
        )
        if problems := list(self._untrained()):
            raise DataRefused(problems)

    def _name_numbers(self) -> None:
        """What each number means; masks with one that means nothing are broken."""
        found = self._found
        self._labelling = find_labelling(
            [(source.listing.file, source.listing.labels) for source in self._sources],
            np.sum([pair.counts for pair in found.pairs], axis=0) if found.pairs else np.zeros(256, np.int64),
            previous=self._previous.labels if self._previous else None,
        )
        sound = []
        for pair in found.pairs:
            if (problem := self._labelling.problem_of(pair.counts)) is None:
                sound.append(pair)
            else:
                message, hint = problem
                found.broken.add(Problem(file=pair.mask_file, message=message, hint=hint))
        found.pairs = sound

    def _drop_duplicates(self) -> None:
        """Of the same pictures one copy stays; copies with other masks are a mistake."""
        found = self._found
        dropped: set[int] = set()
        for at, kept in copies_of_others(found.pairs, self._old_items):
            pair = found.pairs[at]
            dropped.add(at)
            if isinstance(kept, Pair) and kept.mask_sha256 != pair.mask_sha256:
                found.problems.add(
                    Problem(
                        file=pair.entry_name,
                        message=f"It is the same picture as {kept.name}, with another mask.",
                        hint="Decide which mask is right, and take the other pair out.",
                    )
                )
            else:
                found.duplicates.append(duplicate_of(pair, kept))
        found.pairs = [pair for at, pair in enumerate(found.pairs) if at not in dropped]

    def _whole_problems(self) -> Iterator[Problem]:
        """What no single file is to blame for."""
        pairs, file = self._found.pairs, self._sources[0].listing.file
        if len(pairs) + len(self._old_items) < 2:
            message = f"There is {'one pair' if pairs else 'no sound pair'} of picture and mask."
            yield Problem(file=file, message=message, hint="Training and validation need one each.")
        elif not self._old_items and np.count_nonzero(self._pixels(pairs)[:-1]) < 2:
            hint = "Look whether the masks were saved with their labels' indices, not with colours near 0."
            yield Problem(file=file, message="All masks are empty: they hold one number alone.", hint=hint)

    def _pixels(self, pairs: Sequence[Pair]) -> NDArray[np.int64]:
        """(levels + 1,): pixels by level as packs hold them, the ignored ones last."""
        pixels: NDArray[np.int64] = np.sum([self._labelling.pixels(pair.counts) for pair in pairs], axis=0)
        return pixels

    def _main_label(self, pair: Pair) -> int:
        pixels = self._labelling.pixels(pair.counts)[:-1]
        if len(self._labelling.labels) == 1:
            return 0
        return int(pixels[1:].argmax()) + 1 if pixels[1:].any() else 0

    def _untrained(self) -> Iterator[Problem]:
        """Labels that training would never see, though another split asks for them."""
        trained = {
            label for pair, split in self._dealt() if split is Split.TRAIN for label in self._has(pair)
        }
        trained |= {item.label for item in self._old_items if item.split is Split.TRAIN}
        told: set[int] = set()
        for pair, _ in self._dealt():
            for label in sorted(self._has(pair) - trained - told):
                told.add(label)
                yield Problem(
                    file=pair.mask_file,
                    message=f"No mask for training has the label {self._labelling.labels[label]!r}.",
                    hint="Move some of its pictures to the training split.",
                )

    def _dealt(self) -> Iterator[tuple[Pair, Split]]:
        return zip(self._found.pairs, self._chosen, strict=True)

    def _has(self, pair: Pair) -> set[int]:
        """Labels of which its mask has pixels."""
        return self._labelling.has(pair.counts)

    def write(self, out: Path, progress: Callable[[float], None]) -> DatasetReport:
        """Write the pack."""
        with only_whole(out) as partial:
            with PackWriter(partial, self._labelling.labels) as writer:
                self._write_pairs(writer, progress)
                writer.finish()
            report = self._report(partial)
        progress(1.0)
        return report

    def _write_pairs(self, writer: PackWriter, progress: Callable[[float], None]) -> None:
        if self._previous is not None:
            writer.add_pack(self._previous)
        done, total = 0, max(1, len(self._found.pairs))
        for at, source in enumerate(self._sources):
            wanted = {pair.entry_name: (pair, split) for pair, split in self._dealt() if pair.source == at}
            masks = self._write_masks(writer, source, wanted)
            for entry, data in source.images(wanted.keys()):
                pair, split = wanted[entry.name]
                writer.add(
                    data,
                    name=pair.name,
                    label=self._main_label(pair),
                    split=split,
                    width=pair.width,
                    height=pair.height,
                    beside=masks[entry.name],
                )
                done += 1
                progress(COUNTED + (1 - COUNTED) * done / total)

    def _write_masks(
        self, writer: PackWriter, source: MaskSource, wanted: Mapping[str, object]
    ) -> dict[str, tuple[int, int]]:
        limits = DataLimits().image  # they have been checked
        levels = self._labelling.levels
        return {
            picture: writer.add_beside(write_mask(levels[read_mask(data, limits)]))
            for picture, _, data in source.mask_files(wanted.keys())
        }

    def _report(self, path: Path) -> DatasetReport:
        found, labels = self._found, self._labelling.labels
        listings = [source.listing for source in self._sources]
        pack = Pack(path)
        try:
            pixels, counts = _count(pack)
            unseen = [label for label, number in zip(labels, pixels, strict=False) if not number]
            report = report_of(
                pack,
                listings,
                added=len(found.pairs),
                counts=counts,
                duplicates=found.duplicates,
                left_out=found.left_out,
                options=self._options.model_dump(include={"seed", "validation_share", "test_share"}),
            )
            return report.model_copy(
                update={
                    "pixels": dict(zip(labels, pixels[:-1], strict=True)),
                    "ignored_pixels": pixels[-1],
                    "warnings": (
                        *report.warnings,
                        *(f"No mask has the label {label!r}." for label in unseen),
                    ),
                }
            )
        finally:
            pack.close()


def _count(pack: Pack) -> tuple[list[int], dict[Split, dict[str, int]]]:
    """Pixels by label, the ignored ones last; pictures by split and label."""
    labelling = Labelling(labels=pack.labels)
    limits = DataLimits().image
    pixels = np.zeros(len(pack.labels) + 1, np.int64)
    counts = {split: dict.fromkeys(pack.labels, 0) for split in Split}
    for item in pack.items:
        found = np.bincount(read_mask(pack.read_mask(item), limits).ravel(), minlength=256)
        of_labels = labelling.pixels(found)
        pixels += of_labels[1:] if len(pack.labels) == 1 else of_labels
        for label in labelling.has(found):
            counts[item.split][pack.labels[label]] += 1
    return pixels.tolist(), counts
