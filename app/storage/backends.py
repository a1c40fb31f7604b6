"""Where objects lie: a folder of this machine, or whatever obstore reaches (S3, memory).

A backend maps keys to immutable bytes. It raises FileNotFoundError for a missing key and OSError for all
other trouble; it knows neither tenants nor hashes (`objects.py` does).
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore as AnyStore

from app.storage.leftovers import drop_leftovers

CHUNK_BYTES = 1 << 20
_PART_BYTES = 8 << 20  # S3 takes 10,000 parts: objects up to 80 GB
_PARTS_IN_FLIGHT = 2


class Backend(Protocol):
    """What `ObjectStore` needs of a place that keeps bytes."""

    def size(self, key: str) -> int | None:
        """Bytes under the key; None if there are none."""

    def put(self, key: str, chunks: Iterator[bytes], *, size_bytes: int) -> None:
        """Keep the chunks durably. If the iterator raises, the key stays as it was."""

    def take(self, key: str, path: Path) -> bool:
        """Keep the file by moving it, where that is cheaper than copying; False: it could not."""

    def open(self, key: str) -> Iterator[bytes]:
        """The bytes, piece by piece. A missing key raises here, not at the first piece."""

    def delete(self, key: str) -> None:
        """Forget the key; a missing one is fine."""

    def path(self, key: str) -> Path | None:
        """The file itself where objects are files (it may be missing); None elsewhere."""


class FolderBackend:
    """Files under one root.

    obstore's LocalStore renames without fsync (0.12), and a power cut would leave an empty file under a
    row that promises it. So: temporary file on the same file system, fsync, rename, fsync of the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"
        drop_leftovers(self._temporary)

    def size(self, key: str) -> int | None:
        try:
            return (self._root / key).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, key: str, chunks: Iterator[bytes], *, size_bytes: int) -> None:
        _make_folder(self._temporary)
        descriptor, name = tempfile.mkstemp(dir=self._temporary)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(descriptor)
            self._rename(Path(name), key)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def take(self, key: str, path: Path) -> bool:
        _make_folder(self._root)
        if path.stat().st_dev != self._root.stat().st_dev:
            return False
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self._rename(path, key)
        return True

    def open(self, key: str) -> Iterator[bytes]:
        file = (self._root / key).open("rb")

        def chunks() -> Iterator[bytes]:
            with file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

        return chunks()

    def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    def path(self, key: str) -> Path | None:
        return self._root / key

    def _rename(self, source: Path, key: str) -> None:
        target = self._root / key
        _make_folder(target.parent)
        source.replace(target)
        _sync_folder(target.parent)


class RemoteBackend:
    """Any obstore store. Large objects go up in parts; an upload that fails is aborted."""

    def __init__(self, store: AnyStore) -> None:
        self._store = store

    def size(self, key: str) -> int | None:
        try:
            with _translated():
                return int(obstore.head(self._store, key)["size"])
        except FileNotFoundError:
            return None

    def put(self, key: str, chunks: Iterator[bytes], *, size_bytes: int) -> None:
        with _translated():
            if size_bytes <= _PART_BYTES:
                obstore.put(self._store, key, b"".join(chunks), use_multipart=False)
            else:
                obstore.put(
                    self._store, key, chunks, chunk_size=_PART_BYTES, max_concurrency=_PARTS_IN_FLIGHT
                )

    def take(self, key: str, path: Path) -> bool:
        return False

    def open(self, key: str) -> Iterator[bytes]:
        with _translated():
            stream = obstore.get(self._store, key).stream(min_chunk_size=CHUNK_BYTES)

        def chunks() -> Iterator[bytes]:
            with _translated():
                for chunk in stream:
                    yield bytes(chunk)

        return chunks()

    def delete(self, key: str) -> None:
        try:
            with _translated():
                obstore.delete(self._store, key)
        except FileNotFoundError:
            return

    def path(self, key: str) -> Path | None:
        return None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(str(error)) from error
    except BaseError as error:
        raise OSError(str(error)) from error


def _make_folder(path: Path) -> None:
    """Create a folder, and its parents, so that a power cut does not take it back."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
