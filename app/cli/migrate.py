"""`athanor migrate`: the database, to the newest revision."""

import typer

import migrations
from app.cli.configuration import load_settings
from app.cli.output import Output
from app.errors import StorageUnavailable

cli = typer.Typer(add_completion=False)


@cli.command()
def migrate(context: typer.Context) -> None:
    """Bring the database to the newest revision. Safe to repeat, and from several machines at once."""
    from app.db import migrate as database  # noqa: PLC0415 - 0.3 s that `--help` does not pay

    output: Output = context.obj
    url = load_settings().sqlalchemy_url
    try:
        before = database.current(url)
        database.upgrade(url)
    except StorageUnavailable as error:
        cause = str(getattr(error.__cause__, "orig", "")).partition("\n")[0]
        raise StorageUnavailable(
            f"The database does not answer: {cause}", hint="Check ATHANOR_DATABASE_URL."
        ) from error
    facts = {"before": before, "revision": migrations.HEAD, "changed": before != migrations.HEAD}
    text = "already at" if before == migrations.HEAD else f"from {before or 'empty'} to"
    output.result(facts, f"database {text} {migrations.HEAD}")
