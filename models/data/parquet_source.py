"""Images in Parquet as Hugging Face's `datasets` writes it.

    image: struct{bytes: binary, path: string}, or binary
    label: int, with its names in the schema's metadata; or text

Label columns are read at once, images in small batches. `train-00000-of-00002.parquet` names the split.
"""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from models.data.archive_rules import ArchiveLimits, ArchiveRefused, check_ratio, shown
from models.data.image_manifest import LABEL_COLUMNS, SPLITS, RowError, label_of, nearest_columns
from models.data.listing import Entry, ImageSource, Listing
from models.data.problems import DataRefused, Problem

_IMAGE_COLUMNS = ("image", "img")
_LABEL_BATCH = 65_536
_IMAGE_BATCH = 1
"""Rows. A dictionary lets a small file repeat a large image without end; one at a time, none can hurt."""
_MAX_COLUMNS = 1000
_FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError, KeyError, OverflowError)
"""What Arrow has been seen to raise for damaged files."""
_SPLIT_NAME = re.compile(r"([a-z]+)(?:[-_.]|$)")


class _Columns(NamedTuple):
    image: str
    """Path of the column with the bytes: `image.bytes` in a struct."""
    label: str
    names: tuple[str, ...]
    """Of the labels, by their numbers; empty when the column holds something else."""


class ParquetSource(ImageSource):
    """Images of one Parquet file."""

    def __init__(self, content: Path | BinaryIO, file: str, *, limits: ArchiveLimits) -> None:
        """Read schema and labels; what is wrong is in the listing. A file that is handed in is closed too."""
        self.listing = Listing(file=file, layout="parquet")
        self._content = content
        self._parquet: pq.ParquetFile | None = None
        self._columns: _Columns | None = None
        try:
            self._parquet = self._open()
            self._columns = self._list(self._parquet, limits)
        except _Unreadable as error:
            self._add_problem(error.message, error.hint)
        except _FAULTS as error:
            self._add_problem(
                f"The Parquet file is damaged: {_first_line(error)}", "Write it, or send it, again."
            )

    def close(self) -> None:
        """Close the file."""
        if self._parquet is not None:
            self._parquet.close()
        if not isinstance(self._content, Path):
            self._content.close()

    def images(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes]]:
        """See ImageSource."""
        if self._parquet is None or self._columns is None:
            return
        row = 0
        try:
            batches = self._parquet.iter_batches(
                _IMAGE_BATCH, columns=[self._columns.image], use_threads=False
            )
            for batch in batches:
                column = batch.column(0)
                values = column.field("bytes") if pa.types.is_struct(column.type) else column
                for value in values:
                    row += 1
                    entry = self.listing.entries.get(self._name(row))
                    if entry is not None and entry.name in wanted:
                        yield entry, value.as_py() or b""
        except _FAULTS as error:
            raise DataRefused(
                [
                    Problem(
                        file=self.listing.file,
                        line=row + 1,
                        message=f"The Parquet file is damaged from here on: {_first_line(error)}",
                        hint="Write it, or send it, again.",
                    )
                ]
            ) from error

    def _open(self, *, read_dictionary: Sequence[str] = ()) -> pq.ParquetFile:
        # Not buffered ahead: memory stays at a few pages, whatever the size of a row group.
        return pq.ParquetFile(
            self._content, pre_buffer=False, buffer_size=1 << 20, read_dictionary=list(read_dictionary)
        )

    def _list(self, parquet: pq.ParquetFile, limits: ArchiveLimits) -> _Columns:
        _check_sizes(parquet.metadata, _size_of(self._content), limits)
        columns = _find_columns(parquet.schema_arrow)
        listing = self.listing
        listing.labels = columns.names
        found = _SPLIT_NAME.match(listing.file.rpartition("/")[2].lower())
        split = SPLITS.get(found.group(1)) if found else None
        row = 0
        # Text stays a dictionary, so that one long label does not become as many copies as there are rows.
        labels = parquet if columns.names else self._open(read_dictionary=_text_columns(parquet, columns))
        for batch in labels.iter_batches(_LABEL_BATCH, columns=[columns.label], use_threads=False):
            for value in _values(batch.column(0)):
                row += 1
                try:
                    label = _label(value, columns)
                except RowError as error:
                    listing.broken.add(
                        Problem(file=listing.file, line=row, message=error.message, hint=error.hint)
                    )
                    continue
                name = self._name(row)
                listing.entries[name] = Entry(name, label, split, 0, row)
        if row == 0:
            raise _Unreadable("The Parquet file has no rows.", "Write one row for each image.")
        return columns

    def _name(self, row: int) -> str:
        return f"{self.listing.file}/{row}"

    def _add_problem(self, message: str, hint: str | None) -> None:
        self.listing.problems.add(Problem(file=self.listing.file, message=message, hint=hint))


def _size_of(content: Path | BinaryIO) -> int:
    return content.stat().st_size if isinstance(content, Path) else content.seek(0, os.SEEK_END)


class _Unreadable(ValueError):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def _check_sizes(facts: pq.FileMetaData, file_bytes: int, limits: ArchiveLimits) -> None:
    """Refuse what claims to unpack to too much, before it is read.

    Groups are all that is asked: the facts of a column are read by a function that ends the process when they
    are damaged, where reading the column itself raises.
    """
    if facts.num_rows > limits.max_members:
        raise _Unreadable(f"The file has {facts.num_rows} rows.", f"At most {limits.max_members}.")
    sizes = [facts.row_group(group).total_byte_size for group in range(facts.num_row_groups)]
    if max(sizes, default=0) > limits.max_member_bytes:
        raise _Unreadable(
            f"A row group unpacks to {max(sizes)} bytes.",
            f"At most {limits.max_member_bytes}; write smaller ones.",
        )
    if sum(sizes) > limits.max_total_bytes:
        raise _Unreadable(f"The file unpacks to {sum(sizes)} bytes.", f"At most {limits.max_total_bytes}.")
    try:
        check_ratio(sum(sizes), file_bytes, limits)
    except ArchiveRefused as refused:
        raise _Unreadable(refused.message, refused.hint or "Send the images as they are.") from refused


def _find_columns(schema: pa.Schema) -> _Columns:
    features = _features(schema)
    names = list(schema.names)
    if len(names) > _MAX_COLUMNS:
        raise _Unreadable(f"There are {len(names)} columns.", f"At most {_MAX_COLUMNS}.")
    for name in names:
        kind = schema.field(name).type
        if names.count(name) > 1:
            raise _Unreadable(f"The column {name!r} is there twice.", "Keep one of them.")
        if name in _IMAGE_COLUMNS and pa.types.is_string(kind):
            raise _Unreadable(
                f"The column {name!r} holds paths, not images.", "Write the bytes into the file: embed them."
            )
    images = [name for name in names if _holds_bytes(schema.field(name).type)]
    image = next((name for name in _IMAGE_COLUMNS if name in images), images[0] if len(images) == 1 else None)
    if image is None:
        wanted = "struct{bytes, path} or binary"
        raise _Unreadable(f"There is no column image of {wanted}.", nearest_columns(_IMAGE_COLUMNS, names))
    label = next((name for name in LABEL_COLUMNS if name in names), None)
    if label is None:
        classes = [name for name in names if features.get(name, {}).get("_type") == "ClassLabel"]
        if len(classes) != 1:
            hint = nearest_columns(LABEL_COLUMNS, [name for name in names if name != image])
            raise _Unreadable(f"There is no column {' or '.join(LABEL_COLUMNS)}.", hint)
        label = classes[0]
    kind = schema.field(label).type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_text_dictionary(kind)
    if not is_text and not pa.types.is_integer(kind):
        raise _Unreadable(f"The column {label!r} holds {kind}.", "Labels are whole numbers or text.")
    return _Columns(
        image=f"{image}.bytes" if pa.types.is_struct(schema.field(image).type) else image,
        label=label,
        names=() if is_text else _class_names(features.get(label, {})),
    )


def _is_text_dictionary(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) and bool(
        pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What `datasets` notes about the columns; nothing when it makes no sense, as any writer may omit it."""
    with suppress(orjson.JSONDecodeError, KeyError, TypeError):
        told = orjson.loads(schema.metadata[b"huggingface"])["info"]["features"]
        if isinstance(told, dict):
            return {name: about for name, about in told.items() if isinstance(about, dict)}
    return {}


def _class_names(feature: dict[str, Any]) -> tuple[str, ...]:
    names = feature.get("names")
    if not isinstance(names, list):
        return ()
    try:
        labels = tuple(label_of(name, "A name of the schema's labels") for name in names)
    except RowError as error:
        raise _Unreadable(error.message, error.hint or "Correct the names.") from error
    if len(set(labels)) != len(labels):
        raise _Unreadable("Two labels have the same name.", "Correct the names in the schema's metadata.")
    return labels


def _text_columns(parquet: pq.ParquetFile, columns: _Columns) -> list[str]:
    return [] if pa.types.is_integer(parquet.schema_arrow.field(columns.label).type) else [columns.label]


def _values(column: pa.Array) -> Iterator[object]:
    if not pa.types.is_dictionary(column.type):
        yield from column.to_pylist()
        return
    words = column.dictionary.to_pylist()
    for index in column.indices.to_pylist():
        if index is not None and not 0 <= index < len(words):
            raise _Unreadable("The Parquet file is damaged: a label is none of its words.", "Send it again.")
        yield None if index is None else words[index]


def _label(value: object, columns: _Columns) -> str:
    if isinstance(value, int) and value < 0:
        raise RowError(f"{columns.label} is {value}: the image has no label.", "Leave such rows out.")
    if isinstance(value, int) and columns.names:
        if value >= len(columns.names):
            raise RowError(
                f"{columns.label} is {value}, and there are {len(columns.names)} names.",
                "Labels count from 0.",
            )
        return columns.names[value]
    return label_of(value, columns.label)


def _first_line(error: Exception) -> str:
    return shown(str(error).partition("\n")[0]).rstrip(".") + "."
