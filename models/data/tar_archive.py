"""Tar and tar.gz, read strictly and from front to back.

    header (512) │ contents, padded to 512 │ header │ … │ zeros (512)

A header may be preceded by others that extend it: pax (`x`: key=value, a path and a size) and GNU (`L`: a
long name). Extensions are bounded, links, devices and sparse files are refused, and what two headers say
about one thing must agree. Layouts: POSIX.1-2017 pax, GNU tar's manual.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from models.data.archive_rules import (
    PIECE_BYTES,
    Archive,
    ArchiveLimits,
    ArchiveRefused,
    Ledger,
    Member,
    check_ratio,
    shown,
)

_BLOCK_BYTES = 512
_ZEROS: Final = bytes(_BLOCK_BYTES)
_MAX_EXTENSION_BYTES = 1 << 20
_MAX_EXTENSIONS = 8
"""Before one member."""
_LARGEST_OCTAL = 8**11
_REGULAR = frozenset({b"0", b"\0", b"7"})
_FOLDER = b"5"
_KINDS = {
    b"1": ("a hard link", "Pack with --hard-dereference."),
    b"2": ("a link", "Pack with --dereference, or without it."),
    b"3": ("a device", None),
    b"4": ("a device", None),
    b"6": ("a pipe", None),
    b"S": ("a sparse file", "Pack without --sparse."),
}


class TarArchive(Archive):
    """A tar, packed with gzip or not, that keeps to the rules."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        """Raises ArchiveRefused."""
        self._path = path
        self._limits = limits
        folders: list[str] = []
        self.members = tuple(member for member, _ in self._walk(folders))
        self.folders = tuple(folders)

    def close(self) -> None:
        """Each pass opens the file for itself: nothing is left to close."""

    def unpack(self, wanted: Callable[[Member], bool]) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """See Archive."""
        for member, tape in self._walk([]):
            if wanted(member):
                yield member, tape.pieces(member.size)

    def _walk(self, folders: list[str]) -> Iterator[tuple[Member, "_Tape"]]:
        """Each file, with the tape standing at its contents; whatever is not read of them is skipped."""
        with self._path.open("rb") as file:
            tape = _Tape(file, self._limits)
            ledger = Ledger(self._limits, self._path.stat().st_size)
            while (header := _read_header(tape)) is not None:
                header.check_kind()
                if header.kind == _FOLDER:
                    if header.raw_name.strip("/") not in {"", "."}:
                        folders.append(ledger.folder(header.raw_name))
                    tape.skip(_padded(header.size))
                    continue
                name = ledger.file(header.raw_name, header.size)
                contents = tape.at
                if not tape.holds(header.size):
                    raise ArchiveRefused(f"It says {header.size} bytes, more than are there.", name=name)
                yield Member(name, header.size, where=contents), tape
                tape.skip(contents + _padded(header.size) - tape.at)
            tape.drain()


class _Tape:
    """The tar's bytes from front to back, unpacked on the way when it is a gzip, with an eye on bombs."""

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)
        self._is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._stream = gzip.GzipFile(fileobj=file) if self._is_packed else file
        self._limits = limits
        self.at = 0
        """Bytes unpacked so far."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, fewer only at the end. Raises ArchiveRefused."""
        try:
            data = self._stream.read(size)
        except (EOFError, OSError, zlib.error) as error:
            raise ArchiveRefused(
                "The archive is cut short or damaged: its gzip ends badly.", hint="Send it again."
            ) from error
        self.at += len(data)
        if self._is_packed:
            check_ratio(self.at, self._file.tell(), self._limits)
        return data

    def exactly(self, size: int) -> bytes:
        """Bytes that have to be there. Raises ArchiveRefused."""
        data = self.read(size)
        if len(data) < size:
            raise ArchiveRefused("The archive is cut short.", hint="Send it again.")
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        """`size` bytes in pieces. Raises ArchiveRefused."""
        while size:
            piece = self.exactly(min(size, PIECE_BYTES))
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        """Go on. Raises ArchiveRefused when the end comes first."""
        if not self._is_packed and self.at + size <= self._size:
            self.at = self._file.seek(size, 1)
            return
        for _ in self.pieces(size):
            pass

    def holds(self, size: int) -> bool:
        """Whether that many bytes can follow; only a guess that is never wrong when it says no."""
        return self._is_packed or self.at + size <= self._size

    def drain(self) -> None:
        """Read on to the end, so that a gzip's checksum is looked at. Raises ArchiveRefused."""
        if self._is_packed:
            while self.read(PIECE_BYTES):
                pass


@dataclass
class _Header:
    raw_name: str
    size: int
    kind: bytes

    def check_kind(self) -> None:
        """Refuse all but plain files and folders."""
        if self.kind in _REGULAR or self.kind == _FOLDER:
            return
        what, hint = _KINDS.get(self.kind, ("of a kind that is not read", None))
        raise ArchiveRefused(f"It is {what}.", name=shown(self.raw_name), hint=hint)


@dataclass
class _Extension:
    """What the headers before a header say about it."""

    path: str | None = None
    size: int | None = None
    count: int = field(default=0)

    def add(self, tape: _Tape, header: _Header) -> None:
        """Take in a `x`, `g`, `L` or `K` header's contents. Raises ArchiveRefused."""
        self.count += 1
        name = shown(header.raw_name)
        if self.count > _MAX_EXTENSIONS:
            raise ArchiveRefused("Too many extended headers in a row.", name=name)
        if header.size > _MAX_EXTENSION_BYTES:
            raise ArchiveRefused(f"An extended header of {header.size} bytes.", name=name)
        data = tape.exactly(header.size)
        tape.skip(_padded(header.size) - header.size)
        if header.kind == b"L":
            self.path = _text(data.rstrip(b"\0"))
        elif header.kind == b"K":
            raise ArchiveRefused("It is a link.", name=name)
        else:
            self._add_pax(data, name, is_global=header.kind == b"g")

    def _add_pax(self, data: bytes, name: str, *, is_global: bool) -> None:
        for key, value in _pax_records(data, name):
            if key.startswith("GNU.sparse"):
                raise ArchiveRefused("It is a sparse file.", name=name, hint="Pack without --sparse.")
            if key not in {"path", "size"}:
                continue
            if is_global:
                raise ArchiveRefused(f"A global header gives every member one {key}.", name=name)
            if key == "path":
                self.path = _text(value)
            elif value.isdigit() and len(value) < 20:
                self.size = int(value)
            else:
                raise ArchiveRefused("An extended header is damaged.", name=name)


def _pax_records(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """`length key=value` and a line feed, the length counting all of it. Raises ArchiveRefused."""
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 20)
        digits = data[at:space]
        stop = at + int(digits) if space > at and digits.isdigit() else 0
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if stop <= space or stop > len(data) or not equals or data[stop - 1 : stop] != b"\n":
            raise ArchiveRefused("An extended header is damaged.", name=name)
        yield _text(key), value
        at = stop


def _read_header(tape: _Tape) -> _Header | None:
    """The next member's header with all its extensions; None at the archive's end."""
    extension = _Extension()
    while True:
        block = tape.exactly(_BLOCK_BYTES)
        if block == _ZEROS:
            if extension.count:
                raise ArchiveRefused("The archive ends after an extended header.")
            return None
        header = _parse(block)
        if header.kind not in {b"x", b"g", b"L", b"K"}:
            break
        extension.add(tape, header)
    if extension.path is not None:
        header.raw_name = extension.path
    if extension.size is not None:
        # The long form is for what does not fit the short one. Where it does, readers of either must see one
        # archive.
        if extension.size < _LARGEST_OCTAL and extension.size != header.size:
            raise ArchiveRefused("Its two headers contradict each other.", name=shown(header.raw_name))
        header.size = extension.size
    return header


def _parse(block: bytes) -> _Header:
    checksum = _number(block[148:156])
    if checksum != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise ArchiveRefused("A header is damaged: its checksum does not match.", hint="Send it again.")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    kind = block[156:157]
    if kind in {b"\0", b"0"} and name.endswith(b"/"):
        kind = _FOLDER  # as before 1988
    return _Header(_text(name), _number(block[124:136]), kind)


def _number(raw: bytes) -> int:
    """Octal digits, or GNU's base 256 for what they cannot hold."""
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:], "big")
    digits = raw.strip(b" \0") or b"0"
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise ArchiveRefused("A header is damaged: a number is none.", hint="Send it again.")
    return int(digits, 8)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ArchiveRefused(
            "The name is not UTF-8.", name=shown(raw.decode("latin-1")), hint="Pack it anew with UTF-8 names."
        ) from error


def _padded(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
