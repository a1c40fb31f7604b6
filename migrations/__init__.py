"""Alembic migrations: additive, reversible, the same on SQLite and PostgreSQL.

`app/db/migrate.py` runs them. `python -m migrations "what changes"` drafts the next one.
"""

HEAD = "0003"
"""The newest revision. Written here so that a start on a current database needs no Alembic (tested)."""
