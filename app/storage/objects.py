"""Objects by the SHA-256 of their bytes, each tenant's apart: key `{tenant}/{sha[:2]}/{sha}`.

put: hash, write (temporary file, fsync, rename; or upload in parts), hash again while writing; the same
bytes twice are one object. fetch/read/stream: bytes whose hash was checked, or StorageUnavailable.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.store import MemoryStore, S3Store

from app.access.principal import Principal
from app.errors import NotFound, ObjectDamaged, StorageUnavailable
from app.settings import Settings
from app.storage.backends import CHUNK_BYTES, Backend, FolderBackend, RemoteBackend
from app.storage.cache import ObjectCache

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Bytes that the store keeps."""

    sha256: str
    size_bytes: int


class _Damaged(OSError):
    """The bytes are not those that the key promises."""


class ObjectStore:
    """The one door to objects. Blocking; safe to share between threads."""

    def __init__(self, backend: Backend, *, cache: ObjectCache) -> None:
        self._backend = backend
        self._cache = cache
        """Of objects that are not files of this machine."""
        # Which files were checked, and what they looked like then: (inode, bytes, mtime in ns).
        self._verified: dict[str, tuple[int, int, int]] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> "ObjectStore":
        """The place `objects_url` names: empty, `file://…`, `s3://bucket/prefix` or `memory://`.

        S3 credentials, region and addressing style come from the usual `AWS_…` variables.
        """
        url = settings.objects_url
        backend: Backend
        match urlsplit(url).scheme:
            case "":
                backend = FolderBackend(settings.data_dir / "objects")
            case "file":
                backend = FolderBackend(Path(url2pathname(urlsplit(url).path)))
            case "memory":
                backend = RemoteBackend(MemoryStore())
            case "s3" | "s3a":
                backend = RemoteBackend(_s3(url, settings.objects_endpoint))
            case scheme:
                raise ValueError(f"objects_url: {scheme}:// is not one of s3://, file://, memory://")
        cache_dir = settings.data_dir / "cache" / "objects"
        return cls(backend, cache=ObjectCache(cache_dir, limit_bytes=settings.object_cache_bytes))

    def put_file(self, principal: Principal, path: Path, *, move: bool = False) -> Stored:
        """Keep a file's bytes. `move=True` gives the file away: it is gone afterwards, and not copied if
        it lies on the store's own file system."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.tell()
        key = _key(principal, sha256)
        with _reported("write"):
            if self._backend.size(key) != size_bytes and not (move and self._backend.take(key, path)):
                self._backend.put(key, _checked(_chunks(path), sha256), size_bytes=size_bytes)
            if move:
                path.unlink(missing_ok=True)
        return Stored(sha256=sha256, size_bytes=size_bytes)

    def put_bytes(self, principal: Principal, data: bytes) -> Stored:
        """Keep bytes that are in memory already."""
        sha256 = hashlib.sha256(data).hexdigest()
        key = _key(principal, sha256)
        with _reported("write"):
            if self._backend.size(key) != len(data):
                self._backend.put(key, iter((data,)), size_bytes=len(data))
        return Stored(sha256=sha256, size_bytes=len(data))

    def exists(self, principal: Principal, sha256: str) -> bool:
        """Whether the tenant has these bytes."""
        with _reported("read"):
            return self._backend.size(_key(principal, sha256)) is not None

    def read(self, principal: Principal, sha256: str) -> bytes:
        """All bytes at once: for small objects."""
        return b"".join(self.stream(principal, sha256))

    def stream(self, principal: Principal, sha256: str) -> Iterator[bytes]:
        """Bytes in pieces of about 1 MiB. NotFound comes from the call; damage is found at the end, before
        the last piece is given out, so that what is damaged never arrives whole."""
        with _reported("read"):
            chunks = self._backend.open(_key(principal, sha256))

        def reported() -> Iterator[bytes]:
            with _reported("read"):
                yield from _checked(chunks, sha256)

        return reported()

    def fetch(self, principal: Principal, sha256: str) -> Path:
        """A local file with these bytes, for reading only. Its hash is checked at this process's first
        fetch, and again if the file has changed since. Remote objects are downloaded; the copy is kept for
        a day, and longer while there is room."""
        key = _key(principal, sha256)
        with _reported("read"):
            path = self._backend.path(key)
            if path is not None:
                self._verify(path, key, sha256)
                return path
            path = self._downloaded(key, sha256)
            try:
                self._verify(path, key, sha256)
            except _Damaged:
                self._cache.delete(key)
                path = self._downloaded(key, sha256)
            return path

    def delete(self, principal: Principal, sha256: str) -> None:
        """Forget the bytes, here and in this machine's cache; unknown ones are fine."""
        key = _key(principal, sha256)
        with _reported("write"):
            self._backend.delete(key)
            self._cache.delete(key)
        self._verified.pop(key, None)

    def _downloaded(self, key: str, sha256: str) -> Path:
        if (path := self._cache.find(key)) is not None:
            return path
        size_bytes = self._backend.size(key) or 0
        self._cache.make_room(size_bytes)
        return self._cache.put(key, _checked(self._backend.open(key), sha256), size_bytes=size_bytes)

    def _verify(self, path: Path, key: str, sha256: str) -> None:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            looks = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if self._verified.get(key) == looks:
                return
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise _Damaged(f"object {sha256} is damaged")
        self._verified[key] = looks


def _s3(url: str, endpoint: str) -> S3Store:
    return S3Store.from_url(
        url,
        config={"endpoint": endpoint} if endpoint else {},
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(minutes=5),
        },
        # The default of three minutes would hold a request, and its thread, for as long.
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=15)},
    )


def _key(principal: Principal, sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise NotFound(f"{sha256!r} is not a SHA-256.")
    assert _TENANT.fullmatch(principal.tenant_id), f"tenant {principal.tenant_id!r} cannot be a folder"
    return f"{principal.tenant_id}/{sha256[:2]}/{sha256}"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _checked(chunks: Iterator[bytes], sha256: str) -> Iterator[bytes]:
    """The same chunks; raises before the last one if together they have another hash."""
    digest = hashlib.sha256()
    held: bytes | None = None
    for chunk in chunks:
        if held is not None:
            yield held
        digest.update(chunk)
        held = chunk
    if digest.hexdigest() != sha256:
        raise _Damaged(f"object {sha256} is damaged")
    if held is not None:
        yield held


@contextmanager
def _reported(verb: str) -> Iterator[None]:
    """Speak of missing and unreadable objects in the caller's terms."""
    try:
        yield
    except FileNotFoundError as error:
        if verb == "write":
            raise StorageUnavailable(
                "The object store takes no objects: its bucket or folder is missing."
            ) from error
        raise NotFound("These bytes are not in the object store.") from error
    except _Damaged as error:
        hint = "Publish or upload the bytes again, or restore the object store from a backup."
        raise ObjectDamaged("Stored bytes do not match their hash.", hint=hint) from error
    except OSError as error:
        hint = "See the log for what the object store said; the call can be repeated."
        raise StorageUnavailable(f"The object store cannot {verb} now.", hint=hint) from error
