"""Answers the doorbell: claims jobs and runs them, one after the other, until none waits."""

import threading

from app.jobs.job import ClaimedJob
from app.jobs.store import LeaseLost
from app.observability.logs import bound, get_logger
from workers.attempt import Attempt
from workers.workplace import Workplace

_log = get_logger(__name__)


class JobRunner:
    """Runs jobs one after the other. `stop()` may be called from a signal handler or another thread."""

    def __init__(self, workplace: Workplace) -> None:
        self._place = workplace
        self._stopping = threading.Event()
        self._attempt: Attempt | None = None

    @property
    def is_busy(self) -> bool:
        """A job is running."""
        return self._attempt is not None

    @property
    def is_stopping(self) -> bool:
        """`stop()` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Take up nothing more; have what runs checkpoint, and give it back for another worker to go on."""
        self._stopping.set()
        if self._attempt is not None:
            self._attempt.wake()

    def answer(self, job_id: str) -> int:
        """Somebody rang: run whatever waits, by priority and age. Returns how many it ran.

        So a worker never idles while jobs wait, whatever became of their messages.
        """
        ran = 0
        while not self.is_stopping and (job := self._take(job_id)) is not None:
            self._run(job)
            ran += 1
        return ran

    def _take(self, job_id: str) -> ClaimedJob | None:
        """On PostgreSQL two workers may look at the same next job, and one of them gets none: the job that
        rang is its second chance."""
        store, holder, lease_s = self._place.store, self._place.holder, self._place.settings.lease_s
        return store.claim_next(holder=holder, lease_s=lease_s) or store.claim(
            job_id, holder=holder, lease_s=lease_s
        )

    def _run(self, job: ClaimedJob) -> None:
        with bound(job_id=job.id):
            _log.info("job_started", kind=job.kind, attempt=job.attempt)
            self._attempt = Attempt(self._place, job, is_stopping=self._stopping.is_set)
            try:
                self._attempt.run()
            except LeaseLost:
                _log.warning("job_lease_lost")
            finally:
                self._attempt = None
