"""Files that come in parts, so that a broken connection costs one part and not the file.

    create ─► pending ──add_part, any number, any order──► complete(part ids in order) ─► a file
                 └──► cancelled, or expired an hour after creation: its bytes are given back

Parts are objects like any other until then; a part sent twice is the same object.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.revision import lock_revision
from app.db.session import Database
from app.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge, StorageUnavailable
from app.files.keeping import plain_filename
from app.files.parts_repository import PartFacts, UploadFacts, UploadRepository, UploadStatus
from app.files.repository import FileFacts
from app.files.service import FileService, check_purpose
from app.files.upload import Upload, too_large
from app.ids import new_id
from app.storage.objects import ObjectStore
from app.storage.reclaim import reclaim

LIFETIME_S = 3600.0
"""After which a pending upload expires."""
MAX_PARTS = 10_000
_SPARE = 2
"""How many times the announced size its parts may take on disk: a client may change its mind about some."""
_SWEEP = 100


class _NotPending(Exception):
    """Somebody else ended the upload in between."""


class UploadService:
    """Every method acts for one principal and sees nothing of another tenant."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        files: FileService,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now`: seconds since the epoch."""
        self._database = database
        self._objects = objects
        self._files = files
        self._now = now

    def create(
        self, principal: Principal, *, filename: str, purpose: str, mime_type: str, size_bytes: int
    ) -> UploadFacts:
        """Announce a file.

        Raises:
            PayloadTooLarge: it is longer than files may be.
            InvalidRequest: the purpose is none.

        """
        if size_bytes > self._files.limit_bytes:
            raise too_large(self._files.limit_bytes)
        check_purpose(purpose)
        created_at = self._now()
        facts = UploadFacts(
            id=new_id("upload"),
            filename=plain_filename(filename),
            purpose=purpose,
            mime_type=mime_type,
            size_bytes=size_bytes,
            status=UploadStatus.PENDING,
            file_id=None,
            created_at=created_at,
            expires_at=created_at + LIFETIME_S,
        )
        with self._database.begin() as session:
            UploadRepository(session).add(principal, facts)
        return facts

    def get(self, principal: Principal, upload_id: str) -> tuple[UploadFacts, list[PartFacts]]:
        """An upload and what has arrived of it, or NotFound."""
        with self._database.read() as session:
            uploads = UploadRepository(session)
            return self._seen(_found(uploads.get(principal, upload_id), upload_id)), uploads.parts(upload_id)

    def file_of(self, principal: Principal, upload: UploadFacts) -> FileFacts | None:
        """The file that an upload became; None as long as it has not, and after the file was deleted."""
        try:
            return self._files.get(principal, upload.file_id) if upload.file_id is not None else None
        except NotFound:
            return None

    def begin_part(self, principal: Principal, upload_id: str, *, body_bytes: int | None = None) -> Upload:
        """A place for the bytes of one part.

        Raises:
            NotFound, Conflict: there is no such upload, or it takes no more parts.
            PayloadTooLarge: a body of this length is no part of it.

        """
        upload, _ = self.get(principal, upload_id)
        _check_pending(upload)
        return self._files.begin(
            body_bytes=body_bytes, limit_bytes=upload.size_bytes, refusal=_part_too_large
        )

    def add_part(self, principal: Principal, upload_id: str, place: Upload) -> PartFacts:
        """Keep a part: after this returns it survives a power cut; if this raises, nothing is left.

        Raises:
            NotFound, Conflict: there is no such upload, or it takes no more parts.
            PayloadTooLarge: its parts take twice what was announced, or are too many.

        """
        stored = self._objects.put_file(principal, place.finish(), move=True)
        part = PartFacts(
            id=new_id("part"),
            upload_id=upload_id,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            created_at=self._now(),
        )
        try:
            with self._database.begin() as session:
                lock_revision(session)  # from here to the commit nobody reclaims the bytes
                uploads = UploadRepository(session)
                upload = self._seen(_found(uploads.get(principal, upload_id, lock=True), upload_id))
                _check_pending(upload)
                if not self._objects.exists(principal, stored.sha256):
                    raise StorageUnavailable("The same bytes were deleted just now.", hint="Try again.")
                uploads.add_part(principal, part)
                _check_held(upload, *uploads.held(upload_id))
        except BaseException:
            with suppress(StorageUnavailable):  # the first error is the one to tell
                reclaim(self._database, self._objects, principal, [stored.sha256])
            raise
        return part

    def complete(
        self, principal: Principal, upload_id: str, part_ids: Sequence[str], *, md5: str | None = None
    ) -> tuple[UploadFacts, FileFacts | None]:
        """Make a file of the parts, in this order. A second time it gives the same file again (None if that
        has been deleted).

        Raises:
            NotFound, Conflict: there is no such upload, or it was cancelled or has expired.
            InvalidRequest: a part is not of this upload, or together they are not what was announced.

        """
        upload, parts = self.get(principal, upload_id)
        if upload.status is UploadStatus.COMPLETED:
            return upload, self.file_of(principal, upload)
        _check_pending(upload)
        chosen = _chosen(upload, {part.id: part for part in parts}, part_ids)
        with self._files.begin() as place:
            try:
                found_md5 = self._join(principal, chosen, place)
            except NotFound:  # parts went while they were read
                if self.get(principal, upload_id)[0].status is UploadStatus.PENDING:
                    raise
                return self.complete(principal, upload_id, part_ids, md5=md5)
            _check_md5(found_md5, md5)

            def end(session: Session, facts: FileFacts) -> None:
                done = UploadRepository(session).end(
                    principal, upload_id, UploadStatus.COMPLETED, file_id=facts.id
                )
                if not done:
                    raise _NotPending

            try:
                facts = self._files.commit(
                    principal, place, filename=upload.filename, purpose=upload.purpose, also=end
                )
            except _NotPending:
                return self.complete(principal, upload_id, part_ids, md5=md5)
        self._reclaim(principal, parts)
        return replace(upload, status=UploadStatus.COMPLETED, file_id=facts.id), facts

    def cancel(self, principal: Principal, upload_id: str) -> UploadFacts:
        """Give the bytes back. Cancelling twice is fine.

        Raises:
            NotFound: there is no such upload.
            Conflict: it is completed, or has expired.

        """
        upload = self._end(principal, upload_id, UploadStatus.CANCELLED)
        if upload.status is not UploadStatus.CANCELLED:
            _check_pending(upload)
        return upload

    def expire_overdue(self) -> int:
        """End every upload, of any tenant, whose time is up. Returns how many. Any number of processes may
        do so at once."""
        with self._database.read() as session:
            overdue = UploadRepository(session).overdue(self._now(), limit=_SWEEP)
        for principal, upload_id in overdue:
            self._end(principal, upload_id, UploadStatus.EXPIRED)
        return len(overdue)

    # -- inside --------------------------------------------------------------------------------------

    def _end(self, principal: Principal, upload_id: str, status: UploadStatus) -> UploadFacts:
        """End a pending upload so, and give its bytes back. The upload as it is then, however it ended."""
        with self._database.begin() as session:
            lock_revision(session)
            uploads = UploadRepository(session)
            upload = _found(uploads.get(principal, upload_id, lock=True), upload_id)
            if status is not UploadStatus.EXPIRED:
                upload = self._seen(upload)
            if upload.status is not UploadStatus.PENDING:
                return upload
            parts = uploads.parts(upload_id)
            uploads.end(principal, upload_id, status)
        self._reclaim(principal, parts)
        return replace(upload, status=status)

    def _seen(self, upload: UploadFacts) -> UploadFacts:
        """The upload as callers see it: expired when its time is up, whoever has noticed."""
        if upload.status is UploadStatus.PENDING and upload.expires_at <= self._now():
            return replace(upload, status=UploadStatus.EXPIRED)
        return upload

    def _join(self, principal: Principal, parts: Sequence[PartFacts], place: Upload) -> str:
        """Write the parts one after the other; the MD5 of the whole. Each part's own hash is checked."""
        digest = hashlib.md5(usedforsecurity=False)
        for part in parts:
            for chunk in self._objects.stream(principal, part.sha256):
                digest.update(chunk)
                place.write(chunk)
        return digest.hexdigest()

    def _reclaim(self, principal: Principal, parts: Sequence[PartFacts]) -> None:
        reclaim(self._database, self._objects, principal, [part.sha256 for part in parts])


def _found(upload: UploadFacts | None, upload_id: str) -> UploadFacts:
    if upload is None:
        raise NotFound(f"There is no upload {upload_id!r}.", param="upload_id", hint="POST /v1/uploads.")
    return upload


def _check_pending(upload: UploadFacts) -> None:
    if upload.status is not UploadStatus.PENDING:
        hint = "Begin a new one: POST /v1/uploads."
        raise Conflict(f"The upload {upload.id} is {upload.status}.", param="upload_id", hint=hint)


def _part_too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The part is longer than the {limit_bytes} bytes announced.", param="data")


def _check_held(upload: UploadFacts, count: int, size_bytes: int) -> None:
    if count > MAX_PARTS:
        raise PayloadTooLarge(f"An upload has at most {MAX_PARTS} parts.", param="data")
    if size_bytes > _SPARE * upload.size_bytes:
        raise PayloadTooLarge(
            f"The parts have {size_bytes} bytes; {upload.size_bytes} were announced.",
            param="data",
            hint="Complete the upload, or cancel it and begin anew.",
        )


def _chosen(upload: UploadFacts, parts: dict[str, PartFacts], part_ids: Sequence[str]) -> list[PartFacts]:
    for at, part_id in enumerate(part_ids):
        if part_id not in parts:
            raise InvalidRequest(f"{part_id!r} is no part of {upload.id}.", param=f"part_ids.{at}")
    chosen = [parts[part_id] for part_id in part_ids]
    total_bytes = sum(part.size_bytes for part in chosen)
    if total_bytes != upload.size_bytes:
        raise InvalidRequest(
            f"The parts have {total_bytes} bytes together; {upload.size_bytes} were announced.",
            param="part_ids",
            hint=f"GET /v1/uploads/{upload.id} lists the parts that have arrived.",
        )
    return chosen


def _check_md5(actual: str, expected: str | None) -> None:
    if expected is not None and expected.lower() != actual:
        raise InvalidRequest(
            f"The parts together have MD5 {actual}.", param="md5", hint="Send the damaged part again."
        )
