"""A thread in every worker that finds what got lost: runs whose worker fell silent, jobs nobody was told of.
Once a minute it also has taken away what nobody needs any more.

Any number of them may run at once: each step is a conditional update, so one of them gets to do it.
"""

import threading
import time
from collections.abc import Callable

from app.errors import StorageUnavailable
from app.jobs.service import Ring
from app.jobs.store import JobStore
from app.observability.logs import get_logger

LOOK_EVERY_S = 2.0
UNHEARD_AFTER_S = 2.0
"""A queued job whose doorbell rang this long ago, while this worker has nothing to do, was not heard."""

TIDY_EVERY_S = 60.0

_log = get_logger(__name__)


class Reaper:
    """Start it once; it goes on until `stop()`."""

    def __init__(
        self,
        store: JobStore,
        ring: Ring,
        *,
        is_idle: Callable[[], bool],
        tidy: Callable[[], None] = lambda: None,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`tidy` is called at the first look and then once a minute."""
        self._store = store
        self._ring = ring
        self._is_idle = is_idle
        self._tidy = tidy
        self._tidy_at_s = 0.0
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reaper", daemon=True)

    def start(self) -> None:
        """Look at once, then every few seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the look that is being taken."""
        self._over.set()
        self._thread.join(timeout=self._every_s)

    def look(self) -> None:
        """One look."""
        for job_id in self._store.requeue_stalled():
            _log.warning("job_requeued", job_id=job_id)
            self._ring(job_id)
        # A busy worker takes up what waits when it is done. Only one with nothing to do can say that nobody
        # heard a job's doorbell; if all rang for all waiting jobs, messages would pile up.
        if self._is_idle():
            for job_id in self._store.queued_unrung(older_than_s=UNHEARD_AFTER_S):
                _log.info("job_rung_again", job_id=job_id)
                self._ring(job_id)

        if time.monotonic() >= self._tidy_at_s:
            self._tidy_at_s = time.monotonic() + TIDY_EVERY_S
            self._tidy()

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except StorageUnavailable as error:
                _log.warning("reaper_failed", error=repr(error.__cause__))
            if self._over.wait(self._every_s):
                return
