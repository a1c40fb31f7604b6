"""Deleting bytes only when no row needs them.

Rows go first and commit; then, under the lock that every transaction that adds a reference also takes,
bytes without a row are deleted. A crash in between leaves bytes that nobody needs, never the reverse.
"""

from collections.abc import Iterable
from itertools import islice

from sqlalchemy import String, cast, exists, or_, select
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.revision import lock_revision
from app.db.session import Database
from app.db.tables import DatasetVersionRow, FileRow, JobCheckpointRow, UploadPartRow, VersionRow
from app.storage.objects import ObjectStore

_AT_ONCE = 64
"""Objects looked at under one lock: others wait for it meanwhile."""


def reclaim(database: Database, objects: ObjectStore, principal: Principal, hashes: Iterable[str]) -> None:
    """Delete those of the tenant's objects that no row refers to any more: no file, no part of an upload, no
    version, no data set version and no checkpoint."""
    rest = iter(sorted(set(hashes)))
    while some := list(islice(rest, _AT_ONCE)):
        with database.begin() as session:
            lock_revision(session)
            for sha256 in some:
                release(session, objects, principal, sha256)


def release(session: Session, objects: ObjectStore, principal: Principal, sha256: str) -> None:
    """Delete one of the tenant's objects unless a row refers to it. The caller's transaction holds the
    revision lock."""
    if not _is_referenced(session, principal, sha256):
        objects.delete(principal, sha256)


def _is_referenced(session: Session, principal: Principal, sha256: str) -> bool:
    one_each = [
        exists().where(row.tenant_id == principal.tenant_id, row.sha256 == sha256)
        for row in (FileRow, UploadPartRow, DatasetVersionRow, JobCheckpointRow)
    ]
    version = exists().where(
        VersionRow.tenant_id == principal.tenant_id,
        cast(VersionRow.artifacts, String).contains(sha256, autoescape=True),  # 64 hex digits: no accident
    )
    return session.execute(select(or_(version, *one_each))).scalar_one()
