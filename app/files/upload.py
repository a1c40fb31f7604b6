"""A file on its way in: a temporary file in the data dir that grows piece by piece."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from app.errors import PayloadTooLarge, StorageUnavailable


class Upload:
    """As a context manager it leaves nothing behind, unless the file was moved away before the end."""

    def __init__(
        self,
        folder: Path,
        *,
        limit_bytes: int,
        refusal: Callable[[int], PayloadTooLarge] | None = None,
    ) -> None:
        """`refusal` makes the error for bytes over the limit; it is told the limit."""
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix="upload-")
        self._file = os.fdopen(descriptor, "wb")
        self._limit_bytes = limit_bytes
        self._refusal = refusal or too_large
        self.path = Path(name)
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Append. Blocking.

        Raises:
            PayloadTooLarge: the whole would be longer than the limit.
            StorageUnavailable: the disk takes no more.

        """
        self.size_bytes += len(data)
        if self.size_bytes > self._limit_bytes:
            raise self._refusal(self._limit_bytes)
        try:
            self._file.write(data)
        except OSError as error:
            raise _unwritable() from error

    def finish(self) -> Path:
        """Flush, and give the path of the whole file."""
        try:
            self._file.close()
        except OSError as error:
            raise _unwritable() from error
        return self.path

    def __enter__(self) -> "Upload":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:
            self.path.unlink(missing_ok=True)


def too_large(limit_bytes: int) -> PayloadTooLarge:
    """The refusal of a file over the limit."""
    return PayloadTooLarge(
        f"The file is longer than {limit_bytes} bytes.",
        param="file",
        hint="ATHANOR_MAX_FILE_BYTES sets the limit.",
    )


def _unwritable() -> StorageUnavailable:
    return StorageUnavailable("The upload cannot be written to disk.", hint="The disk may be full.")
