"""Connections and the one transaction rule: `with database.begin() as session:` commits at its end.

`database.read()` is the same for reading only: one consistent view, on SQLite by nature of WAL, on PostgreSQL
by REPEATABLE READ. SQLite runs with `synchronous=FULL`; writing transactions begin IMMEDIATE, so that two
writers queue (up to 30 s) instead of failing half-way. The first connection creates the folder that the
SQLite file lies in. A database that cannot be reached, or stays locked, is StorageUnavailable.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import StorageUnavailable


def _create_folder(
    _: Dialect, __: ConnectionPoolEntry, arguments: tuple[str, ...], ___: dict[str, Any]
) -> None:
    if arguments and arguments[0] and not arguments[0].startswith((":memory:", "file:")):
        Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's guess
    cursor = connection.cursor()
    # The time-out comes first: changing to WAL takes a lock that another first connection may hold.
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise StorageUnavailable(
            "The database cannot answer now.", hint="The call can be repeated."
        ) from error


class Database:
    """The one door to rows: an SQLAlchemy engine and sessions over it."""

    def __init__(self, url: str) -> None:
        self.db_engine: Engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        if url.startswith("sqlite"):
            event.listen(self.db_engine, "do_connect", _create_folder)
            event.listen(self.db_engine, "connect", _prepare_sqlite)
            event.listen(self.db_engine, "begin", _begin_sqlite)
        self._writers = sessionmaker(self.db_engine, expire_on_commit=False)
        readers = self.db_engine.execution_options(read_only=True)
        if self.db_engine.dialect.name == "postgresql":
            readers = readers.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._readers = sessionmaker(readers, expire_on_commit=False, autoflush=False)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with _reported(), self._writers.begin() as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view; nothing is written."""
        with _reported(), self._readers() as session:
            yield session

    def close(self) -> None:
        """Give every connection back."""
        self.db_engine.dispose()
