"""A thread in every gateway that ends uploads whose time is up, so that their bytes do not stay for ever."""

import threading

from app.errors import StorageUnavailable
from app.files.parts import UploadService
from app.observability.logs import get_logger

EVERY_S = 60.0

_log = get_logger(__name__)


class Sweeper:
    """Start it once; it goes on until `stop()`."""

    def __init__(self, uploads: UploadService, *, every_s: float = EVERY_S) -> None:
        self._uploads = uploads
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sweeper", daemon=True)

    def start(self) -> None:
        """Sweep at once, then every minute."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the sweep that is going on, a few seconds at most."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _watch(self) -> None:
        while True:
            try:
                if ended := self._uploads.expire_overdue():
                    _log.info("uploads_expired", count=ended)
            except StorageUnavailable as error:
                _log.warning("sweep_failed", error=repr(error.__cause__))
            if self._over.wait(self._every_s):
                return
