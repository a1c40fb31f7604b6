"""Which mask belongs to which picture of an archive: the one with the same path and name.

    [enclosing/]  images/  [train/]  field/1.jpg        [enclosing/]  train/  images/  1.jpg
                  masks/   [train/]  field/1.png                              masks/   1.png
                  labels.txt or classes.json            the split folders are optional

`labels.txt` has a label a line, `classes.json` a list of them, or an object of index and label.
"""

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

import orjson

from models.data.archive import Archive, ArchiveRefused, Member
from models.data.image_manifest import SPLITS, RowError, label_of
from models.data.layout import archive_root, is_litter
from models.data.listing import Entry, Listing, MaskSource
from models.data.pack import IGNORED, Split
from models.data.problems import DataRefused, LeftOut, Problem

IMAGES, MASKS = "images", "masks"
_LABEL_FILES = ("labels.txt", "classes.txt", "classes.json", "labels.json")
_MAX_LABEL_BYTES: Final = 1 << 20
_STRAY = "It is in neither images/ nor masks/."


class Place(NamedTuple):
    """Where a file stands."""

    role: str
    key: str
    """Path and name by which partners find each other."""
    split: Split | None


class PairSource(MaskSource):
    """Pictures and masks of a zip or tar."""

    def __init__(self, archive: Archive, file: str, *, max_image_bytes: int) -> None:
        """Find partners. Raises DataRefused for what only unpacking the labels shows."""
        self._archive = archive
        self.listing = Listing(file=file, layout="images_and_masks")
        self.masks: dict[str, str] = {}
        """Name of a mask to that of its picture."""
        members = [member for member in archive.members if not is_litter(member.name)]
        root = archive_root(members)
        self._list(members, root, max_image_bytes)
        self._read_labels([one for one in members if one.name[len(root) :].lower() in _LABEL_FILES])
        listing = self.listing
        if not (listing.entries or listing.problems or listing.broken):
            listing.problems.add(
                Problem(
                    file=file,
                    message="The archive holds no pictures with masks.",
                    hint="Put pictures into images/ and PNGs of the same names into masks/, or beside them "
                    "COCO's annotations.json.",
                )
            )

    def images(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes]]:
        """See MaskSource."""
        for name, data in self._contents(wanted):
            yield self.listing.entries[name], data

    def mask_files(self, wanted: Collection[str]) -> Iterator[tuple[str, str, bytes]]:
        """See MaskSource."""
        for name, data in self._contents([mask for mask, picture in self.masks.items() if picture in wanted]):
            yield self.masks[name], name, data

    def _contents(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        names = frozenset(wanted)
        try:
            for member, data in self._archive.contents(lambda one: one.name in names):
                yield member.name, data
        except ArchiveRefused as refused:
            raise DataRefused.from_archive(refused, self.listing.file) from refused

    def _list(self, members: list[Member], root: str, max_image_bytes: int) -> None:
        found: dict[str, dict[str, tuple[Member, Split | None]]] = {IMAGES: {}, MASKS: {}}
        for member in members:
            inner = member.name[len(root) :]
            place = place_of(inner, (IMAGES, MASKS))
            if place is None:
                if inner.lower() not in _LABEL_FILES:
                    self.listing.left_out.add(LeftOut(file=member.name, reason=_STRAY))
            elif member.size > max_image_bytes:
                message, hint = f"The file has {member.size} bytes.", f"At most {max_image_bytes}."
                self.listing.broken.add(Problem(file=member.name, message=message, hint=hint))
            elif place.key in found[place.role]:
                first = found[place.role][place.key][0].name
                message = f"{first} has the same name, so that one mask would be of both."
                self.listing.problems.add(
                    Problem(file=member.name, message=message, hint="Rename one of them, and its mask.")
                )
            else:
                found[place.role][place.key] = member, place.split
        for key, (member, split) in found[IMAGES].items():
            if key in found[MASKS]:
                self.listing.entries[member.name] = Entry(member.name, "", split, member.size)
                self.masks[found[MASKS][key][0].name] = member.name
        for role, other in ((IMAGES, MASKS), (MASKS, IMAGES)):
            for key, (member, _) in found[role].items():
                if key not in found[other]:
                    self.listing.broken.add(_alone(member.name, role, key, found[other]))

    def _read_labels(self, files: list[Member]) -> None:
        if not files:
            return
        first, *more = files
        if more or first.size > _MAX_LABEL_BYTES:
            message = f"{more[0].name} names labels too." if more else f"It has {first.size} bytes."
            hint = "Keep one of them." if more else "Write one label a line."
            self.listing.problems.add(Problem(file=first.name, message=message, hint=hint))
            return
        for name, data in self._contents([first.name]):
            try:
                self.listing.labels = _labels(name, data)
            except RowError as error:
                self.listing.problems.add(Problem(file=name, message=error.message, hint=error.hint))


def has_masks(members: Sequence[Member]) -> bool:
    """Whether one of an archive's members stands where masks do."""
    kept = [member for member in members if not is_litter(member.name)]
    start = len(archive_root(kept))
    places = (place_of(member.name[start:], (IMAGES, MASKS)) for member in kept)
    return any(place is not None and place.role == MASKS for place in places)


def place_of(inner: str, roles: Collection[str]) -> Place | None:
    """Role, the name of a folder, key and split of a path below what encloses everything; None for a file
    that has no role."""
    *folders, last = inner.split("/")
    lower = [folder.lower() for folder in folders]
    at = next((at for at, folder in enumerate(lower[:2]) if folder in roles), None)
    if at is None or (at == 1 and lower[0] not in SPLITS):
        return None
    rest = [*folders[:at], *folders[at + 1 :]]
    split = SPLITS.get(rest[0].lower()) if rest else None
    return Place(lower[at], "/".join([*rest, last.rpartition(".")[0] or last]), split)


def _alone(name: str, role: str, key: str, others: Collection[str]) -> Problem:
    lacks = "no mask" if role == IMAGES else "no picture"
    other = MASKS if role == IMAGES else IMAGES
    near = get_close_matches(key, list(others)[:2000], n=1, cutoff=0.8)
    hint = f"Is it {other}/{near[0]}?" if near else f"A picture and its mask have the same name in {other}/."
    return Problem(file=name, message=f"There is {lacks} for it.", hint=hint)


def _labels(name: str, data: bytes) -> tuple[str, ...]:
    """Labels by index. Raises RowError."""
    try:
        text = data.decode("utf-8-sig")
        given = orjson.loads(text) if name.lower().endswith(".json") else text.strip().splitlines()
    except (UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise RowError(f"The labels cannot be read: {error}.", "Write them in UTF-8, one a line.") from error
    if isinstance(given, dict):
        try:
            given = [given[str(index)] for index in range(len(given))]
        except KeyError as error:
            raise RowError(f"The labels have no index {error}.", "Write each index from 0 on.") from error
    if not isinstance(given, list) or not 0 < len(given) <= IGNORED:
        raise RowError("There must be 1 to 255 labels.", "255 itself is for pixels that say nothing.")
    labels = tuple(label_of(label, f"label {index}") for index, label in enumerate(given))
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise RowError(f"The label {twice!r} is there twice.", "Give each index a label of its own.")
    return labels
