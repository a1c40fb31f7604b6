"""Files as callers use them: upload, list, look, read, delete. Works without HTTP.

with files.begin() as upload:      # temporary file in the data dir
    upload.write(piece) …
    files.commit(principal, upload, filename=…, purpose=…)   # object first, durably; then the row
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.revision import lock_revision
from app.db.session import Database
from app.errors import InvalidRequest, NotFound, PayloadTooLarge, StorageUnavailable
from app.files.keeping import keep
from app.files.repository import FileFacts, FilePage, FileRepository
from app.files.upload import Upload, too_large
from app.jobs.needs import NeedsRepository
from app.settings import Settings
from app.storage.leftovers import drop_leftovers
from app.storage.objects import ObjectStore
from app.storage.reclaim import reclaim

DEFAULT_PURPOSE = "user_data"
_MAX_PURPOSE = 64
_FORM_BYTES = 64 << 10  # what a form may add around a file


class FileService:
    """Every method acts for one principal and sees nothing of another tenant."""

    def __init__(self, database: Database, objects: ObjectStore, settings: Settings) -> None:
        self._database = database
        self._objects = objects
        self._folder = settings.data_dir / "uploads"
        self.limit_bytes = settings.max_file_bytes
        """Longest file that is taken."""
        drop_leftovers(self._folder)

    def begin(
        self,
        *,
        body_bytes: int | None = None,
        limit_bytes: int | None = None,
        refusal: Callable[[int], PayloadTooLarge] = too_large,
    ) -> Upload:
        """A place for the bytes of one upload. With the length of the body that will carry it, one that is
        too long is refused before any of it is read. `refusal` makes the error for what is longer than
        `limit_bytes`; without one, files may have."""
        limit_bytes = self.limit_bytes if limit_bytes is None else limit_bytes
        if body_bytes is not None and body_bytes > limit_bytes + _FORM_BYTES:
            raise refusal(limit_bytes)
        return Upload(self._folder, limit_bytes=limit_bytes, refusal=refusal)

    def commit(
        self,
        principal: Principal,
        upload: Upload,
        *,
        filename: str,
        purpose: str = DEFAULT_PURPOSE,
        also: Callable[[Session, FileFacts], None] = lambda _session, _facts: None,
    ) -> FileFacts:
        """Keep an upload: after this returns it survives a power cut; if this raises, nothing is left.
        `also` is done in the same transaction."""
        check_purpose(purpose)
        stored = self._objects.put_file(principal, upload.finish(), move=True)
        try:
            with self._database.begin() as session:
                facts = keep(session, self._objects, principal, stored, filename=filename, purpose=purpose)
                also(session, facts)
        except BaseException:
            with suppress(StorageUnavailable):  # the first error is the one to tell
                reclaim(self._database, self._objects, principal, [stored.sha256])
            raise
        return facts

    def get(self, principal: Principal, file_id: str) -> FileFacts:
        """One file, or NotFound."""
        with self._database.read() as session:
            return _found(FileRepository(session).get(principal, file_id), file_id)

    def list(
        self,
        principal: Principal,
        *,
        purpose: str | None = None,
        limit: int = 100,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> FilePage:
        """At most `limit` files, newest first unless told otherwise, those beyond the file `after`."""
        with self._database.read() as session:
            return FileRepository(session).page(
                principal, purpose=purpose, limit=limit, after=after, order=order
            )

    def content(self, principal: Principal, file_id: str) -> tuple[FileFacts, Iterator[bytes]]:
        """A file and its bytes, piece by piece; their hash is checked on the way."""
        facts = self.get(principal, file_id)
        return facts, self._objects.stream(principal, facts.sha256)

    def delete(self, principal: Principal, file_id: str) -> None:
        """Delete a file, and its bytes unless another file or a version has the same.

        Raises:
            NotFound: there is no such file.
            Conflict: a job that has not ended needs it; the message names it.

        """
        with self._database.begin() as session:
            lock_revision(session)
            facts = _found(FileRepository(session).remove(principal, file_id), file_id)
            NeedsRepository(session, principal).refuse_file(file_id)
        reclaim(self._database, self._objects, principal, [facts.sha256])


def check_purpose(purpose: str) -> None:
    """Raises InvalidRequest for what no file is for."""
    if not 0 < len(purpose) <= _MAX_PURPOSE or not purpose.isprintable():
        raise InvalidRequest(f"A purpose has 1 to {_MAX_PURPOSE} characters.", param="purpose")


def _found(facts: FileFacts | None, file_id: str) -> FileFacts:
    if facts is None:
        raise NotFound(f"There is no file {file_id!r}.", param="file_id", hint="GET /v1/files lists them.")
    return facts
