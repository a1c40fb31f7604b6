"""Settings for commands: what is wrong with them is the caller's to mend, so it is said plainly."""

import typer
from pydantic import ValidationError

from app.settings import Settings


class Misconfigured(typer.TyperException):
    """A setting has a value that it cannot have."""

    exit_code = 2


def load_settings() -> Settings:
    """Read them. Raises Misconfigured, naming the variable."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise Misconfigured(f"ATHANOR_{name}={first['input']!r}: {first['msg']}.") from error
