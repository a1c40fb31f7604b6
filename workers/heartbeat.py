"""Keeps the lease of one run, from a thread of its own: attending the child and publishing may take long."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from app.errors import StorageUnavailable
from app.jobs.job import Asked, ClaimedJob
from app.jobs.store import JobStore, LeaseLost
from app.observability.logs import bound, get_logger

LISTEN_EVERY_S = 0.5
"""How often it looks whether somebody asked something, between two heartbeats: a read, where those write."""
RETRY_EVERY_S = 0.5
"""Pause before the next try while the database is away, seconds."""

_log = get_logger(__name__)


class Heartbeat:
    """A context manager around a run. Calls `on_news` when something is asked of it, or its lease lost."""

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
        self._started_s = time.monotonic()
        self.asked: Asked | None = None
        """What somebody wants of the job."""
        self.lease_lost = False
        """The job is another run's now, or must be taken to be."""

    @property
    def ran_s(self) -> float:
        """How long the job has run, over all attempts, seconds."""
        return self._job.ran_s + time.monotonic() - self._started_s

    @property
    def has_news(self) -> bool:
        """Somebody asked something, or the lease is lost."""
        return self.asked is not None or self.lease_lost

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        now_s = time.monotonic()
        expires_s, beat_s = now_s + self._lease_s, now_s + self._every_s
        with bound(job_id=self._job.id):
            while not self._over.wait(min(LISTEN_EVERY_S, max(0.0, beat_s - time.monotonic()))):
                now_s = time.monotonic()
                try:
                    if now_s < beat_s:
                        self.asked = self._store.asked(self._job.id, self._job.token)
                    else:
                        self.asked = self._store.heartbeat(
                            self._job.id, self._job.token, lease_s=self._lease_s, ran_s=self.ran_s
                        )
                        expires_s, beat_s = now_s + self._lease_s, now_s + self._every_s
                except LeaseLost:
                    self.lease_lost = True
                except StorageUnavailable as error:
                    _log.warning("heartbeat_failed", error=repr(error.__cause__))
                    self.lease_lost = time.monotonic() > expires_s
                    beat_s = time.monotonic() + min(RETRY_EVERY_S, self._every_s)
                if self.has_news:
                    self._on_news()
                if self.lease_lost:
                    return
