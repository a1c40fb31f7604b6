"""All SQL of uploads that come in parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.tables import UploadPartRow, UploadRow


class UploadStatus(StrEnum):
    """Where an upload is. Only a pending one takes parts."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True)
class UploadFacts:
    """A file that comes in parts. Times are UTC, seconds since the epoch."""

    id: str
    filename: str
    purpose: str
    mime_type: str
    size_bytes: int
    """Of the whole file, as announced."""
    status: UploadStatus
    file_id: str | None
    """The file it became."""
    created_at: float
    expires_at: float


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """Some bytes of an upload."""

    id: str
    upload_id: str
    sha256: str
    size_bytes: int
    created_at: float


class UploadRepository:
    """Rows of uploads and their parts, seen through one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, principal: Principal, facts: UploadFacts) -> None:
        """Add an upload."""
        self._session.add(
            UploadRow(
                id=facts.id,
                tenant_id=principal.tenant_id,
                filename=facts.filename,
                purpose=facts.purpose,
                mime_type=facts.mime_type,
                size_bytes=facts.size_bytes,
                status=facts.status.value,
                file_id=facts.file_id,
                created_at=facts.created_at,
                expires_at=facts.expires_at,
            )
        )

    def get(self, principal: Principal, upload_id: str, *, lock: bool = False) -> UploadFacts | None:
        """One upload of the tenant; with `lock`, nobody else changes it until the transaction ends."""
        if not upload_id.isprintable():  # PostgreSQL takes no NUL in text
            return None
        query = select(UploadRow).where(UploadRow.tenant_id == principal.tenant_id, UploadRow.id == upload_id)
        if lock:
            query = query.with_for_update()
        row = self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()
        return None if row is None else _upload(row)

    def add_part(self, principal: Principal, part: PartFacts) -> None:
        """Add a part."""
        self._session.add(
            UploadPartRow(
                id=part.id,
                tenant_id=principal.tenant_id,
                upload_id=part.upload_id,
                sha256=part.sha256,
                size_bytes=part.size_bytes,
                created_at=part.created_at,
            )
        )

    def parts(self, upload_id: str) -> list[PartFacts]:
        """All parts of an upload, in the order of their coming."""
        query = select(UploadPartRow).where(UploadPartRow.upload_id == upload_id).order_by(UploadPartRow.id)
        return [_part(row) for row in self._session.scalars(query)]

    def held(self, upload_id: str) -> tuple[int, int]:
        """How many parts an upload has, and how many bytes they take; the same bytes twice take them once."""
        mine = UploadPartRow.upload_id == upload_id
        count = self._session.scalar(select(func.count()).where(mine)) or 0
        distinct = select(UploadPartRow.sha256, UploadPartRow.size_bytes).where(mine).distinct().subquery()
        size_bytes = self._session.scalar(select(func.sum(distinct.c.size_bytes)))
        return count, int(size_bytes or 0)

    def end(
        self, principal: Principal, upload_id: str, status: UploadStatus, *, file_id: str | None = None
    ) -> bool:
        """Move a pending upload to its end and forget its parts; False when it was not pending any more."""
        ended = self._session.execute(
            update(UploadRow)
            .where(UploadRow.tenant_id == principal.tenant_id, UploadRow.id == upload_id)
            .where(UploadRow.status == UploadStatus.PENDING.value)
            .values(status=status.value, file_id=file_id)
            .returning(UploadRow.id)
            .execution_options(synchronize_session=False)
        ).all()
        if ended:
            self._session.execute(delete(UploadPartRow).where(UploadPartRow.upload_id == upload_id))
        return bool(ended)

    def overdue(self, now: float, *, limit: int) -> Sequence[tuple[Principal, str]]:
        """Pending uploads of all tenants whose time is up."""
        query = select(UploadRow.tenant_id, UploadRow.id).where(
            UploadRow.status == UploadStatus.PENDING.value, UploadRow.expires_at <= now
        )
        rows = self._session.execute(query.order_by(UploadRow.id).limit(limit))
        return [(Principal(tenant_id=row.tenant_id), row.id) for row in rows]


def _upload(row: UploadRow) -> UploadFacts:
    return UploadFacts(
        id=row.id,
        filename=row.filename,
        purpose=row.purpose,
        mime_type=row.mime_type,
        size_bytes=row.size_bytes,
        status=UploadStatus(row.status),
        file_id=row.file_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def _part(row: UploadPartRow) -> PartFacts:
    return PartFacts(
        id=row.id,
        upload_id=row.upload_id,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
    )
