"""COCO's data sets: pictures, and JSON files that outline what is in them.

    [enclosing/]  train2017/  1.jpg   annotations/  instances_train2017.json
    [enclosing/]  train/      1.jpg   _annotations.coco.json                    one in each split folder
    [enclosing/]  images/     1.jpg   annotations.json

    JSON ─► pictures, categories and, in a file without a name, annotations as they are ─► one mask at a time

The level of a pixel is that of its category, by the order of their ids, and 0 where nothing is outlined. The
largest annotation is painted first, so that smaller ones lie on top; crowds before all others, with 255,
which says nothing.
"""

import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from models.data.archive import Archive, ArchiveRefused, Member
from models.data.coco_index import CocoIndex, Picture
from models.data.coco_shapes import brief, painted
from models.data.image_manifest import SPLITS
from models.data.layout import archive_root, is_litter
from models.data.listing import Entry, Listing, MaskSource
from models.data.masks import write_mask
from models.data.pack import Split
from models.data.pairs import IMAGES
from models.data.problems import DataRefused, LeftOut, Problem
from models.data.sources import DataLimits

_NAME: Final = re.compile(r"(_?annotations|instances(_\w+)?|result|.*coco.*)\.json")
"""As COCO itself, CVAT, Roboflow and Label Studio call them."""
_MOST_FOLDERS: Final = 2
_MOST_FILES: Final = 16
_MOST_OF_A_NAME: Final = 1000
"""Files with one name that are looked through for the one that is meant."""
_WORD: Final = re.compile(r"[a-z]+")


def coco_files(members: Sequence[Member]) -> list[Member]:
    """JSON files of COCO among an archive's members, by their names; not more than two folders deep."""
    start = len(archive_root(members))
    return [
        member
        for member in members
        if not is_litter(member.name)
        and member.name.count("/", start) <= _MOST_FOLDERS
        and _NAME.fullmatch(member.name.rpartition("/")[2].lower())
    ]


class CocoSource(MaskSource):
    """Pictures of a zip or tar, and masks painted from what its JSON files outline."""

    def __init__(
        self,
        archive: Archive,
        file: str,
        *,
        limits: DataLimits,
        scratch: Path,
        before_each: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the JSON files. `scratch` is a folder for a file without a name. `before_each` is called
        before each piece of text and may raise. Raises DataRefused."""
        self._archive = archive
        self._before_each = before_each
        self._limits = limits
        self.listing = Listing(file=file, layout="coco")
        self._pictures: dict[str, tuple[CocoIndex, Picture]] = {}
        members = [member for member in archive.members if not is_litter(member.name)]
        files = coco_files(members)
        if len(files) > _MOST_FILES:
            message, hint = f"It has {len(files)} COCO files.", f"At most {_MOST_FILES}; join them."
            raise DataRefused([Problem(file=file, message=message, hint=hint)])
        self._root = archive_root(members)
        self._sizes = {member.name: member.size for member in members if member not in files}
        self._by_last: dict[str, list[str]] = {}
        for name in self._sizes:
            self._by_last.setdefault(name.rpartition("/")[2], []).append(name)
        with ExitStack() as stack:
            for member in files:
                spill = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
                index = CocoIndex(member.name, spill, limits.image, self.listing)
                self._read(index, member)
                self._check_labels(index, files[0].name)
                self._list(index, member.name, is_only=len(files) == 1)
            self._stack = stack.pop_all()
        self._note_others()

    def close(self) -> None:
        """Close what annotations are kept in."""
        self._stack.close()

    def images(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes]]:
        """See MaskSource."""
        try:
            for member, data in self._archive.contents(lambda one: one.name in wanted):
                yield self.listing.entries[member.name], data
        except ArchiveRefused as refused:
            raise DataRefused.from_archive(refused, self.listing.file) from refused

    def mask_files(self, wanted: Collection[str]) -> Iterator[tuple[str, str, bytes]]:
        """See MaskSource."""
        for name, (index, picture) in self._pictures.items():
            if name in wanted:
                mask = painted(index.shapes_of(picture), picture.width, picture.height)
                yield name, f"{index.file}, image {picture.id}", write_mask(mask)

    def _read(self, index: CocoIndex, member: Member) -> None:
        try:
            for _, pieces in self._archive.unpack(lambda one: one.name == member.name):
                index.read(self._asking(pieces))
        except ArchiveRefused as refused:
            raise DataRefused.from_archive(refused, self.listing.file) from refused

    def _asking(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._before_each()
            yield piece

    def _check_labels(self, index: CocoIndex, first: str) -> None:
        listing = self.listing
        if listing.labels and index.labels and index.labels != listing.labels:
            message = f"Its categories are not those of {first}."
            hint = "All files have the same categories with the same ids."
            listing.problems.add(Problem(file=index.file, message=message, hint=hint))
        listing.labels = listing.labels or index.labels

    def _list(self, index: CocoIndex, json_name: str, *, is_only: bool) -> None:
        """Find the files of an index's pictures."""
        split = _split_of(json_name)
        for picture in index.pictures:
            near = self._find(picture.file_name, json_name, split)
            if len(near) != 1:
                many = f"{near[0]} and {near[1]} both end so" if near else "there is no such file"
                hint = "Write the path within the archive, or put the pictures beside the JSON file."
                message = f"Image {picture.id} is {brief(picture.file_name)!r}, and {many}."
                self.listing.broken.add(Problem(file=index.file, message=message, hint=hint))
            elif near[0] in self._pictures:
                first = self._pictures[near[0]][1].id
                message = f"Image {picture.id} is {near[0]}, as image {first} is."
                hint = "Give the outlines of a picture to one image."
                self.listing.problems.add(Problem(file=index.file, message=message, hint=hint))
            elif (size := self._sizes[near[0]]) > self._limits.max_image_bytes:
                message, hint = f"The file has {size} bytes.", f"At most {self._limits.max_image_bytes}."
                self.listing.broken.add(Problem(file=near[0], message=message, hint=hint))
            else:
                own = split or (_split_of(near[0]) if is_only else None)
                self.listing.entries[near[0]] = Entry(near[0], "", own, size)
                self._pictures[near[0]] = index, picture

    def _find(self, file_name: str, json_name: str, split: Split | None) -> list[str]:
        """Files that it may mean: that beside the JSON file or in the usual folder, else all whose paths end
        so, of its split if there are some."""
        wanted = file_name.replace("\\", "/").removeprefix("./")
        folder = json_name[: json_name.rfind("/") + 1]
        usual = (folder, self._root, f"{self._root}{IMAGES}/") if split is None else (folder,)
        for start in usual:
            if start + wanted in self._sizes:
                return [start + wanted]
        same = self._by_last.get(wanted.rpartition("/")[2], [])[:_MOST_OF_A_NAME]
        near = [name for name in same if f"/{name}".endswith(f"/{wanted}")]
        of_split = [name for name in near if split and _split_of(name) is split]
        return of_split or near

    def _note_others(self) -> None:
        listing = self.listing
        if not (listing.problems or listing.broken):
            for name in sorted(self._sizes.keys() - self._pictures.keys()):
                listing.left_out.add(LeftOut(file=name, reason="No COCO file lists it."))
        if not (listing.entries or listing.problems or listing.broken):
            message, hint = "No COCO file lists a picture.", "Write `images`, with `file_name` and `id` each."
            listing.problems.add(Problem(file=listing.file, message=message, hint=hint))


def _split_of(path: str) -> Split | None:
    """The split that a folder is called, as train2017 is, or a JSON file names, as instances_val does."""
    *folders, last = path.lower().split("/")
    words = [folder.rstrip("0123456789") for folder in folders]
    if last.endswith(".json"):
        words += _WORD.findall(last)
    return next((SPLITS[word] for word in words if word in SPLITS), None)
