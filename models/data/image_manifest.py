"""A manifest: a table beside the images that says which label each one has. CSV or JSON lines.

Columns: the file (`file_name`, `path` or `image`, relative to the manifest), the label (`label` or `class`),
and, where it is wanted, the `split`. Each mistake is named with its line, and the reading goes on.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

import orjson

from models.data.archive_rules import ArchiveLimits, ArchiveRefused, safe_name
from models.data.pack import Split
from models.data.problems import MAX_PROBLEMS, Noted, Problem

FILE_COLUMNS: Final = ("file_name", "path", "image")
LABEL_COLUMNS: Final = ("label", "class")
SPLIT_COLUMN: Final = "split"
SPLITS: Final[Mapping[str, Split]] = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
    "testing": Split.TEST,
}
"""What people call them, as folders, file names and values."""
MAX_LABEL_CHARACTERS = 200
_MAX_ROW_CHARACTERS = 1 << 20


class Row(NamedTuple):
    """One image and its label."""

    file: str
    """Relative to the manifest's folder."""
    label: str
    split: Split | None
    line: int


class Table(NamedTuple):
    """A manifest as read: its sound rows, and what is wrong with the others."""

    rows: list[Row]
    broken_rows: Noted[Problem]
    """Of one row each: the others could do without it."""
    problems: Noted[Problem]
    """Of the table."""


class _Columns(NamedTuple):
    file: str
    label: str
    split: str | None


class RowError(ValueError):
    """What is wrong with a row, and a hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _TableError(RowError):
    """What is wrong with the table, and on which line."""

    def __init__(self, message: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.line = line


_Record = tuple[int, Mapping[str, object] | RowError]
"""Line, and its columns, or why it has none."""


def read_manifest(data: bytes, name: str, limits: ArchiveLimits) -> Table:
    """Read `metadata.csv` or `metadata.jsonl`, whole. `name` is its path in the archive."""
    table = Table([], Noted(), Noted())
    try:
        text = _decoded(data)
        is_csv = name.lower().endswith(".csv")
        for line, record in _csv_records(text) if is_csv else _json_records(text):
            _take(table, name, line, record, limits)
    except _TableError as error:
        table.problems.add(Problem(file=name, line=error.line, message=error.message, hint=error.hint))
        return table
    if not table.rows and not table.broken_rows:
        table.problems.add(
            Problem(file=name, message="The manifest lists no image.", hint="Write one row for each image.")
        )
    return table


def _take(
    table: Table, name: str, line: int, record: Mapping[str, object] | RowError, limits: ArchiveLimits
) -> None:
    if table.broken_rows.count >= MAX_PROBLEMS:
        raise _TableError(f"More than {MAX_PROBLEMS} rows are broken; the rest was not read.", line=line)
    if len(table.rows) >= limits.max_members:
        raise _TableError(f"There are more than {limits.max_members} rows.", line=line)
    try:
        if isinstance(record, RowError):
            raise record
        table.rows.append(_row(record, line, limits))
    except RowError as error:
        table.broken_rows.add(Problem(file=name, line=line, message=error.message, hint=error.hint))


def _row(record: Mapping[str, object], line: int, limits: ArchiveLimits) -> Row:
    columns = _columns(tuple(record))
    file = record[columns.file]
    if not isinstance(file, str) or not file.strip():
        raise RowError(f"{columns.file} is {_kind(file)}.", "Write the image's path in the archive.")
    try:
        path = safe_name(file.strip(), limits)
    except ArchiveRefused as refused:
        raise RowError(str(refused), refused.hint) from refused
    return Row(path, label_of(record[columns.label], columns.label), _split(record, columns.split), line)


def label_of(value: object, column: str) -> str:
    """A label as text; whole numbers are taken. Raises RowError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{column} is {_kind(value)}.", "Write one label, as text or as a whole number.")
    label = value.strip()
    if len(label) > MAX_LABEL_CHARACTERS or not label.isprintable():
        raise RowError(
            f"{column} is too long, or holds characters that cannot be seen.",
            f"At most {MAX_LABEL_CHARACTERS} printable characters.",
        )
    return label


def _split(record: Mapping[str, object], column: str | None) -> Split | None:
    value = None if column is None else record[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    split = SPLITS.get(str(value).strip().lower())
    if split is None:
        near = get_close_matches(str(value)[:40].lower(), SPLITS, n=1)
        raise RowError(
            f"There is no split {str(value)[:40]!r}.", f"Did you mean {near[0]!r}?" if near else _NAMES
        )
    return split


_NAMES = "Splits are train, validation and test."


def _columns(names: Sequence[str]) -> _Columns:
    """Which column is which. Raises RowError naming the nearest."""
    known = {name.strip().lower(): name for name in names}
    file = next((known[name] for name in FILE_COLUMNS if name in known), None)
    label = next((known[name] for name in LABEL_COLUMNS if name in known), None)
    for found, wanted in ((file, FILE_COLUMNS), (label, LABEL_COLUMNS)):
        if found is None:
            raise RowError(f"There is no column {' or '.join(wanted)}.", nearest_columns(wanted, names))
    assert file is not None
    assert label is not None
    return _Columns(file, label, known.get(SPLIT_COLUMN))


def nearest_columns(wanted: Sequence[str], names: Sequence[str]) -> str:
    """A hint for a column that is not there: what is, and which of it may have been meant."""
    shown = [name[:40] for name in names[:20]]
    lower = {name.lower(): name for name in shown}
    near = [one for name in wanted for one in get_close_matches(name, lower, n=1, cutoff=0.5)]
    guess = f"Rename {lower[near[0]]!r}? " if near else ""
    listed = ", ".join(repr(name) for name in shown) or "none"
    separator = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
    if separator is not None:
        return f"Separate columns with commas, not with {separator!r}."
    return f"{guess}There are the columns {listed}."


def _kind(value: object) -> str:
    if value is None or value == "":
        return "missing"
    if isinstance(value, str):
        return "empty"
    kinds = {bool: "true or false", float: "a fraction", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _TableError("The manifest is not UTF-8 here.", line=line, hint="Save it as UTF-8.") from error
    if (at := text.find("\0")) >= 0:
        raise _TableError(
            "The manifest holds a NUL.", line=text.count("\n", 0, at) + 1, hint="Save it as UTF-8."
        )
    return text


def _csv_records(text: str) -> Iterator[_Record]:
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise _TableError("The manifest is empty.", hint="Begin with the names of the columns.")
        _check_header(header)
        for cells in reader:
            lines.end_row()
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                told = f"The row has {len(cells)} columns, the header {len(header)}."
                yield reader.line_num, RowError(told, "Put quotes around values that hold commas.")
            else:
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise _TableError(
            f"The CSV goes astray: {error}.", line=reader.line_num, hint="A quote may be left open before."
        ) from error


class _Lines:
    """The lines of a table, as long as its rows are of a length that rows have."""

    def __init__(self, text: str) -> None:
        self._text = io.StringIO(text, newline="")
        self._line = 0
        self._row_characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(_MAX_ROW_CHARACTERS + 1)
        if not line:
            raise StopIteration
        self._line += 1
        self._row_characters += len(line)
        if self._row_characters > _MAX_ROW_CHARACTERS:
            raise _TableError(
                f"A row has more than {_MAX_ROW_CHARACTERS} characters.",
                line=self._line,
                hint="A quote may be left open before.",
            )
        return line

    def end_row(self) -> None:
        self._row_characters = 0


def _check_header(header: list[str]) -> None:
    try:
        _columns(header)
    except RowError as error:
        raise _TableError(error.message, line=1, hint=error.hint) from error
    lower = [name.strip().lower() for name in header]
    twice = next((name for name, count in Counter(lower).items() if name and count > 1), None)
    if twice is not None:
        raise _TableError(f"The column {twice!r} is there twice.", line=1, hint="Keep one of them.")


def _json_records(text: str) -> Iterator[_Record]:
    if text.lstrip()[:1] == "[":
        raise _TableError(
            "The manifest is one JSON list.", line=1, hint="Write one JSON object per line, without brackets."
        )
    lines = _Lines(text)
    for line, record in enumerate(lines, 1):
        lines.end_row()
        if not record.strip():
            continue
        try:
            value = orjson.loads(record)
        except orjson.JSONDecodeError as error:
            yield line, RowError(f"The line is no JSON: {error.msg}.", "Write one JSON object per line.")
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            yield line, RowError("The line is no JSON object.", 'Write {"file_name": …, "label": …}.')
