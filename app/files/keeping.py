"""From stored bytes to a file: the row, in a transaction that may do more."""

import time

from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.revision import lock_revision
from app.errors import StorageUnavailable
from app.files.repository import FileFacts, FileRepository
from app.ids import new_id
from app.storage.objects import ObjectStore, Stored

_MAX_FILENAME = 255


def keep(
    session: Session,
    objects: ObjectStore,
    principal: Principal,
    stored: Stored,
    *,
    filename: str,
    purpose: str,
) -> FileFacts:
    """Add the row of a file whose bytes have been put. From here to the commit nobody reclaims them.

    Raises StorageUnavailable when somebody has deleted the same bytes meanwhile.
    """
    lock_revision(session)
    if not objects.exists(principal, stored.sha256):
        raise StorageUnavailable("The same bytes were deleted just now.", hint="Try again.")
    facts = FileFacts(
        id=new_id("file"),
        filename=plain_filename(filename),
        purpose=purpose,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        created_at=time.time(),
    )
    FileRepository(session).add(principal, facts)
    return facts


def plain_filename(text: str) -> str:
    """The last segment of what a client calls its file, printable, at most 255 characters."""
    name = text.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable()).strip()[-_MAX_FILENAME:] or "file"
