"""Opening somebody else's archive: zip, tar or tar.gz, told apart by content.

    archive.py ─► zip_archive.py ─┐
               └► tar_archive.py ─┴► archive_rules.py

Members are listed and read; nothing is extracted.
"""

from pathlib import Path

from models.data.archive_rules import Archive, ArchiveLimits, ArchiveRefused, Member
from models.data.tar_archive import TarArchive
from models.data.zip_archive import ZipArchive

__all__ = ["Archive", "ArchiveLimits", "ArchiveRefused", "Member", "open_archive"]

_OTHERS = (
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ\0", "packed with xz"),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard"),
    (b"\xff\xd8\xff", "a single JPEG"),
    (b"\x89PNG", "a single PNG"),
    (b"%PDF", "a PDF"),
)
_HEAD_BYTES = 512


def open_archive(path: Path, limits: ArchiveLimits) -> Archive:
    """List a zip, tar or tar.gz and check every member.

    A tar.gz is unpacked once for the list, and once more each time it is read: it has no directory.

    Raises:
        ArchiveRefused: it is no such archive, is damaged, or a member breaks a rule.

    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZipArchive(path, limits)
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return TarArchive(path, limits)
    hint = "Send a zip, tar or tar.gz of images in class folders or with a manifest, or Parquet."
    if not head:
        raise ArchiveRefused("The file is empty.", hint=hint)
    if head.startswith((b"PK\x07\x08", b"PK00PK")):
        raise ArchiveRefused("The zip is one of several parts.", hint="Pack it in one part.")
    what = next((what for magic, what in _OTHERS if head.startswith(magic)), None)
    raise ArchiveRefused(f"The file is {what}." if what else "The file is no archive.", hint=hint)
