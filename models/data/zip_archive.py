"""Zip, read strictly: one directory, where it says it is, that its members agree with.

    member: header, name, contents │ … │ directory: one entry per member │ [zip64 end] │ end
                                         └─ offsets of the headers        └─ where the directory is

The standard library's reader loads the whole directory as objects before it can be counted; this one reads
entry by entry. Layout: PKWARE's APPNOTE 6.3.10.
"""

import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct, unpack_from
from struct import error as struct_error
from typing import BinaryIO, Final, NamedTuple

from models.data.archive_rules import (
    PIECE_BYTES,
    Archive,
    ArchiveLimits,
    ArchiveRefused,
    Ledger,
    Member,
    shown,
)

_END: Final = Struct("<4s4H2IH")
_END64_LOCATOR: Final = Struct("<4sIQI")
_END64: Final = Struct("<4sQ2H2I4Q")
_ENTRY: Final = Struct("<4s6H3I5H2I")
_HEADER: Final = Struct("<4s5H3I2H")
_MAX_COMMENT_BYTES = 65_535
_ALL16, _ALL32 = 0xFFFF, 0xFFFFFFFF
_UTF8, _HAS_DESCRIPTOR, _ENCRYPTED = 1 << 11, 1 << 3, 1 | 1 << 6 | 1 << 13
_STORED, _DEFLATED, _AES = 0, 8, 99
_ZIP64_FIELD, _UNICODE_PATH_FIELD = 0x0001, 0x7075
_REPACK = "Pack it anew as a plain zip (stored or deflated)."


class ZipArchive(Archive):
    """A zip that keeps to the rules."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        """Raises ArchiveRefused."""
        self._file = path.open("rb")
        try:
            self._read_directory(path.stat().st_size, limits)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_directory(self, size: int, limits: ArchiveLimits) -> None:
        directory = _find_directory(self._file, size)
        if directory.members > limits.max_members:
            raise ArchiveRefused(
                f"The zip has {directory.members} members.", hint=f"At most {limits.max_members}."
            )
        ledger = Ledger(limits, size)
        members: list[Member] = []
        folders: list[str] = []
        self._file.seek(directory.start)
        at, count = directory.start, 0
        while at < directory.stop:
            entry = _read_entry(self._file, directory.stop - at)
            at, count = at + entry.length, count + 1
            entry.check_kind()
            if entry.raw_name.endswith(("/", "\\")):
                folders.append(ledger.folder(entry.raw_name))
                continue
            name = ledger.file(entry.raw_name, entry.size, packed_bytes=entry.packed_bytes)
            if entry.is_stored and entry.size != entry.packed_bytes:
                raise ArchiveRefused("It is stored, and yet has two sizes.", name=name)
            is_deflated = not entry.is_stored
            members.append(
                Member(name, entry.size, entry.where, entry.packed_bytes, entry.crc32, is_deflated)
            )
        if count != directory.members:
            raise ArchiveRefused(f"The zip says {directory.members} members and lists {count}.")
        _check_overlaps(members, directory.start)
        self.members, self.folders = tuple(members), tuple(folders)

    def unpack(self, wanted: Callable[[Member], bool]) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """See Archive."""
        for member in self.members:
            if wanted(member):
                yield member, self._pieces(member)

    def _pieces(self, member: Member) -> Iterator[bytes]:
        self._file.seek(self._contents_offset(member))
        unpacked_bytes, crc32 = 0, 0
        inflater = _Inflater() if member.is_deflated else None
        left = member.packed_bytes
        while left or (inflater and not inflater.is_done):
            if inflater is None or inflater.wants_more:
                packed = self._file.read(min(left, PIECE_BYTES))
                if not packed:
                    raise ArchiveRefused("It ends before its size says so.", name=member.name)
                left -= len(packed)
            else:
                packed = b""
            try:
                piece = inflater.inflate(packed) if inflater else packed
            except zlib.error as error:
                raise ArchiveRefused("Its packed data are damaged.", name=member.name) from error
            unpacked_bytes += len(piece)
            if unpacked_bytes > member.size:
                raise ArchiveRefused(f"It says {member.size} bytes, and holds more.", name=member.name)
            crc32 = zlib.crc32(piece, crc32)
            yield piece
            if inflater and inflater.is_done and (left or inflater.has_rest):
                raise ArchiveRefused("Something lies behind its packed data.", name=member.name)
        if unpacked_bytes != member.size:
            raise ArchiveRefused(
                f"It says {member.size} bytes, and holds {unpacked_bytes}.", name=member.name
            )
        if crc32 != member.crc32:
            raise ArchiveRefused("Its checksum does not match: it is damaged.", name=member.name)

    def _contents_offset(self, member: Member) -> int:
        """Where the contents begin, once the member's own header has been compared with the directory."""
        self._file.seek(member.where)
        head = self._file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(b"PK\x03\x04"):
            raise ArchiveRefused("It is not where the zip's directory says.", name=member.name)
        _, _, flags, method, _, _, crc32, packed_bytes, size, name_bytes, extra_bytes = _HEADER.unpack(head)
        told = (method, crc32, packed_bytes, size)
        known = (
            _DEFLATED if member.is_deflated else _STORED,
            member.crc32,
            member.packed_bytes,
            member.size,
        )
        is_told_later = flags & _HAS_DESCRIPTOR
        is_long = _ALL32 in {packed_bytes, size}
        if flags & _ENCRYPTED or (not is_told_later and not is_long and told != known):
            raise ArchiveRefused(
                "Its header and the zip's directory contradict each other.", name=member.name
            )
        offset: int = member.where + _HEADER.size + name_bytes + extra_bytes
        return offset


class _Inflater:
    """Inflates without ever making more than a piece."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._made_full_piece = False

    def inflate(self, packed: bytes) -> bytes:
        piece = self._stream.decompress(self._stream.unconsumed_tail + packed, PIECE_BYTES)
        self._made_full_piece = len(piece) == PIECE_BYTES
        return piece

    @property
    def wants_more(self) -> bool:
        return not self._stream.unconsumed_tail and not self._made_full_piece

    @property
    def is_done(self) -> bool:
        return self._stream.eof

    @property
    def has_rest(self) -> bool:
        return bool(self._stream.unused_data)


class _Directory(NamedTuple):
    start: int
    stop: int
    members: int


def _find_directory(file: BinaryIO, size: int) -> _Directory:
    """Read the zip's end. Raises ArchiveRefused."""
    tail_start = max(0, size - _END.size - _MAX_COMMENT_BYTES)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0 and not _is_end(tail, at):
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if at < 0:
        raise ArchiveRefused("The zip is cut short: its directory is missing.", hint="Send it again.")
    _, disk, first_disk, here, count, length, start, _ = _END.unpack_from(tail, at)
    stop = tail_start + at
    if _ALL16 in {here, count} or _ALL32 in {length, start}:
        end64 = _read_end64(file, stop)
        if end64 is not None:
            disk, first_disk, here, count, length, start, stop = end64
    if disk or first_disk or here != count:
        raise ArchiveRefused("The zip is one of several parts.", hint="Pack it in one part.")
    if start + length != stop:
        raise ArchiveRefused("The zip's directory is not where it says.", hint=_REPACK)
    return _Directory(start, stop, count)


def _is_end(tail: bytes, at: int) -> bool:
    if at + _END.size > len(tail):
        return False
    comment_bytes: int = _END.unpack_from(tail, at)[-1]
    is_last: bool = at + _END.size + comment_bytes == len(tail)
    return is_last


def _read_end64(file: BinaryIO, end: int) -> tuple[int, int, int, int, int, int, int] | None:
    """The zip64 end before the plain one, and where it lies; None if there is none."""
    file.seek(max(0, end - _END64_LOCATOR.size))
    locator = file.read(_END64_LOCATOR.size)
    if len(locator) < _END64_LOCATOR.size or not locator.startswith(b"PK\x06\x07"):
        return None
    where = _END64_LOCATOR.unpack(locator)[2]
    if where + _END64.size > end:
        raise ArchiveRefused("The zip's directory is not where it says.", hint=_REPACK)
    file.seek(where)
    signature, _, _, _, disk, first_disk, here, count, length, start = _END64.unpack(file.read(_END64.size))
    if signature != b"PK\x06\x06":
        raise ArchiveRefused("The zip's directory is not where it says.", hint=_REPACK)
    return disk, first_disk, here, count, length, start, where


class _Entry(NamedTuple):
    raw_name: str
    flags: int
    method: int
    crc32: int
    packed_bytes: int
    size: int
    mode: int
    """Unix mode, 0 where it is not told."""
    where: int
    length: int
    """Of the entry itself, bytes."""

    @property
    def is_stored(self) -> bool:
        return self.method == _STORED

    def check_kind(self) -> None:
        """Refuse all but plain files and folders."""
        if self.flags & _ENCRYPTED or self.method == _AES:
            raise ArchiveRefused(
                "It is encrypted.", name=shown(self.raw_name), hint="Pack it without a password."
            )
        if self.method not in {_STORED, _DEFLATED}:
            raise ArchiveRefused(
                f"It is packed with method {self.method}.", name=shown(self.raw_name), hint=_REPACK
            )
        kind = stat.S_IFMT(self.mode)
        if kind == stat.S_IFLNK:
            raise ArchiveRefused(
                "It is a link.", name=shown(self.raw_name), hint="Pack the file that it leads to."
            )
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise ArchiveRefused("It is a device or another special file.", name=shown(self.raw_name))


def _read_entry(file: BinaryIO, room: int) -> _Entry:
    head = file.read(_ENTRY.size)
    if room < _ENTRY.size or len(head) < _ENTRY.size or not head.startswith(b"PK\x01\x02"):
        raise ArchiveRefused("The zip's directory is damaged.", hint="Send it again.")
    fields = _ENTRY.unpack(head)
    flags, method, crc32, packed_bytes, size = fields[3], fields[4], fields[7], fields[8], fields[9]
    name_bytes, extra_bytes, comment_bytes = fields[10:13]
    mode, where = fields[15] >> 16, fields[16]
    length = _ENTRY.size + name_bytes + extra_bytes + comment_bytes
    if length > room:
        raise ArchiveRefused("The zip's directory is damaged.", hint="Send it again.")
    rest = file.read(length - _ENTRY.size)
    extras = dict(_extras(rest[name_bytes : name_bytes + extra_bytes]))
    name = _name(rest[:name_bytes], flags, extras.get(_UNICODE_PATH_FIELD))
    if _ALL32 in {size, packed_bytes, where}:
        # Only the fields that did not fit are in the long form, in this order.
        longs, shorts = _longs(extras.get(_ZIP64_FIELD, b"")), (size, packed_bytes, where)
        if len(longs) < shorts.count(_ALL32):
            raise ArchiveRefused("The zip's directory does not tell its size.", name=shown(name))
        size, packed_bytes, where = (longs.pop(0) if short == _ALL32 else short for short in shorts)
    return _Entry(name, flags, method, crc32, packed_bytes, size, mode, where, length)


def _longs(field: bytes) -> list[int]:
    return list(unpack_from(f"<{len(field) // 8}Q", field))


def _extras(block: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(block):
        kind, length = unpack_from("<HH", block, at)
        yield kind, block[at + 4 : at + 4 + length]
        at += 4 + length


def _name(raw: bytes, flags: int, unicode_path: bytes | None) -> str:
    """As its writer meant it. Many write UTF-8 without saying so; the format's own default is cp437."""
    try:
        if unicode_path is not None and unpack_from("<BI", unicode_path) == (1, zlib.crc32(raw)):
            return unicode_path[5:].decode()
        return raw.decode()
    except (UnicodeDecodeError, struct_error) as error:
        if flags & _UTF8 or unicode_path is not None:
            raise ArchiveRefused(
                "The name is not the UTF-8 it says it is.", name=shown(raw.decode("latin-1")), hint=_REPACK
            ) from error
        return raw.decode("cp437")


def _check_overlaps(members: list[Member], directory_start: int) -> None:
    """Refuse members that share their bytes, as the best bombs do (Fifield, "A better zip bomb", 2019)."""
    stop = 0
    for member in sorted(members, key=lambda one: one.where):
        if member.where < stop:
            raise ArchiveRefused("It shares its bytes with another member.", name=member.name)
        # At least: the header's own name and extra fields are looked at when it is read.
        stop = member.where + _HEADER.size + member.packed_bytes
    if stop > directory_start:
        raise ArchiveRefused("The zip is shorter than its members say.", hint="Send it again.")
