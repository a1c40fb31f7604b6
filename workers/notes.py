"""What a child says, on its way to the job's row: the newest progress, each new phase, every message."""

import time

from app.errors import StorageUnavailable
from app.jobs.job import ClaimedJob, Json
from app.jobs.store import JobStore
from app.observability.logs import get_logger
from workers.protocol import Line, Message, Progress

RECORD_EVERY_S = 0.5
"""Progress within a phase is written down this often at most, seconds."""

_log = get_logger(__name__)


class Notes:
    """The notes of one run."""

    def __init__(self, store: JobStore, job: ClaimedJob) -> None:
        self._store = store
        self._job = job
        self._pending: Json = {}
        self._phase: str | None = None
        self._next_s = 0.0

    @property
    def due_in_s(self) -> float | None:
        """Seconds until something has to be written; None when nothing waits."""
        return max(0.0, self._next_s - time.monotonic()) if self._pending else None

    def take(self, line: Line) -> None:
        """Keep what the line says; a message or a new phase is due at once."""
        if isinstance(line, Progress):
            self._pending |= {"progress": line.fraction, "phase": line.phase}
            if line.phase != self._phase:
                self._phase, self._next_s = line.phase, 0.0
        elif isinstance(line, Message):
            self._pending["message"] = line.text
            self._next_s = 0.0
        self.write_due()

    def write_due(self) -> None:
        """Write if it is time. What the database cannot take now is dropped: progress is no promise.

        Raises LeaseLost.
        """
        if self.due_in_s != 0.0:
            return
        pending, self._pending = self._pending, {}
        self._next_s = time.monotonic() + RECORD_EVERY_S
        try:
            self._store.record(self._job.id, self._job.token, **pending)
        except StorageUnavailable as error:
            _log.warning("progress_not_recorded", error=repr(error.__cause__))
