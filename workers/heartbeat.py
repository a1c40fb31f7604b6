"""Keeps the lease of one run, from a thread of its own: attending the child and publishing may take long."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from app.errors import StorageUnavailable
from app.jobs.job import ClaimedJob
from app.jobs.store import JobStore, LeaseLost
from app.observability.logs import bound, get_logger

RETRY_EVERY_S = 0.5
"""Pause before the next try while the database is away, seconds."""

_log = get_logger(__name__)


class Heartbeat:
    """A context manager around a run. Calls `on_news` when the job was cancelled or the lease lost."""

    def __init__(
        self,
        store: JobStore,
        job: ClaimedJob,
        *,
        every_s: float,
        lease_s: float,
        on_news: Callable[[], None],
    ) -> None:
        self._store = store
        self._job = job
        self._every_s = every_s
        self._lease_s = lease_s
        self._on_news = on_news
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.cancel_asked = False
        """Somebody wants the job cancelled."""
        self.lease_lost = False
        """The job is another run's now, or must be taken to be."""

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        expires_s, pause_s = time.monotonic() + self._lease_s, self._every_s
        with bound(job_id=self._job.id):
            while not (self.lease_lost or self._over.wait(pause_s)):
                asked_s = time.monotonic()
                try:
                    cancel = self._store.heartbeat(self._job.id, self._job.token, lease_s=self._lease_s)
                except LeaseLost:
                    self.lease_lost = True
                except StorageUnavailable as error:
                    _log.warning("heartbeat_failed", error=repr(error.__cause__))
                    self.lease_lost = time.monotonic() > expires_s
                    pause_s = min(RETRY_EVERY_S, self._every_s)
                else:
                    expires_s, pause_s = asked_s + self._lease_s, self._every_s
                    self.cancel_asked = self.cancel_asked or cancel
                if self.cancel_asked or self.lease_lost:
                    self._on_news()
