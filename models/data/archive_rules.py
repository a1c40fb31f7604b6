"""What every archive must keep to, whatever its format: names, kinds, counts, sizes, ratios.

An archive is somebody else's. Nothing of it is ever written under a name it chose, and each rule is checked
before what it limits is allocated.
"""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

PIECE_BYTES = 1 << 20
"""Contents are read in pieces of at most this size."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What an archive may claim and unpack to."""

    max_members: int = 500_000
    """Files and folders together."""
    max_total_bytes: int = 64 << 30
    """Of all files, unpacked."""
    max_member_bytes: int = 2 << 30
    """Of one file, unpacked."""
    max_ratio: int = 120
    """Unpacked ÷ packed, of each file and of all together. Photos are near 1, tables near 20."""
    free_bytes: int = 1 << 20
    """Up to this size the ratio is not looked at: a small table of one repeated word is no bomb."""
    max_name_bytes: int = 1024
    max_depth: int = 32
    """Folders in a path."""


class ArchiveRefused(ValueError):
    """The archive breaks a rule; `name` is the member that does, as it can be shown, if it is one."""

    def __init__(self, message: str, *, name: str | None = None, hint: str | None = None) -> None:
        super().__init__(message if name is None else f"{name}: {message}")
        self.message = message
        self.name = name
        self.hint = hint


class Member(NamedTuple):
    """A regular file of an archive that may be read."""

    name: str
    """Relative, with forward slashes, without `.` and `..`."""
    size: int
    """Bytes, unpacked."""
    where: int = 0
    """Offset of its header in a zip, of its contents in a tar."""
    packed_bytes: int = 0
    crc32: int = 0
    is_deflated: bool = False


class Archive(ABC):
    """An archive whose names, kinds and claimed sizes have been checked; a context manager.

    What only unpacking can show (a wrong checksum, a size that was a lie) is refused when it is unpacked.
    """

    members: tuple[Member, ...]
    """Its files, in its order."""
    folders: tuple[str, ...]
    """Folders it lists for themselves."""

    @abstractmethod
    def unpack(self, wanted: Callable[[Member], bool]) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """The wanted files in the archive's order, each in pieces that are taken before the next file.

        Raises ArchiveRefused.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def contents(self, wanted: Callable[[Member], bool]) -> Iterator[tuple[Member, bytes]]:
        """The wanted files, one at a time, whole. Raises ArchiveRefused."""
        for member, pieces in self.unpack(wanted):
            yield member, b"".join(pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Ledger:
    """Takes down each member an archive claims, and refuses the one that is too much."""

    def __init__(self, limits: ArchiveLimits, archive_bytes: int) -> None:
        self._limits = limits
        self._archive_bytes = archive_bytes
        self._names: set[str] = set()
        self._count = 0
        self._total_bytes = 0

    def file(self, raw_name: str, size: int, *, packed_bytes: int | None = None) -> str:
        """Check a file; returns the name it may be known by. Raises ArchiveRefused."""
        name = self._counted(raw_name)
        limits = self._limits
        # The same name in two normal forms is one file on some systems and two on others.
        key = name if name.isascii() else unicodedata.normalize("NFC", name)
        if key in self._names:
            raise ArchiveRefused("The name is there twice.", name=name, hint="Pack the folder anew.")
        self._names.add(key)
        if _ARCHIVE_NAME.search(name):
            raise ArchiveRefused(
                "It is an archive inside an archive, which is not opened.",
                name=name,
                hint="Unpack it, and put its files in the outer archive.",
            )
        if size > limits.max_member_bytes:
            raise ArchiveRefused(
                f"It claims {size} bytes.", name=name, hint=f"At most {limits.max_member_bytes} in one file."
            )
        if packed_bytes is not None and size > max(limits.free_bytes, packed_bytes * limits.max_ratio):
            raise _bomb(f"It unpacks from {packed_bytes} to {size} bytes", limits, name)
        self._total_bytes += size
        if self._total_bytes > limits.max_total_bytes:
            raise ArchiveRefused(
                f"The files up to this one claim {self._total_bytes} bytes.",
                name=name,
                hint=f"At most {limits.max_total_bytes} unpacked; make several data sets, or smaller images.",
            )
        check_ratio(self._total_bytes, self._archive_bytes, limits, name)
        return name

    def folder(self, raw_name: str) -> str:
        """Check a folder that is listed for itself. Raises ArchiveRefused."""
        return self._counted(raw_name)

    def _counted(self, raw_name: str) -> str:
        self._count += 1
        if self._count > self._limits.max_members:
            raise ArchiveRefused(
                f"There are more than {self._limits.max_members} members.", name=shown(raw_name)
            )
        return safe_name(raw_name, self._limits)


def check_ratio(
    unpacked_bytes: int, packed_bytes: int, limits: ArchiveLimits, name: str | None = None
) -> None:
    """Refuse what expands absurdly. Raises ArchiveRefused."""
    if unpacked_bytes > max(limits.free_bytes, packed_bytes * limits.max_ratio):
        raise _bomb(f"{packed_bytes} bytes unpack to {unpacked_bytes} and more", limits, name)


def _bomb(message: str, limits: ArchiveLimits, name: str | None) -> ArchiveRefused:
    return ArchiveRefused(
        f"{message}, as a decompression bomb does.",
        name=name,
        hint=f"At most {limits.max_ratio} times its packed size.",
    )


_ARCHIVE_NAME = re.compile(r"\.(?:zip|tar|tgz|tbz2?|txz|gz|bz2|xz|zst|7z|rar)$", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_FORBIDDEN = re.compile(
    "["
    "\\x00-\\x1f\\x7f-\\x9f"  # controls
    "\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff"  # turn text around, or are not seen
    "\\ud800-\\udfff\\ufff0-\\uffff"  # no characters
    "\\U000e0000-\\U000e0fff"
    "]"
)


def safe_name(raw: str, limits: ArchiveLimits) -> str:
    """A member's name as a relative path with forward slashes. Raises ArchiveRefused."""
    if len(raw.encode("utf-8", "surrogatepass")) > limits.max_name_bytes:
        raise ArchiveRefused("The name is too long.", name=shown(raw))
    if bad := _FORBIDDEN.search(raw):
        raise ArchiveRefused(
            f"The name holds the invisible character U+{ord(bad.group()):04X}.",
            name=shown(raw),
            hint="Rename the file with characters that can be seen.",
        )
    parts = _checked_parts(raw, raw)
    if not raw.isascii():
        # Full-width dots and slashes become plain ones where names are normalised.
        _checked_parts(unicodedata.normalize("NFKC", raw), raw)
    if not parts:
        raise ArchiveRefused("A member has no name.", name=shown(raw))
    if len(parts) > limits.max_depth:
        raise ArchiveRefused(f"The path has more than {limits.max_depth} folders.", name=shown(raw))
    return "/".join(parts)


def _checked_parts(path: str, raw: str) -> list[str]:
    path = path.replace("\\", "/")
    if path.startswith("/") or _DRIVE.match(path):
        raise ArchiveRefused(
            "The path is absolute.", name=shown(raw), hint="Pack the folder with relative paths."
        )
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if any(not part.strip(" .") for part in parts):  # `..`, and what some systems take for it
        raise ArchiveRefused(
            "The path leads out of the archive.", name=shown(raw), hint="Pack the folder without `..`."
        )
    return parts


def shown(raw: str) -> str:
    """A hostile name as it can be printed: escaped, and not endless."""
    printable = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in raw[:_SHOWN_CHARACTERS])
    return printable + ("…" if len(raw) > _SHOWN_CHARACTERS else "")


_SHOWN_CHARACTERS = 160
