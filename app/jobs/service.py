"""Jobs as callers use them: create, look, cancel. Works without HTTP and without a broker."""

from collections.abc import Callable

from sqlalchemy.exc import IntegrityError

from app.access.principal import Principal
from app.db.session import Database
from app.errors import Conflict, JobNotCancellable, NotFound
from app.jobs.job import Job, JobEvent, Json
from app.jobs.repository import KEY_LIFETIME_S, JobRepository
from app.jobs.states import JobStatus

Ring = Callable[[str], None]
"""Tells workers, after the commit, that a job waits. Must not raise."""


class JobService:
    """Every method acts for one principal and sees nothing of another tenant."""

    def __init__(self, database: Database, ring: Ring) -> None:
        self._database = database
        self._ring = ring

    def create(
        self, principal: Principal, *, kind: str, spec: Json, idempotency_key: str | None = None
    ) -> Job:
        """Queue a job and ring for it. A key used before for the same job within 24 h returns that job.

        Raises Conflict when the key stands for another kind or spec.
        """
        try:
            job, is_new = self._create(principal, kind=kind, spec=spec, key=idempotency_key)
        except IntegrityError:  # the same key, committed by another process after we had looked
            job, is_new = self._create(principal, kind=kind, spec=spec, key=idempotency_key)
        if is_new:
            self._ring(job.id)
        return job

    def _create(self, principal: Principal, *, kind: str, spec: Json, key: str | None) -> tuple[Job, bool]:
        with self._database.begin() as session:
            jobs = JobRepository(session)
            if key is not None:
                jobs.drop_key(principal, key, only_older_than_s=KEY_LIFETIME_S)
                known = jobs.find_by_key(principal, key)
                if known is not None:
                    return _same(known, kind=kind, spec=spec, key=key), False
            return jobs.add(principal, kind=kind, spec=spec, idempotency_key=key), True

    def get(self, principal: Principal, job_id: str) -> Job:
        """The job as it is now. Raises NotFound."""
        with self._database.read() as session:
            return _found(JobRepository(session).get(principal, job_id), job_id)

    def find(self, principal: Principal, idempotency_key: str) -> Job | None:
        """The job that a key stands for, however old."""
        with self._database.read() as session:
            return JobRepository(session).find_by_key(principal, idempotency_key)

    def forget_key(self, principal: Principal, idempotency_key: str) -> None:
        """The next `create` with this key makes a new job."""
        with self._database.begin() as session:
            JobRepository(session).drop_key(principal, idempotency_key)

    def events(
        self, principal: Principal, job_id: str, *, limit: int = 100, after: int = 0
    ) -> list[JobEvent]:
        """What happened to the job, oldest first, from the event after `after`. Raises NotFound."""
        with self._database.read() as session:
            jobs = JobRepository(session)
            _found(jobs.get(principal, job_id), job_id)
            return jobs.events(principal, job_id, limit=limit, after=after)

    def cancel(self, principal: Principal, job_id: str) -> Job:
        """A queued job is cancelled at once; a running one is asked to stop and ends within seconds.

        Raises NotFound, and JobNotCancellable for a job that has ended otherwise.
        """
        with self._database.begin() as session:
            jobs = JobRepository(session)
            done = jobs.cancel_queued(principal, job_id) or jobs.ask_to_cancel(principal, job_id)
            session.expire_all()
            job = _found(jobs.get(principal, job_id), job_id)
        if not done and job.status is not JobStatus.CANCELLED:
            raise JobNotCancellable(f"The job {job_id} has already {job.status}.", param="job_id")
        return job

    def list(
        self,
        principal: Principal,
        *,
        kind: str | None = None,
        status: JobStatus | None = None,
        limit: int = 20,
        after: str | None = None,
    ) -> list[Job]:
        """Newest first, at most `limit`, those older than the job `after`."""
        with self._database.read() as session:
            return JobRepository(session).list(principal, kind=kind, status=status, limit=limit, after=after)


def _found(job: Job | None, job_id: str) -> Job:
    if job is None:
        raise NotFound(f"There is no job {job_id!r}.", param="job_id", hint="GET /v1/jobs lists them.")
    return job


def _same(known: Job, *, kind: str, spec: Json, key: str) -> Job:
    if (known.kind, known.spec) != (kind, spec):
        raise Conflict(
            f"The idempotency key {key!r} already stands for {known.id}, which is another job.",
            param="idempotency_key",
            hint="Use a new key for a new job.",
        )
    return known
