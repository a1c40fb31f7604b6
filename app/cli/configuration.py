"""Settings for commands: what is wrong with them is the caller's to mend, so it is said plainly."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from app.settings import Settings


class Misconfigured(typer.TyperException):
    """A setting has a value that it cannot have."""

    exit_code = 2


def load_settings() -> "Settings":
    """Read them. Raises Misconfigured, naming the variable."""
    from pydantic import ValidationError  # noqa: PLC0415 - 0.3 s that `--help` does not pay

    from app.settings import Settings  # noqa: PLC0415 - as above

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise Misconfigured(f"ATHANOR_{name}={first['input']!r}: {first['msg']}.") from error
