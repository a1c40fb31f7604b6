"""Jobs that move as a worker would move them, without one."""

from app.jobs.job import Note
from app.jobs.records import RunRecords
from app.jobs.states import JobStatus
from app.jobs.store import JobStore
from app.storage.objects import Stored


class Hand:
    """Takes a queued job up, and writes down what a run of it would."""

    def __init__(self, database, job_id: str) -> None:
        self.database, self.store, self.records = database, JobStore(database), RunRecords(database)
        self.job = self.store.claim(job_id, holder="w", lease_s=60)

    def note(self, **note) -> None:
        """Write down progress, messages, metrics, facts."""
        self.records.write(self.job.id, self.job.token, Note(**note))

    def checkpoint(self, step: int, **metrics: float) -> None:
        """Keep a checkpoint; its bytes are nowhere."""
        stored = Stored(sha256=f"{step:064x}", size_bytes=100 + step)
        self.records.add_checkpoint(
            self.job, Note(), step=step, stored=stored, metrics=metrics, is_kept=lambda: True
        )

    def end(self, status: JobStatus = JobStatus.SUCCEEDED, **outcome) -> None:
        """End the run."""
        with self.database.begin() as session:
            self.store.finish(session, self.job.id, self.job.token, status, **outcome)
