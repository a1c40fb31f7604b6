"""Copies of remote objects on this machine's disk, bounded: those that were fetched longest ago leave first.

The gateway, workers and the command line share the folder, which they all must be able to write to, and none
knows what another is about to open. So a copy stays for a day after its last fetch, whatever the bound; one
that is open can be read to its end in any case.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.storage.backends import FolderBackend

_STAYS_S = 24 * 3600


class ObjectCache:
    """Files by the keys of a remote backend. Raises OSError like any backend."""

    def __init__(self, root: Path, *, limit_bytes: int) -> None:
        """`limit_bytes`: of all copies together."""
        self._root = root
        self._limit_bytes = limit_bytes
        self._files = FolderBackend(root)

    def find(self, key: str) -> Path | None:
        """The copy of an object, which counts as fetched now; None: there is none."""
        path = self._root / key
        with self._locked():
            try:
                # When it was written stays as it is: by that a changed file is known.
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            except FileNotFoundError:
                return None
        return path

    def make_room(self, size_bytes: int) -> None:
        """Let older copies leave until so much more keeps the bound, or all others are needed."""
        copies = sorted(self._copies())
        excess_bytes = sum(size for _, size, _ in copies) + size_bytes - self._limit_bytes
        for _, size, path in copies:
            if excess_bytes <= 0:
                return
            excess_bytes -= size if self._leaves(path) else 0

    def put(self, key: str, chunks: Iterator[bytes], *, size_bytes: int) -> Path:
        """Keep a copy. If the iterator raises, the key stays as it was."""
        self._files.put(key, chunks, size_bytes=size_bytes)
        return self._root / key

    def delete(self, key: str) -> None:
        """Forget the copy; a missing one is fine."""
        self._files.delete(key)

    def _leaves(self, path: Path) -> bool:
        """Remove a copy, unless it has been fetched within a day: perhaps just now."""
        with self._locked():
            try:
                is_needed = path.stat().st_atime > time.time() - _STAYS_S
            except FileNotFoundError:  # another process was quicker
                return True
            if not is_needed:
                path.unlink()
            return not is_needed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No copy is fetched while another process, or thread, decides that it may leave."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:  # closing would not do it where a process was forked meanwhile
                fcntl.flock(file, fcntl.LOCK_UN)

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """(last fetch as Unix time, bytes, file) of each."""
        for path in self._root.glob("*/*/*"):
            try:
                looks = path.stat()
            except FileNotFoundError:  # another process was quicker
                continue
            yield looks.st_atime, looks.st_size, path
