"""Copies of remote objects on this machine's disk, bounded: those that were used longest ago leave first.

The gateway, workers and the command line share the folder, and none knows what another is about to open. So
a copy stays for a day after its last use, whatever the bound; one that is open can be read to its end in any
case.
"""

import os
import time
from collections.abc import Iterator
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
        """The copy of an object, which counts as used now; None: there is none."""
        path = self._root / key
        try:
            # What was written when stays as it is: by that a changed file is known.
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        except FileNotFoundError:
            return None
        return path

    def put(self, key: str, chunks: Iterator[bytes], *, size_bytes: int) -> Path:
        """Keep a copy, for which older ones may leave. If the iterator raises, there is none."""
        self._make_room(size_bytes)
        self._files.put(key, chunks, size_bytes=size_bytes)
        return self._root / key

    def delete(self, key: str) -> None:
        """Forget the copy; a missing one is fine."""
        self._files.delete(key)

    def _make_room(self, size_bytes: int) -> None:
        copies = sorted(self._copies())
        excess_bytes = sum(size for _, size, _ in copies) + size_bytes - self._limit_bytes
        for used_s, size, path in copies:
            if excess_bytes <= 0 or used_s > time.time() - _STAYS_S:
                return
            path.unlink(missing_ok=True)
            excess_bytes -= size

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """(last use as Unix time, bytes, file) of each."""
        for path in self._root.glob("*/*/*"):
            try:
                looks = path.stat()
            except FileNotFoundError:  # another process was quicker
                continue
            yield looks.st_atime, looks.st_size, path
