"""Which label each image of an archive has: by its folder, or by a manifest.

    [enclosing/]  train/  cats/  1.png      class folders; the split folders are optional
    [enclosing/]  [train/]  metadata.csv  images/1.png      a manifest, relative to its own folder

The class is the folder that holds the image. What computers leave lying about is looked over.
"""

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Final

from models.data.archive import Archive, ArchiveLimits, ArchiveRefused, Member
from models.data.image_manifest import SPLITS, Row, read_manifest
from models.data.listing import Entry, ImageSource, Listing
from models.data.pack import Split
from models.data.problems import DataRefused, LeftOut, Noted, Problem

MAX_MANIFEST_BYTES: Final = 64 << 20
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".svg", ".jp2", ".jxl", ".psd"),
)
"""At the top, what is called otherwise is a note for people. In a class folder all is taken for an image."""
_LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"})
_MAX_GUESSES = 20
"""Rows whose file is missing for which the nearest name is looked for: it is slow."""
_MAX_CANDIDATES = 2000


class ArchiveSource(ImageSource):
    """Images of a zip or tar."""

    def __init__(self, archive: Archive, file: str, *, limits: ArchiveLimits, max_image_bytes: int) -> None:
        """Read the layout. Raises DataRefused for what only unpacking a manifest shows."""
        self._archive = archive
        self._file = file
        members = [member for member in archive.members if not is_litter(member.name)]
        manifests, problems = _find_manifests(members)
        if manifests or problems:
            self.listing = Listing(file=file, layout="manifest", problems=Noted(problems))
            self._list_manifests(manifests, members, limits)
        else:
            self.listing = Listing(file=file, layout="class_folders")
            _list_folders(self.listing, members, archive.folders)
        self._refuse_large(members, max_image_bytes)
        if not (self.listing.entries or self.listing.problems or self.listing.broken):
            self.listing.problems.add(
                Problem(
                    file=file,
                    message="The archive holds no labelled image.",
                    hint="Put the images into one folder per class, or add a metadata.csv.",
                )
            )

    def images(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes]]:
        """See ImageSource."""
        try:
            for member, data in self._archive.contents(lambda one: one.name in wanted):
                yield self.listing.entries[member.name], data
        except ArchiveRefused as refused:
            raise DataRefused.from_archive(refused, self._file) from refused

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()

    def _refuse_large(self, members: Sequence[Member], max_image_bytes: int) -> None:
        entries = self.listing.entries
        for member in members:
            if member.size > max_image_bytes and entries.pop(member.name, None) is not None:
                self.listing.broken.add(
                    Problem(
                        file=member.name,
                        message=f"The image has {member.size} bytes.",
                        hint=f"At most {max_image_bytes}.",
                    )
                )

    def _list_manifests(
        self, manifests: Sequence[Member], members: Sequence[Member], limits: ArchiveLimits
    ) -> None:
        listing = self.listing
        sizes = {member.name: member.size for member in members}
        guess = _Guess(sizes)
        root = archive_root(members)
        lines: dict[str, Row] = {}
        names = {manifest.name for manifest in manifests}
        for manifest, data in self._archive.contents(lambda one: one.name in names):
            table = read_manifest(data, manifest.name, limits)
            listing.problems.extend(table.problems)
            listing.broken.extend(table.broken_rows)
            folder = manifest.name.rpartition("/")[0]
            split_of_table = SPLITS.get(_stem(manifest.name))
            for row in table.rows:
                name = f"{folder}/{row.file}" if folder else row.file
                split = row.split or split_of_table or _split_of(name, root)
                if name not in sizes or name in names:
                    listing.broken.add(_missing(manifest.name, row, guess(name)))
                elif name in lines:
                    listing.problems.add(_listed_twice(manifest.name, row, lines[name]))
                else:
                    lines[name] = row
                    listing.entries[name] = Entry(name, row.label, split, sizes[name])
        for name in sizes:
            if name not in lines and name not in names:
                listing.left_out.add(LeftOut(file=name, reason="The manifest does not list it."))


def is_litter(name: str) -> bool:
    """Whether a member is something that no one put there on purpose."""
    return any(part.startswith(".") or part.lower() in _LITTER for part in name.split("/"))


def archive_root(members: Sequence[Member]) -> str:
    """The folders that enclose everything, with a slash at the end; empty when there are none."""
    root = ""
    while members:
        rest = [member.name[len(root) :] for member in members]
        first = rest[0].partition("/")[0]
        is_shared = all(name.startswith(first + "/") for name in rest)
        is_deep = any(name.count("/") > 1 or _is_table(name.partition("/")[2]) for name in rest)
        if not is_shared or not is_deep or first.lower() in SPLITS:
            break
        root += first + "/"
    return root


def _is_table(name: str) -> bool:
    return "/" not in name and name.lower().endswith((".csv", ".jsonl"))


def _stem(name: str) -> str:
    return name.rpartition("/")[2].lower().rpartition(".")[0]


def _split_of(name: str, root: str) -> Split | None:
    """The split whose folder an image is in."""
    first, slash, _ = name[len(root) :].partition("/")
    return SPLITS.get(first.lower()) if slash else None


def _find_manifests(members: Sequence[Member]) -> tuple[list[Member], list[Problem]]:
    """The tables at the top, or one in each split folder."""
    root = archive_root(members)
    tables = []
    for member in members:
        rest = member.name[len(root) :]
        first, _, inner = rest.partition("/")
        if _is_table(rest) or (first.lower() in SPLITS and _is_table(inner) and _stem(inner) == "metadata"):
            tables.append(member)
    named = [table for table in tables if _stem(table.name) == "metadata"]
    by_split = [table for table in tables if _stem(table.name) in SPLITS]
    chosen = named or (by_split if len(by_split) == len(tables) else tables)
    folders = [table.name.rpartition("/")[0] for table in chosen]
    is_clear = len(chosen) < 2 or chosen is by_split or len(set(folders)) == len(folders)
    problems = []
    if not is_clear:
        listed = ", ".join(table.name for table in chosen[:5])
        problems.append(
            Problem(
                file=chosen[0].name,
                message=f"Any of several tables could be the manifest: {listed}.",
                hint="Name the right one metadata.csv, or take the others out.",
            )
        )
    problems += [
        Problem(
            file=table.name,
            message=f"The manifest has {table.size} bytes.",
            hint=f"At most {MAX_MANIFEST_BYTES}; Parquet holds more.",
        )
        for table in chosen
        if table.size > MAX_MANIFEST_BYTES
    ]
    return ([] if problems else chosen), problems


def _missing(manifest: str, row: Row, near: str | None) -> Problem:
    return Problem(
        file=manifest,
        line=row.line,
        message=f"There is no file {row.file!r}.",
        hint=f"Did you mean {near!r}?" if near else "Paths are relative to the manifest's folder.",
    )


def _listed_twice(manifest: str, row: Row, first: Row) -> Problem:
    labels = "" if row.label == first.label else f", as {first.label!r} and as {row.label!r}"
    return Problem(
        file=manifest,
        line=row.line,
        message=f"{row.file!r} is listed twice{labels}; first on line {first.line}.",
        hint="Keep one of the rows.",
    )


class _Guess:
    """The member that a row may have meant."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._left = _MAX_GUESSES

    def __call__(self, name: str) -> str | None:
        if name in self._names or self._left == 0:
            return None
        self._left -= 1
        folder, _, last = name.rpartition("/")
        same_last = [one for one in self._names if one.rpartition("/")[2].lower() == last.lower()]
        same_folder = [one for one in self._names if one.rpartition("/")[0] == folder]
        for some, cutoff in ((same_last, 0.0), (same_folder, 0.6)):
            if near := get_close_matches(name, some[:_MAX_CANDIDATES], n=1, cutoff=cutoff):
                return near[0]
        return None


def _list_folders(listing: Listing, members: Sequence[Member], folders: Sequence[str]) -> None:
    root = archive_root(members)
    splits = _split_folders(listing, members, root)
    filled: set[str] = set()
    for member in members:
        *inside, last = member.name[len(root) :].split("/")
        folder = member.name.rpartition("/")[0]
        while folder and folder not in filled:
            filled.add(folder)
            folder = folder.rpartition("/")[0]
        split = SPLITS[inside[0].lower()] if inside and inside[0] in splits else None
        if len(inside) > (split is not None):
            listing.entries[member.name] = Entry(member.name, inside[-1], split, member.size)
        elif not last.lower().endswith(IMAGE_SUFFIXES):
            listing.left_out.add(LeftOut(file=member.name, reason="It is no image, and in no class folder."))
        else:
            listing.broken.add(
                Problem(
                    file=member.name,
                    message="The image is in no class folder.",
                    hint="Move it into the folder of its class; the folder's name is the label.",
                )
            )
    for name in folders:
        if name not in filled and not is_litter(name):
            listing.problems.add(
                Problem(
                    file=f"{name}/",
                    message="The folder holds no image.",
                    hint="Put its images in, or take it out.",
                )
            )


def _split_folders(listing: Listing, members: Sequence[Member], root: str) -> set[str]:
    """The top folders that are splits, and not classes that happen to have such a name."""
    paths = [member.name[len(root) :].split("/") for member in members]
    tops = {path[0] for path in paths if len(path) > 1}
    splits = {top for top in tops if top.lower() in SPLITS}
    is_deep = any(len(path) > 2 and path[0] in splits for path in paths)
    if not is_deep and splits != tops:
        return set()
    if splits:
        _check_tops(listing, tops - splits, root)
    return splits


def _check_tops(listing: Listing, others: set[str], root: str) -> None:
    for other in sorted(others):
        near = get_close_matches(other.lower(), SPLITS, n=1)
        listing.problems.add(
            Problem(
                file=f"{root}{other}/",
                message="Beside folders for splits there is one that is none.",
                hint=f"Did you mean {near[0]!r}?"
                if near
                else "Move its images under train/, or take it out.",
            )
        )
