"""Tables and quantities as people read them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 200
"""Columns of a table that no terminal limits."""


def console(*, stderr: bool = False) -> "Console":
    """A console that interprets nothing in what it is given."""
    from rich.console import Console  # noqa: PLC0415 - 0.1 s that `--help` does not pay

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], *, right: Iterable[str] = ()) -> str:
    """Rows under a header, without lines, so that they can be copied and cut."""
    from rich.table import Table  # noqa: PLC0415 - as above

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_number = column in right
        made.add_column(column, justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        made.add_row(*row)
    out = console()
    with out.capture() as text:
        out.print(made)
    return "\n".join(line.rstrip() for line in text.get().splitlines())


def moment(seconds: float | None) -> str:
    """A time in seconds since the epoch, as UTC to the minute."""
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def size(size_bytes: float) -> str:
    """Bytes with a unit that suits their number."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
