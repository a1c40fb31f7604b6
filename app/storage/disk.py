"""Room on the disk of the data dir. Work is refused while some is left, not after a write has failed."""

import errno
import shutil
from pathlib import Path

from app.errors import DiskFull
from app.settings import Settings

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What a write fails with when the disk, or its user's share, is full."""


class Disk:
    """The file system that the data dir lies on."""

    def __init__(self, folder: Path, *, min_free_bytes: int) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes

    @classmethod
    def of(cls, settings: Settings) -> "Disk":
        """The data dir's, with the room that the settings want left."""
        return cls(settings.data_dir, min_free_bytes=settings.min_free_disk_bytes)

    def check(self, needed_bytes: int = 0) -> None:
        """Raise DiskFull when writing that much would leave less room than there must be."""
        if not self._min_free_bytes:
            return
        free_bytes = shutil.disk_usage(_existing(self._folder)).free
        if free_bytes - needed_bytes < self._min_free_bytes:
            raise DiskFull(
                f"The disk of {self._folder} has {free_bytes / 2**20:,.0f} MiB free; "
                f"{(needed_bytes + self._min_free_bytes) / 2**20:,.0f} MiB are needed.",
                hint="Free some space, or lower ATHANOR_MIN_FREE_DISK_BYTES.",
            )


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
