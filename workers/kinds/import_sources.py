"""Gets the file that an import is about: an uploaded one, or one from outside."""

import re
from dataclasses import dataclass
from pathlib import Path

from app.access.principal import SYSTEM
from app.db.session import Database
from app.errors import Forbidden, ImportRefused
from app.files.repository import FileFacts
from app.files.service import FileService
from models.sources import FetchContext, SourceError, parse_source
from workers.context import JobContext

_FILE_ID = re.compile(r"file:(?P<id>[A-Za-z0-9_-]{1,64})")


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A file with a known hash. It may be shared: read it, do not change it."""

    path: Path
    file_name: str
    sha256: str


def bring_source(
    context: JobContext,
    uri: str,
    *,
    sha256: str | None,
    archive_sha256: str | None = None,
    expected_bytes: int | None = None,
) -> Brought:
    """The file a source names, its hash checked.

    Raises:
        ImportRefused: the source is malformed, gives nothing, or gives other bytes.
        NotFound: there is no such uploaded file.

    """
    if match := _FILE_ID.fullmatch(uri):
        return bring_upload(context, match["id"], sha256=sha256)
    folder = context.work_dir / "source"
    folder.mkdir(exist_ok=True)

    furthest = 0.0

    def show(done_bytes: int, total_bytes: int | None) -> None:
        nonlocal furthest  # an archive is downloaded and then unpacked: two counts of bytes
        total = total_bytes or expected_bytes
        furthest = max(furthest, 0.4 * min(done_bytes / total, 1.0) if total else 0.0)
        context.begin("downloading", at=furthest)

    try:
        source = parse_source(uri)
        if source.is_local and context.principal.tenant_id != SYSTEM.tenant_id:
            raise Forbidden("Only the operator may import files of this machine.", param="source")
        fetched = source.fetch(
            FetchContext(
                work_dir=folder, cache_dir=context.settings.data_dir / "cache" / "sources", progress=show
            ),
            expect_sha256=sha256,
            archive_sha256=archive_sha256,
        )
    except SourceError as error:
        raise ImportRefused(error.message, param="source", hint=error.hint) from error
    return Brought(path=fetched.path, file_name=source.file_name, sha256=fetched.sha256)


def bring_upload(context: JobContext, file_id: str, *, sha256: str | None = None) -> Brought:
    """A file that the principal has uploaded. Raises NotFound, and ImportRefused for another hash."""
    facts = _look_up(context, file_id)
    if sha256 is not None and facts.sha256 != sha256:
        raise ImportRefused(
            f"The file {file_id} has SHA-256 {facts.sha256}, expected {sha256}.",
            param="sha256",
            hint="Upload the right file.",
        )
    path = context.objects.fetch(context.principal, facts.sha256)
    return Brought(path=path, file_name=facts.filename, sha256=facts.sha256)


def _look_up(context: JobContext, file_id: str) -> FileFacts:
    database = Database(context.settings.sqlalchemy_url)
    try:
        return FileService(database, context.objects, context.settings).get(context.principal, file_id)
    finally:
        database.close()
