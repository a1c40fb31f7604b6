"""From uploaded files to a pack, or to the list of all that is wrong with them.

    files ─► listings (labels, splits) ─► every image decoded once ─► duplicates, classes, splits ─► pack

Images are read twice, once to be checked and once to be written, so that nothing is kept between: memory
holds names and hashes, and a few images at a time. The same files with the same options give the same bytes.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.data.duplicates import copies_of_others, duplicate_of
from models.data.image_check import Checked, check_images
from models.data.listing import ImageSource, free_name
from models.data.pack import Item, Pack, PackWriter, Split, only_whole
from models.data.problems import DataRefused, LeftOut, Noted, Problem, skip
from models.data.report import DatasetReport, Duplicate, report_of
from models.data.sources import DataLimits, open_sources
from models.data.splits import Shares, Unsplit, assign_splits
from models.described import with_docstrings

__all__ = ["DataLimits", "DataRefused", "DatasetOptions", "DatasetReport", "LeftOut", "Problem", "make_pack"]

_MAX_THREADS = 4
_CHECKING_SHARE = 0.8
"""Of the time, about; the rest is writing."""


class DatasetOptions(BaseModel):
    """How a data set is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=with_docstrings)

    skip_broken: bool = False
    """Leave broken images and rows out, and list them in the report, instead of refusing the data set."""
    validation_share: float = Field(default=0.1, ge=0, lt=1, allow_inf_nan=False)
    """Of each label's images. It chooses the checkpoint."""
    test_share: float = Field(default=0.1, ge=0, lt=1, allow_inf_nan=False)
    """Of each label's images. It is held out to the end."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Of the splits."""

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing for training")
        return self


class _Image(NamedTuple):
    """A sound image that may go into the pack."""

    source: int
    entry_name: str
    name: str
    """In the pack, where no two have the same."""
    label: str
    split: Split | None
    sha256: str
    width: int
    height: int
    size: int


def _ignore(_: float) -> None:
    return


def make_pack(
    files: Sequence[Path],
    out: Path,
    *,
    options: DatasetOptions | None = None,
    previous: Pack | None = None,
    progress: Callable[[float], None] = _ignore,
    limits: DataLimits | None = None,
    file_splits: Sequence[Split | None] | None = None,
) -> DatasetReport:
    """Validate files and write their images as one pack to `out`.

    Args:
        files: archives or Parquet files; their names are what messages call them.
        out: written only when all is well; it appears whole, or not at all.
        options: how it is made.
        previous: the version that is added to. Its images stay, with their splits and labels' indices.
        progress: told the share done, 0..1. What it raises ends the work.
        limits: of archives and images.
        file_splits: what each file is for, whatever it says itself; None where it may say.

    Raises:
        DataRefused: all that is wrong, with file and line.

    """
    options, limits = options or DatasetOptions(), limits or DataLimits()
    with ExitStack() as stack:
        sources: list[ImageSource] = []
        splits: list[Split | None] = []
        for at, path in enumerate(files):
            opened = open_sources(path, out.parent, limits, stack)
            sources += opened
            splits += [file_splits[at] if file_splits else None] * len(opened)
        making = _Making(sources, splits, options, previous)
        steps = _Steps(progress, sum(len(source.listing.entries) for source in sources))
        making.look(steps, limits)
        making.choose()
        return making.write(out, steps)


class _Steps:
    """Turns images done into shares, told once per percent."""

    def __init__(self, tell: Callable[[float], None], images: int) -> None:
        self._tell = tell
        self._images = max(1, images)
        self._told = -1

    def tell(self, begin: float, share: float, done: int) -> None:
        percent = int(100 * (begin + share * done / self._images))
        if percent > self._told:
            self._told = percent
            self._tell(percent / 100)


class _Making:
    """One data set on its way."""

    def __init__(
        self,
        sources: Sequence[ImageSource],
        splits: Sequence[Split | None],
        options: DatasetOptions,
        previous: Pack | None,
    ) -> None:
        self._sources = sources
        self._splits = splits
        self._options = options
        self._previous = previous
        self._old_items = previous.items if previous else ()
        listings = [source.listing for source in sources]
        self._problems: Noted[Problem] = Noted()
        self._broken: Noted[Problem] = Noted()
        self._left_out: Noted[LeftOut] = Noted()
        for listing in listings:
            self._problems.extend(listing.problems)
            self._broken.extend(listing.broken)
            self._left_out.extend(listing.left_out)
        self._images: list[_Image] = []
        self._duplicates: list[Duplicate] = []
        self._labels: tuple[str, ...] = ()
        self._chosen: list[Split] = []

    def look(self, steps: _Steps, limits: DataLimits) -> None:
        """Decode every image."""
        taken = {item.name for item in self._old_items}
        threads = max(1, min(_MAX_THREADS, os.cpu_count() or 1))
        done = 0
        for at, source in enumerate(self._sources):
            images = source.images(source.listing.entries.keys())
            for checked in check_images(images, limits.image, threads=threads):
                done += 1
                steps.tell(0.0, _CHECKING_SHARE, done)
                if checked.fault is not None:
                    self._broken.add(_broken(source, checked))
                    continue
                name = free_name(checked.entry.name, source.listing.file, taken)
                taken.add(name)
                entry = checked.entry
                split = self._splits[at] or entry.split
                facts = checked.sha256, checked.width, checked.height, checked.size
                self._images.append(_Image(at, entry.name, name, entry.label, split, *facts))

    def choose(self) -> None:
        """Leave duplicates out, order labels, deal out splits. Raises DataRefused."""
        self._drop_duplicates()
        self._labels = self._order_labels()
        if not self._problems:
            self._problems.extend(Noted(self._class_problems()))
        if self._options.skip_broken:
            skip(self._broken, self._left_out)
        else:
            self._problems.extend(self._broken)
        if self._problems:
            raise DataRefused(self._problems.items, count=self._problems.count)
        index = {label: at for at, label in enumerate(self._labels)}
        self._chosen = assign_splits(
            [Unsplit(index[image.label], image.sha256, image.split) for image in self._images],
            Shares(self._options.validation_share, self._options.test_share),
            seed=self._options.seed,
            settled=Counter((item.label, item.split) for item in self._old_items),
        )
        if problems := self._untrained():
            raise DataRefused(problems)

    def _drop_duplicates(self) -> None:
        """Of the same bytes one copy stays; copies with other labels are a mistake."""
        dropped = set()
        for at, kept in copies_of_others(self._images, self._old_items):
            image = self._images[at]
            dropped.add(at)
            label = self._label_of(kept.label) if isinstance(kept, Item) else kept.label
            if label != image.label:
                self._problems.add(_contradiction(image, kept.name, label))
            else:
                self._duplicates.append(duplicate_of(image, kept))
        self._images = [image for at, image in enumerate(self._images) if at not in dropped]

    def _label_of(self, index: int) -> str:
        assert self._previous is not None
        return self._previous.labels[index]

    def _order_labels(self) -> tuple[str, ...]:
        """Those of the version before, then in the order of a source that has one, then sorted."""
        old = self._previous.labels if self._previous else ()
        used = {image.label for image in self._images}
        told = [label for source in self._sources for label in source.listing.labels if label in used]
        is_numeric = all(label.isdecimal() for label in used)
        rest = sorted(used, key=lambda label: (int(label) if is_numeric else 0, label))
        return tuple(dict.fromkeys([*old, *told, *rest]))

    def _class_problems(self) -> Iterator[Problem]:
        counts = Counter(image.label for image in self._images)
        counts.update(self._label_of(item.label) for item in self._old_items)
        if len(counts) < 2:
            what = f"one class, {next(iter(counts))!r}" if counts else "no sound image"
            yield Problem(
                file=self._sources[0].listing.file,
                message=f"There is {what}.",
                hint="Classification needs two classes and more, with two images and more each.",
            )
        for image in self._images:
            if counts[image.label] == 1:
                yield Problem(
                    file=image.name,
                    message=f"It is the only image of the class {image.label!r}.",
                    hint="Add more, or take the class out.",
                )

    def _untrained(self) -> list[Problem]:
        """Labels that training would never see, though another split asks for them."""
        chosen = zip(self._images, self._chosen, strict=True)
        trained = {image.label for image, split in chosen if split is Split.TRAIN}
        trained |= {self._label_of(item.label) for item in self._old_items if item.split is Split.TRAIN}
        example = {image.label: image.name for image in reversed(self._images) if image.label not in trained}
        return [
            Problem(
                file=name,
                message=f"The class {label!r} has no image for training.",
                hint="Add some to the training split, or take the class out of the others.",
            )
            for label, name in example.items()
        ]

    def write(self, out: Path, steps: _Steps) -> DatasetReport:
        """Write the pack."""
        with only_whole(out) as partial:
            with PackWriter(partial, self._labels) as writer:
                self._write_images(writer, steps)
                writer.finish()
            report = self._report(partial)
        steps.tell(1.0, 0.0, 0)
        return report

    def _write_images(self, writer: PackWriter, steps: _Steps) -> None:
        if self._previous is not None:
            writer.add_pack(self._previous)
        index = {label: at for at, label in enumerate(self._labels)}
        wanted: list[dict[str, tuple[_Image, Split]]] = [{} for _ in self._sources]
        for image, split in zip(self._images, self._chosen, strict=True):
            wanted[image.source][image.entry_name] = (image, split)
        done = 0
        for source, of_source in zip(self._sources, wanted, strict=True):
            for entry, data in source.images(of_source.keys()):
                image, split = of_source[entry.name]
                writer.add(
                    data,
                    name=image.name,
                    label=index[image.label],
                    split=split,
                    width=image.width,
                    height=image.height,
                )
                done += 1
                steps.tell(_CHECKING_SHARE, 1 - _CHECKING_SHARE, done)

    def _report(self, path: Path) -> DatasetReport:
        pack = Pack(path)
        counts: Mapping[Split, Mapping[str, int]] = pack.counts()
        listings = [source.listing for source in self._sources]
        try:
            return report_of(
                pack,
                listings,
                added=len(self._images),
                counts=counts,
                duplicates=self._duplicates,
                left_out=self._left_out,
                options=self._options.model_dump(include={"seed", "validation_share", "test_share"}),
            )
        finally:
            pack.close()


def _broken(source: ImageSource, checked: Checked) -> Problem:
    fault = checked.fault
    assert fault is not None
    row = checked.entry.row
    file = checked.entry.name if row is None else source.listing.file
    return Problem(file=file, line=row, message=fault.message, hint=fault.hint)


def _contradiction(image: _Image, name: str, label: str) -> Problem:
    return Problem(
        file=image.name,
        message=f"It is the same image as {name}, but that one is {label!r}, and this one {image.label!r}.",
        hint="Decide which is right, and take the other out.",
    )
