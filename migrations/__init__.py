"""Alembic migrations: additive, reversible, the same on SQLite and PostgreSQL."""
