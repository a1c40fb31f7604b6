"""How the verbs speak: results on standard output, all else on standard error, errors in two lines.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from app.client import Client
    from app.settings import Settings

FAILED = 1
USAGE = 2
INTERRUPTED = 130
_PIPE_WIDTH = 200
"""Columns of a table that nobody's terminal limits."""

Url = Annotated[
    str | None,
    typer.Option("--url", help="The service's address; else ATHANOR_URL, else the one that runs here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]


def fail(message: str, hint: str | None = None, *, code: int = FAILED) -> NoReturn:
    """Say what went wrong and what to do, and leave."""
    sys.stderr.write(f"athanor: {message}\n{f'  {hint}' + chr(10) if hint else ''}")
    raise typer.Exit(code)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the errors that a caller can meet into their message and hint."""
    from app.client.errors import ClientError  # noqa: PLC0415 - `--help` should not wait for it
    from app.errors import AppError  # noqa: PLC0415 - as above

    try:
        yield
    except (ClientError, AppError) as error:
        fail(error.message, error.hint)


def read_settings() -> "Settings":
    """The settings, or exit 2 with the variable that is wrong."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    from app.settings import Settings  # noqa: PLC0415 - as above

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"ATHANOR_{'_'.join(map(str, first['loc'])).upper()}"
        fail(f"{name}: {first['msg']}.", "docs/settings.md says what it may be.", code=USAGE)


@contextmanager
def service(url: str | None) -> Iterator["Client"]:
    """A client of the running service; what it raises is told plainly."""
    settings = read_settings()
    from app.client import Client, service_url  # noqa: PLC0415 - as above

    key = settings.api_key.get_secret_value() if settings.api_key else None
    with plain_errors(), Client(service_url(settings, url), api_key=key) as client:
        yield client


def print_json(value: object, *, indent: bool = True) -> None:
    """One JSON document on standard output."""
    import orjson  # noqa: PLC0415 - as above

    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    sys.stdout.write(orjson.dumps(value, option=option).decode())


def console(*, stderr: bool = False) -> "Console":
    """A console that interprets nothing in what it is given."""
    from rich.console import Console  # noqa: PLC0415 - as above

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def table(*columns: str, right: tuple[str, ...] = ()) -> "Table":
    """A table without lines, so that it can be copied and cut."""
    from rich.table import Table  # noqa: PLC0415 - as above

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return made


def day(created: float | None) -> str:
    """A time in seconds since the epoch as people read it."""
    from datetime import UTC, datetime  # noqa: PLC0415 - as above

    return "" if created is None else f"{datetime.fromtimestamp(created, UTC):%Y-%m-%d %H:%M}"


def size(size_bytes: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


Json = dict[str, Any]
