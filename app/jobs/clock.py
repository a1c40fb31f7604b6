"""The database's own clock, so that workers on machines with different clocks agree about leases."""

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement


class database_now(ColumnElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds since the epoch when the statement runs (not when its transaction began), as float."""

    inherit_cache = True
    type = Float()


@compiles(database_now, "sqlite")
def _sqlite(element: database_now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - its protocol
    # unixepoch('subsec') would need SQLite 3.42; Debian 12 has 3.40. A double holds a julian day to 40 us.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgresql(element: database_now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as above
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
