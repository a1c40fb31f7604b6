"""Writers of zips and tars that write any lie."""

import io
import struct
import tarfile
import zlib
from dataclasses import dataclass, field


@dataclass
class Z:
    """One zip member; what is None is told truly."""

    name: str | bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0
    mode: int = 0o100644
    crc32: int | None = None
    size: int | None = None
    packed_size: int | None = None
    packed: bytes | None = None
    local_size: int | None = None
    """In the member's own header, when it is to differ from the directory."""
    local_signature: bytes = b"PK\x03\x04"
    extra: bytes = b""
    where: int | None = None
    """Offset that the directory tells."""
    tail: bytes = b""
    """Behind the packed data, counted with them."""

    @property
    def raw_name(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode("utf-8", "surrogatepass")

    def contents(self) -> bytes:
        if self.packed is not None:
            return self.packed
        if self.method != 8:
            return self.data
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflater.compress(self.data) + deflater.flush() + self.tail


@dataclass
class ZipLies:
    """About the zip as a whole."""

    prefix: bytes = b""
    count: int | None = None
    disk: int = 0
    start: int | None = None
    extra_entries: list[Z] = field(default_factory=list)
    """Only in the directory."""


def raw_zip(members: list[Z], lies: ZipLies | None = None) -> bytes:
    lies = lies or ZipLies()
    out = io.BytesIO()
    out.write(lies.prefix)
    entries = []
    for member in members:
        where = out.tell()
        contents = member.contents()
        facts = _facts(member, contents)
        local_size = facts[2] if member.local_size is None else member.local_size
        head = (member.local_signature, 20, member.flags, member.method, 0, 0, facts[0], facts[1], local_size)
        name = member.raw_name
        out.write(struct.pack("<4s5H3I2H", *head, len(name), 0) + name + contents)
        entries.append((member, where if member.where is None else member.where, facts))
    entries += [
        (member, member.where or 0, _facts(member, member.contents())) for member in lies.extra_entries
    ]
    start = out.tell()
    for member, where, (crc32, packed, size) in entries:
        name = member.raw_name
        head = (b"PK\x01\x02", 3 << 8 | 20, 20, member.flags, member.method, 0, 0, crc32, packed, size)
        rest = (len(name), len(member.extra), 0, 0, 0, member.mode << 16, where)
        out.write(struct.pack("<4s6H3I5H2I", *head, *rest) + name + member.extra)
    stop = out.tell()
    count = len(entries) if lies.count is None else lies.count
    told_start = start if lies.start is None else lies.start
    out.write(
        struct.pack(
            "<4s4H2IH", b"PK\x05\x06", lies.disk, lies.disk, count, count, stop - start, told_start, 0
        )
    )
    return out.getvalue()


def _facts(member: Z, contents: bytes) -> tuple[int, int, int]:
    crc32 = zlib.crc32(member.data) if member.crc32 is None else member.crc32
    packed = len(contents) if member.packed_size is None else member.packed_size
    return crc32, packed, len(member.data) if member.size is None else member.size


def unicode_path(shown: bytes, real: bytes) -> bytes:
    """The extra field with which Info-ZIP tells another name than the header does."""
    body = struct.pack("<BI", 1, zlib.crc32(shown)) + real
    return struct.pack("<HH", 0x7075, len(body)) + body


def zip64_sizes(*sizes: int) -> bytes:
    return struct.pack("<HH", 1, 8 * len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)


def tar_member(
    name: str | bytes,
    data: bytes = b"",
    *,
    kind: bytes = b"0",
    size: int | None = None,
    size_field: bytes | None = None,
    checksum: int | None = None,
) -> bytes:
    """One member: header and padded contents."""
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    number = len(data) if size is None else size
    block = bytearray(512)
    block[: len(raw[:100])] = raw[:100]
    block[100:108] = b"0000644\0"
    block[108:116] = block[116:124] = b"0000000\0"
    block[124:136] = size_field or b"%011o\0" % number
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) if checksum is None else checksum)
    return bytes(block) + data + bytes(-len(data) % 512)


def pax(kind: bytes = b"x", **records: str | bytes) -> bytes:
    """An extended header; `__` in a key stands for a dot."""
    body = b""
    for key, value in records.items():
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        record = b" " + key.replace("__", ".").encode() + b"=" + raw + b"\n"
        length = len(record)
        while len(str(length)) + len(record) != length:
            length = len(str(length)) + len(record)
        body += str(length).encode() + record
    return tar_member("pax", body, kind=kind)


TAR_END = bytes(tarfile.RECORDSIZE)
