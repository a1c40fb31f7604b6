"""The running service, as verbs reach it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.client.client import Client

Url = Annotated[
    str | None,
    typer.Option("--url", help="The service's address; else ATHANOR_URL, else the one that runs here."),
]


@contextmanager
def service(url: str | None) -> Iterator["Client"]:
    """A client of it, with the key that the settings have. Its ClientErrors are for `app.cli.run` to tell."""
    from app.cli.configuration import load_settings  # noqa: PLC0415 - 0.3 s that `--help` does not pay
    from app.client.address import service_url  # noqa: PLC0415 - as above
    from app.client.client import Client  # noqa: PLC0415 - as above

    settings = load_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    with Client(service_url(settings, url), api_key=key) as client:
        yield client
