"""All SQL of uploaded files."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.tables import FileRow


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """An uploaded file."""

    id: str
    filename: str
    purpose: str
    size_bytes: int
    sha256: str
    created_at: float
    """UTC, seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class FilePage:
    """Some files of a longer list."""

    files: list[FileFacts]
    has_more: bool


class FileRepository:
    """File rows of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, principal: Principal, facts: FileFacts) -> None:
        """Add a row."""
        self._session.add(
            FileRow(
                id=facts.id,
                tenant_id=principal.tenant_id,
                filename=facts.filename,
                purpose=facts.purpose,
                size_bytes=facts.size_bytes,
                sha256=facts.sha256,
                created_at=facts.created_at,
            )
        )

    def get(self, principal: Principal, file_id: str) -> FileFacts | None:
        """One file of the tenant."""
        row = self._row(principal, file_id)
        return None if row is None else _facts(row)

    def page(
        self,
        principal: Principal,
        *,
        purpose: str | None,
        limit: int,
        after: str | None,
        order: Literal["asc", "desc"],
    ) -> FilePage:
        """At most `limit` files beyond the file `after`, in the order of their making (ids sort by time)."""
        query = select(FileRow).where(FileRow.tenant_id == principal.tenant_id)
        if purpose is not None:
            query = query.where(FileRow.purpose == purpose)
        if after is not None:
            query = query.where(FileRow.id > after if order == "asc" else FileRow.id < after)
        query = query.order_by(FileRow.id if order == "asc" else FileRow.id.desc())
        rows = self._session.scalars(query.limit(limit + 1)).all()
        return FilePage(files=[_facts(row) for row in rows[:limit]], has_more=len(rows) > limit)

    def remove(self, principal: Principal, file_id: str) -> FileFacts | None:
        """Delete the row; None if there was none."""
        row = self._row(principal, file_id)
        if row is None:
            return None
        self._session.delete(row)
        return _facts(row)

    def _row(self, principal: Principal, file_id: str) -> FileRow | None:
        if not file_id.isprintable():  # PostgreSQL takes no NUL in text
            return None
        query = select(FileRow).where(FileRow.tenant_id == principal.tenant_id, FileRow.id == file_id)
        return self._session.scalars(query).one_or_none()


def _facts(row: FileRow) -> FileFacts:
    return FileFacts(
        id=row.id,
        filename=row.filename,
        purpose=row.purpose,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        created_at=row.created_at,
    )
