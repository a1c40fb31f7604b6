"""From uploaded files to a pack for super-resolution, or to the list of all that is wrong with them.

    archives ─► pictures, or pairs ─► each decoded once ─► ratio, duplicates, splits ─► pack

As `validate.py` does for classification, and to the same report.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from models.data.archive import ArchiveRefused, open_archive
from models.data.duplicates import copies_of_others, duplicate_of
from models.data.image_check import Checked, check_images
from models.data.large_pictures import LABEL, PictureSource
from models.data.listing import free_name
from models.data.pack import Pack, PackWriter, Split, only_whole
from models.data.problems import DataRefused, LeftOut, Noted, Problem, skip
from models.data.report import DatasetReport, Duplicate, report_of
from models.data.sources import DataLimits
from models.data.splits import Shares, Unsplit, assign_splits
from models.data.validate import DatasetOptions

SMALLEST_SIDE: Final = 48
"""Of a picture, pixels: what is smaller holds no patch to learn from."""
RATIOS: Final = (2, 3, 4)
"""Of the sides of a pair."""
_MAX_THREADS = 4
_READ = 0.8
"""Of the time, about, when everything has been decoded once."""


class _Picture(NamedTuple):
    """A sound picture, and its small one's place and hash if it has one."""

    source: int
    entry_name: str
    name: str
    """In the pack, where no two have the same."""
    split: Split | None
    sha256: str
    width: int
    height: int
    small_name: str | None
    small_sha256: str | None
    ratio: int | None


def make_picture_pack(
    files: Sequence[Path],
    out: Path,
    *,
    options: DatasetOptions | None = None,
    previous: Pack | None = None,
    progress: Callable[[float], None] = lambda _: None,
    limits: DataLimits | None = None,
    file_splits: Sequence[Split | None] | None = None,
) -> DatasetReport:
    """Validate archives of pictures, or of pairs, and write them as one pack to `out`.

    Arguments, and what they mean, are those of `models.data.validate.make_pack`.

    Raises:
        DataRefused: all that is wrong, with file and reason.

    """
    options, limits = options or DatasetOptions(), limits or DataLimits()
    with ExitStack() as stack:
        sources = [_open(path, limits, stack) for path in files]
        making = _Making(sources, options, previous)
        making.read(limits, file_splits, progress)
        making.choose()
        return making.write(out, progress)


def _open(path: Path, limits: DataLimits, stack: ExitStack) -> PictureSource:
    try:
        archive = stack.enter_context(open_archive(path, limits.archive))
    except ArchiveRefused as refused:
        raise DataRefused.from_archive(refused, path.name) from refused
    return PictureSource(archive, path.name, max_image_bytes=limits.max_image_bytes)


class _Making:
    """One data set on its way."""

    def __init__(
        self, sources: Sequence[PictureSource], options: DatasetOptions, previous: Pack | None
    ) -> None:
        self._sources, self._options, self._previous = sources, options, previous
        self._old_items = previous.items if previous else ()
        self._problems: Noted[Problem] = Noted()
        self._broken: Noted[Problem] = Noted()
        self._left_out: Noted[LeftOut] = Noted()
        for source in sources:
            self._problems.extend(source.listing.problems)
            self._broken.extend(source.listing.broken)
            self._left_out.extend(source.listing.left_out)
        self._pictures: list[_Picture] = []
        self._duplicates: list[Duplicate] = []
        self._chosen: list[Split] = []
        self._ratio: int | None = previous.ratio if previous else None

    def read(
        self,
        limits: DataLimits,
        file_splits: Sequence[Split | None] | None,
        progress: Callable[[float], None],
    ) -> None:
        """Decode every picture, large or small, once."""
        taken = {item.name for item in self._old_items}
        threads = max(1, min(_MAX_THREADS, os.cpu_count() or 1))
        total = max(1, sum(len(one.listing.entries) + len(one.small) for one in self._sources))
        done = 0
        for at, source in enumerate(self._sources):
            sound: dict[str, Checked] = {}
            wanted = {*source.listing.entries, *source.small}
            for checked in check_images(source.images(wanted), limits.image, threads=threads):
                done += 1
                progress(_READ * done / total)
                if (fault := checked.fault) is None:
                    sound[checked.entry.name] = checked
                else:
                    problem = Problem(file=checked.entry.name, message=fault.message, hint=fault.hint)
                    self._broken.add(problem)
            partners = {large: small for small, large in source.small.items()}
            for name in source.listing.entries:
                small = partners.get(name)
                if name not in sound or (small is not None and small not in sound):
                    continue
                ratio, wrong = _ratio_of(sound[name], None if small is None else sound[small])
                if wrong is not None:
                    self._broken.add(wrong)
                    continue
                self._take(at, sound[name], None if small is None else sound[small], ratio, taken)
                if file_splits and file_splits[at]:
                    self._pictures[-1] = self._pictures[-1]._replace(split=file_splits[at])

    def _take(
        self, source: int, large: Checked, small: Checked | None, ratio: int | None, taken: set[str]
    ) -> None:
        name = free_name(large.entry.name, self._sources[source].listing.file, taken)
        taken.add(name)
        self._pictures.append(
            _Picture(
                source=source,
                entry_name=large.entry.name,
                name=name,
                split=large.entry.split,
                sha256=large.sha256,
                width=large.width,
                height=large.height,
                small_name=None if small is None else small.entry.name,
                small_sha256=None if small is None else small.sha256,
                ratio=ratio,
            )
        )

    def choose(self) -> None:
        """Settle the ratio, leave duplicates out, deal out splits. Raises DataRefused."""
        self._settle_ratio()
        self._drop_duplicates()
        if self._options.skip_broken:
            skip(self._broken, self._left_out)
        else:
            self._problems.extend(self._broken)
        if not self._problems and len(self._pictures) + len(self._old_items) < 2:
            message = "There is one picture." if self._pictures else "There is no sound picture."
            hint = "Bring two and more: one to learn from, one to validate with."
            file = self._sources[0].listing.file
            self._problems.add(Problem(file=file, message=message, hint=hint))
        if self._problems:
            raise DataRefused(self._problems.items, count=self._problems.count)
        self._chosen = assign_splits(
            [Unsplit(0, picture.sha256, picture.split) for picture in self._pictures],
            Shares(self._options.validation_share, self._options.test_share),
            seed=self._options.seed,
            settled=Counter((item.label, item.split) for item in self._old_items),
        )
        splits = {*self._chosen, *(item.split for item in self._old_items)}
        if Split.TRAIN not in splits:
            message, hint = "No picture is for training.", "Move some into the training split."
            file = self._sources[0].listing.file
            raise DataRefused([Problem(file=file, message=message, hint=hint)])

    def _settle_ratio(self) -> None:
        """All pairs have one, which is that of most; and either all pictures have a small one or none has."""
        counts = Counter(picture.ratio for picture in self._pictures)
        if not counts:
            return
        wanted = self._ratio if self._old_items else counts.most_common(1)[0][0]
        kept = []
        for picture in self._pictures:
            if picture.ratio == wanted:
                kept.append(picture)
                continue
            if picture.ratio is None or wanted is None:
                what = "with a small picture, others without" if wanted is None else "without a small picture"
                hint = "Give pairs throughout, or large pictures alone."
                self._problems.add(Problem(file=picture.entry_name, message=f"It comes {what}.", hint=hint))
            else:
                message = f"It is {picture.ratio} times as large as its small picture, others {wanted} times."
                hint = "A data set has one ratio; make one for each."
                self._broken.add(Problem(file=picture.entry_name, message=message, hint=hint))
        self._pictures, self._ratio = kept, wanted

    def _drop_duplicates(self) -> None:
        """Of the same pictures one copy stays; copies with other small ones are a mistake."""
        dropped: set[int] = set()
        for at, kept in copies_of_others(self._pictures, self._old_items):
            picture = self._pictures[at]
            dropped.add(at)
            if isinstance(kept, _Picture) and kept.small_sha256 != picture.small_sha256:
                message = f"It is the same picture as {kept.name}, with another small one."
                hint = "Decide which is right, and take the other pair out."
                self._problems.add(Problem(file=picture.entry_name, message=message, hint=hint))
            else:
                self._duplicates.append(duplicate_of(picture, kept))
        self._pictures = [picture for at, picture in enumerate(self._pictures) if at not in dropped]

    def write(self, out: Path, progress: Callable[[float], None]) -> DatasetReport:
        """Write the pack."""
        with only_whole(out) as partial:
            with PackWriter(partial, [LABEL], ratio=self._ratio) as writer:
                self._write_pictures(writer, progress)
                writer.finish()
            report = self._report(partial)
        progress(1.0)
        return report

    def _write_pictures(self, writer: PackWriter, progress: Callable[[float], None]) -> None:
        if self._previous is not None:
            writer.add_pack(self._previous)
        done, total = 0, max(1, len(self._pictures))
        chosen = list(zip(self._pictures, self._chosen, strict=True))
        for at, source in enumerate(self._sources):
            own = {picture.entry_name: (picture, split) for picture, split in chosen if picture.source == at}
            smalls = self._write_smalls(writer, source, [picture for picture, _ in own.values()])
            for entry, data in source.images(own.keys()):
                picture, split = own[entry.name]
                writer.add(
                    data,
                    name=picture.name,
                    label=0,
                    split=split,
                    width=picture.width,
                    height=picture.height,
                    beside=None if picture.small_name is None else smalls[picture.small_name],
                )
                done += 1
                progress(_READ + (1 - _READ) * done / total)

    @staticmethod
    def _write_smalls(
        writer: PackWriter, source: PictureSource, pictures: Sequence[_Picture]
    ) -> dict[str, tuple[int, int]]:
        wanted = {picture.small_name for picture in pictures if picture.small_name is not None}
        return {entry.name: writer.add_beside(data) for entry, data in source.images(wanted)}

    def _report(self, path: Path) -> DatasetReport:
        pack = Pack(path)
        try:
            report = report_of(
                pack,
                [source.listing for source in self._sources],
                added=len(self._pictures),
                counts=pack.counts(),
                duplicates=self._duplicates,
                left_out=self._left_out,
                options=self._options.model_dump(include={"seed", "validation_share", "test_share"}),
            )
            return report.model_copy(update={"ratio": self._ratio})
        finally:
            pack.close()


def _ratio_of(large: Checked, small: Checked | None) -> tuple[int | None, Problem | None]:
    """How many times larger the large one is, None without a small one; or what is wrong with the two."""
    name, (width, height) = large.entry.name, _seen(large)
    if min(width, height) < SMALLEST_SIDE:
        message = f"It is {width} x {height} pixels."
        hint = f"Both sides must have {SMALLEST_SIDE} and more."
        return None, Problem(file=name, message=message, hint=hint)
    if small is None:
        return None, None
    sizes = _seen(small)
    ratio = next((one for one in RATIOS if (one * sizes[0], one * sizes[1]) == (width, height)), None)
    if ratio is None:
        message = f"It is {sizes[0]} x {sizes[1]} pixels, its large picture {width} x {height}."
        hint = f"Both sides must be exactly 1/{', 1/'.join(map(str, RATIOS))} of the large one's."
        return None, Problem(file=small.entry.name, message=message, hint=hint)
    return ratio, None


def _seen(checked: Checked) -> tuple[int, int]:
    """(width, height) as viewers show it."""
    size = (checked.width, checked.height)
    return size[::-1] if checked.is_lying else size
