"""A zip of stored members whose sizes and checksums are known: its length is known before its first byte, and
it is made piece by piece.

The standard library cannot write such a one to a pipe: there it puts sizes behind the bytes, which readers
that read from a pipe themselves refuse for stored members. Layout: PKWARE, APPNOTE.TXT 6.3.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_LARGE = 0xFFFFFFFF
"""What does not fit into 32 bits, and in its place says: see the extra field."""
_PLAIN, _ZIP64 = 20, 45
"""Versions needed to extract."""
_UTF8 = 1 << 11
_UNIX = 3 << 8
_READABLE = 0o100644 << 16


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of a zip."""

    name: str
    size_bytes: int
    crc32: int
    chunks: Callable[[], Iterator[bytes]]
    """Opens its bytes; called when their turn comes."""


class StoredZip:
    """A zip to be. The same members and moment give the same bytes."""

    def __init__(self, members: Sequence[Member], *, created_at: float) -> None:
        """`created_at`: seconds since the epoch, the time that every member gets."""
        self._members = members
        self._moment = _dos_moment(created_at)
        self._offsets = []
        at = 0
        for member in members:
            self._offsets.append(at)
            at += len(self._local(member)) + member.size_bytes
        self._directory_at = at

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self._directory_at + sum(map(len, self._ending()))

    def stream(self) -> Iterator[bytes]:
        """Its bytes, in pieces as the members give them."""
        for member in self._members:
            yield self._local(member)
            yield from member.chunks()
        yield from self._ending()

    def _local(self, member: Member) -> bytes:
        name = member.name.encode()
        extra = (
            struct.pack("<2H2Q", 1, 16, member.size_bytes, member.size_bytes) if _is_large(member) else b""
        )
        size = _LARGE if extra else member.size_bytes
        version = _ZIP64 if extra else _PLAIN
        return (
            _LOCAL.pack(
                b"PK\3\4", version, _UTF8, 0, *self._moment, member.crc32, size, size, len(name), len(extra)
            )
            + name
            + extra
        )

    def _ending(self) -> Iterator[bytes]:
        directory = b"".join(map(self._central, self._members, self._offsets))
        yield directory
        count, size, at = len(self._members), len(directory), self._directory_at
        if at >= _LARGE or any(map(_is_large, self._members)):
            yield _END64.pack(
                b"PK\6\6", _END64.size - 12, _UNIX | _ZIP64, _ZIP64, 0, 0, count, count, size, at
            )
            yield _LOCATOR.pack(b"PK\6\7", 0, at + size, 1)
        yield _END.pack(b"PK\5\6", 0, 0, count, count, size, min(at, _LARGE), 0)

    def _central(self, member: Member, offset: int) -> bytes:
        name = member.name.encode()
        wide = [member.size_bytes] * 2 if _is_large(member) else []
        wide += [offset] if offset >= _LARGE else []
        extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        size = _LARGE if _is_large(member) else member.size_bytes
        version = _ZIP64 if extra else _PLAIN
        head = (b"PK\1\2", _UNIX | version, version, _UTF8, 0, *self._moment, member.crc32, size, size)
        tail = (len(name), len(extra), 0, 0, 0, _READABLE, min(offset, _LARGE))
        return _CENTRAL.pack(*head, *tail) + name + extra


def _is_large(member: Member) -> bool:
    return member.size_bytes >= _LARGE


def _dos_moment(seconds: float) -> tuple[int, int]:
    """Time and date in two seconds' steps, from 1980 to 2107, as zips have them."""
    moment = datetime.fromtimestamp(seconds, UTC)
    year = min(max(moment.year, 1980), 2107)
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return time, (year - 1980) << 9 | moment.month << 5 | moment.day
