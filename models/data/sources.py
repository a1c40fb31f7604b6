"""From an uploaded file to the images in it: which reader it needs is seen from its first bytes."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from models.data.archive import Archive, ArchiveLimits, ArchiveRefused, open_archive
from models.data.layout import ArchiveSource, is_litter
from models.data.listing import ImageSource
from models.data.problems import DataRefused, LeftOut, Problem
from models.tasks.image_facts import ImageLimits

_PARQUET_MAGIC = b"PAR1"
_TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt")


@dataclass(frozen=True, kw_only=True)
class DataLimits:
    """What a data set may cost."""

    archive: ArchiveLimits = field(default_factory=ArchiveLimits)
    image: ImageLimits = field(default_factory=ImageLimits)
    max_image_bytes: int = 64 << 20


def open_sources(path: Path, scratch: Path, limits: DataLimits, stack: ExitStack) -> list[ImageSource]:
    """The images of one file; several sources when it is an archive of Parquet files.

    `scratch` is a folder for files without a name; `stack` closes all that is opened.

    Raises:
        DataRefused: the archive breaks a rule, or the file is of another kind.

    """
    with path.open("rb") as file:
        is_parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    if is_parquet:
        return [_open_parquet(path, path.name, limits, stack)]
    try:
        archive = stack.enter_context(open_archive(path, limits.archive))
        if any(_is_parquet(member.name) for member in archive.members):
            return _open_inner_parquet(archive, scratch, limits, stack)
        source = ArchiveSource(
            archive, path.name, limits=limits.archive, max_image_bytes=limits.max_image_bytes
        )
    except ArchiveRefused as refused:
        if refused.name is None and path.name.lower().endswith(_TABLE_SUFFIXES):
            raise DataRefused([_table_alone(path.name)]) from refused
        raise DataRefused.from_archive(refused, path.name) from refused
    return [source]


def _table_alone(file: str) -> Problem:
    return Problem(
        file=file,
        message="A table alone holds no images.",
        hint="Pack it as metadata.csv or metadata.jsonl into one zip with the images it lists.",
    )


def _is_parquet(name: str) -> bool:
    return name.lower().endswith(".parquet") and not is_litter(name)


def _open_inner_parquet(
    archive: Archive, scratch: Path, limits: DataLimits, stack: ExitStack
) -> list[ImageSource]:
    """Parquet is read from its end: each file is unpacked into one that has no name and ends with us."""
    sources: list[ImageSource] = []
    for member, pieces in archive.unpack(lambda one: _is_parquet(one.name)):
        file = stack.enter_context(tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        sources.append(_open_parquet(file, member.name, limits, stack))
    for member in archive.members:
        if not _is_parquet(member.name) and not is_litter(member.name):
            reason = "It is no Parquet file, as others of the archive are."
            sources[0].listing.left_out.add(LeftOut(file=member.name, reason=reason))
    return sources


def _open_parquet(content: Path | BinaryIO, file: str, limits: DataLimits, stack: ExitStack) -> ImageSource:
    # Imported here: it takes a while, and most data sets are archives.
    from models.data.parquet_source import ParquetSource  # noqa: PLC0415

    source = ParquetSource(content, file, limits=limits.archive)
    stack.callback(source.close)
    return source
