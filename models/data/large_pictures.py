"""Which pictures of an archive are to be learnt from, and which small ones belong to them.

[enclosing/]  [train/]  any/folders/1.jpg        large pictures; small ones are made in training
[enclosing/]  [train/]  hr/  any/1.png           pairs: the same path and name in both;
                        lr/  any/1.png           the split folder may be inside hr/ and lr/ as well
"""

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Final

from models.data.archive import Archive, ArchiveRefused, Member
from models.data.image_manifest import SPLITS
from models.data.layout import IMAGE_SUFFIXES, archive_root, is_litter
from models.data.listing import Entry, Listing
from models.data.pack import Split
from models.data.pairs import Place, place_of
from models.data.problems import DataRefused, LeftOut, Problem

LARGE, SMALL = "hr", "lr"
LABEL: Final = "picture"
"""Of every picture: there is nothing to tell apart."""


class PictureSource:
    """Pictures of a zip or tar, with their small ones where it has an `lr/`."""

    def __init__(self, archive: Archive, file: str, *, max_image_bytes: int) -> None:
        self._archive = archive
        members = [member for member in archive.members if not is_litter(member.name)]
        root = archive_root(members)
        places = {member.name: place_of(member.name[len(root) :], (LARGE, SMALL)) for member in members}
        self.has_pairs = any(place is not None and place.role == SMALL for place in places.values())
        self.listing = Listing(file=file, layout="hr_and_lr" if self.has_pairs else "pictures")
        self.small: dict[str, str] = {}
        """Name of a small picture to that of its large one."""
        listing, sound = self.listing, []
        for member in members:
            if member.size > max_image_bytes:
                message, hint = f"The file has {member.size} bytes.", f"At most {max_image_bytes}."
                listing.broken.add(Problem(file=member.name, message=message, hint=hint))
            else:
                sound.append(member)
        if self.has_pairs:
            self._list_pairs(sound, places)
        else:
            self._list_pictures(sound, root)
        if not (listing.entries or listing.problems or listing.broken):
            hint = "Put in pictures, or pairs of them in hr/ and lr/."
            listing.problems.add(Problem(file=file, message="The archive holds no picture.", hint=hint))

    def images(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes]]:
        """Members of these names, large or small, with their bytes, in the archive's order. Raises
        DataRefused."""
        names = frozenset(wanted)
        try:
            for member, data in self._archive.contents(lambda one: one.name in names):
                entry = self.listing.entries.get(member.name)
                yield entry or Entry(member.name, LABEL, None, member.size), data
        except ArchiveRefused as refused:
            raise DataRefused.from_archive(refused, self.listing.file) from refused

    def _list_pictures(self, members: list[Member], root: str) -> None:
        for member in members:
            inner = member.name[len(root) :]
            if not inner.lower().endswith(IMAGE_SUFFIXES):
                self.listing.left_out.add(LeftOut(file=member.name, reason="By its name it is no picture."))
                continue
            first, slash, _ = inner.partition("/")
            split = SPLITS.get(first.lower()) if slash else None
            self.listing.entries[member.name] = Entry(member.name, LABEL, split, member.size)

    def _list_pairs(self, members: list[Member], places: dict[str, Place | None]) -> None:
        found: dict[str, dict[str, tuple[Member, Split | None]]] = {LARGE: {}, SMALL: {}}
        for member in members:
            place = places[member.name]
            if place is None:
                self.listing.left_out.add(LeftOut(file=member.name, reason="It is in neither hr/ nor lr/."))
            elif place.key in found[place.role]:
                first = found[place.role][place.key][0].name
                message = f"{first} has the same name, so that one small picture would be of both."
                hint = "Rename one of them, and its partner."
                self.listing.problems.add(Problem(file=member.name, message=message, hint=hint))
            else:
                found[place.role][place.key] = member, place.split
        for key, (member, split) in found[LARGE].items():
            if key in found[SMALL]:
                self.listing.entries[member.name] = Entry(member.name, LABEL, split, member.size)
                self.small[found[SMALL][key][0].name] = member.name
        for role, other in ((LARGE, SMALL), (SMALL, LARGE)):
            for key, (member, _) in found[role].items():
                if key not in found[other]:
                    self.listing.broken.add(_alone(member.name, key, other, found[other]))


def _alone(name: str, key: str, other: str, others: Collection[str]) -> Problem:
    near = get_close_matches(key, list(others)[:2000], n=1, cutoff=0.8)
    hint = f"Is it {other}/{near[0]}?" if near else f"Partners have the same name in {LARGE}/ and {SMALL}/."
    return Problem(file=name, message=f"There is no picture for it in {other}/.", hint=hint)
