"""Deleting bytes only when no row needs them.

Rows go first and commit; then, under the lock that every transaction that adds a reference also takes,
bytes without a row are deleted. A crash in between leaves bytes that nobody needs, never the reverse.
"""

from collections.abc import Iterable

from sqlalchemy import String, cast, exists, select
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.revision import lock_revision
from app.db.session import Database
from app.db.tables import FileRow, VersionRow
from app.storage.objects import ObjectStore


def reclaim(database: Database, objects: ObjectStore, principal: Principal, hashes: Iterable[str]) -> None:
    """Delete those of the tenant's objects that neither a file nor a version refers to any more."""
    with database.begin() as session:
        lock_revision(session)
        for sha256 in sorted(set(hashes)):
            if not _is_referenced(session, principal, sha256):
                objects.delete(principal, sha256)


def _is_referenced(session: Session, principal: Principal, sha256: str) -> bool:
    file = exists().where(FileRow.tenant_id == principal.tenant_id, FileRow.sha256 == sha256)
    version = exists().where(
        VersionRow.tenant_id == principal.tenant_id,
        cast(VersionRow.artifacts, String).contains(sha256, autoescape=True),  # 64 hex digits: no accident
    )
    return session.execute(select(file | version)).scalar_one()
