"""Bring a database to the newest revision. Safe when several processes do it at once.

All pending revisions run in one transaction. On SQLite it begins IMMEDIATE, on PostgreSQL it takes an
advisory lock: the second process waits, then finds nothing to do. Nothing is half-migrated after a crash.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

import migrations
from app.db.session import Database

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(migrations.__file__).parent
_ADVISORY_LOCK = 0x6174_6861_6E6F_72  # "athanor"


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run what is missing up to `revision`; returns at once when there is nothing to do."""
    if revision == "head" and is_current(database_url):
        return
    from alembic import command  # noqa: PLC0415 - 0.1 s that a start on a current database does not pay

    with _locked(database_url) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Undo down to `revision` (`base`: everything). Data of the tables that go is lost."""
    from alembic import command  # noqa: PLC0415 - as above

    with _locked(database_url) as connection:
        command.downgrade(_config(connection), revision)


def draft(message: str, folder: Path = _FOLDER / "versions") -> Path:
    """Write the next revision into a folder: what `app/db/tables.py` has and the newest revision lacks. It is
    a start: read the rules at its top, and finish it by hand."""
    from alembic import command  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as scratch:
        database_url = f"sqlite:///{scratch}/scratch.db"
        upgrade(database_url)
        with _locked(database_url) as connection:
            config = _config(connection)
            config.set_main_option("path_separator", "newline")
            config.set_main_option("version_locations", "\n".join({str(_FOLDER / "versions"), str(folder)}))
            number = f"{int(migrations.HEAD) + 1:04}"
            script = command.revision(
                config, message, autogenerate=True, rev_id=number, version_path=str(folder)
            )
    assert script is not None and not isinstance(script, list)
    return Path(script.path)


def current(database_url: str) -> str | None:
    """The revision the database is at; None for an empty one."""
    database = Database(database_url)
    try:
        with database.read() as session:
            if not inspect(session.connection()).has_table("alembic_version"):
                return None
            revision: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
            return revision
    finally:
        database.close()


def is_current(database_url: str) -> bool:
    """The database is at the revision this code was written for."""
    return current(database_url) == migrations.HEAD


@contextmanager
def _locked(database_url: str) -> Iterator[Connection]:
    database = Database(database_url)
    try:
        with database.db_engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
                connection.execute(text("SET LOCAL lock_timeout = '10s'"))
            yield connection
    finally:
        database.close()


def _config(connection: Connection) -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config
