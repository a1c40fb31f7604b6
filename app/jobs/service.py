"""Jobs as callers use them: create, look, cancel, pause, resume, run again. Needs no HTTP and no broker."""

from collections.abc import Callable

from sqlalchemy.exc import IntegrityError

from app.access.principal import Principal
from app.db.revision import lock_revision
from app.db.session import Database
from app.errors import Conflict, InvalidRequest, JobNotCancellable, NotFound, QuotaExceeded
from app.jobs.job import Job, JobCheckpoint, JobEvent, JobMetrics, Json
from app.jobs.needs import NeedsRepository, needs_of
from app.jobs.repository import KEY_LIFETIME_S, JobRepository, NewJob
from app.jobs.states import JobStatus
from app.storage.disk import Disk

Ring = Callable[[str], None]
"""Tells workers, after the commit, that a job waits. Must not raise."""


class JobService:
    """Every method acts for one principal and sees nothing of another tenant."""

    def __init__(
        self, database: Database, ring: Ring, *, max_queued_jobs: int = 0, disk: Disk | None = None
    ) -> None:
        self._database = database
        self._ring = ring
        self._max_queued_jobs = max_queued_jobs
        """Of one tenant; 0: any number."""
        self._disk = disk

    def create(
        self,
        principal: Principal,
        *,
        kind: str,
        spec: Json,
        idempotency_key: str | None = None,
        priority: int = 0,
        time_limit_s: float | None = None,
    ) -> Job:
        """Queue a job and ring for it. A key used before for the same job within 24 h returns that job.
        Jobs of higher priority are taken up first. `time_limit_s`: of running, over all attempts.

        Raises:
            Conflict: the key stands for another kind or spec; or what the spec refers to is not there.
            QuotaExceeded: the tenant has enough jobs waiting.
            DiskFull: there is too little room for any job.

        """
        new = NewJob(
            kind=kind,
            spec=spec,
            idempotency_key=idempotency_key,
            priority=priority,
            time_limit_s=time_limit_s,
        )
        return self._queue(principal, new)

    def rerun(
        self,
        principal: Principal,
        job_id: str,
        spec: Json,
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job like this one, of whatever became of it, with a spec of its own. Raises as `create`, and
        NotFound.
        """
        job = self.get(principal, job_id)
        new = NewJob(
            kind=job.kind,
            spec=spec,
            idempotency_key=idempotency_key,
            priority=job.priority,
            time_limit_s=job.time_limit_s,
            rerun_of=job.id,
        )
        return self._queue(principal, new)

    def _queue(self, principal: Principal, new: NewJob) -> Job:
        try:
            job, is_new = self._create(principal, new)
        except IntegrityError:  # the same key, committed by another process after we had looked
            job, is_new = self._create(principal, new)
        if is_new:
            self._ring(job.id)
        return job

    def _create(self, principal: Principal, new: NewJob) -> tuple[Job, bool]:
        with self._database.begin() as session:
            lock_revision(session)  # or two at once would both count one too few, or something go meanwhile
            jobs = JobRepository(session)
            if (key := new.idempotency_key) is not None:
                jobs.drop_key(principal, key, only_older_than_s=KEY_LIFETIME_S)
                known = jobs.find_by_key(principal, key)
                if known is not None:
                    return _same(known, new, key), False
            if self._disk is not None:
                self._disk.check()
            if self._max_queued_jobs:
                self._check_quota(jobs.queued(principal))
            NeedsRepository(session, principal).check_there(needs_of(new.kind, new.spec))
            return jobs.add(principal, new), True

    def _check_quota(self, queued: int) -> None:
        if queued >= self._max_queued_jobs:
            raise QuotaExceeded(
                f"{queued} jobs wait already, which is as many as may.",
                hint="Cancel some, or wait until some have run.",
            )

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
        """A job that waits or is paused is cancelled at once; a running one ends within seconds.

        Raises NotFound, and JobNotCancellable for a job that has ended otherwise.
        """
        with self._database.begin() as session:
            jobs = JobRepository(session)
            done = (
                jobs.move_idle(principal, job_id, JobStatus.QUEUED, JobStatus.CANCELLED)
                or jobs.move_idle(principal, job_id, JobStatus.PAUSED, JobStatus.CANCELLED)
                or jobs.ask_to_cancel(principal, job_id)
            )
            session.expire_all()
            job = _found(jobs.get(principal, job_id), job_id)
        if not done and job.status is not JobStatus.CANCELLED:
            raise JobNotCancellable(f"The job {job_id} has already {job.status}.", param="job_id")
        return job

    def pause(self, principal: Principal, job_id: str) -> Job:
        """A job that waits is paused at once; a running one is told to checkpoint, and paused when it has.

        Raises NotFound, and Conflict for a job that has ended.
        """
        with self._database.begin() as session:
            jobs = JobRepository(session)
            done = jobs.move_idle(principal, job_id, JobStatus.QUEUED, JobStatus.PAUSED) or jobs.ask_to_pause(
                principal, job_id
            )
            session.expire_all()
            job = _found(jobs.get(principal, job_id), job_id)
        if not done and job.status is not JobStatus.PAUSED:
            raise Conflict(f"The job {job_id} has already {job.status}.", param="job_id")
        return job

    def resume(self, principal: Principal, job_id: str) -> Job:
        """A paused job is queued again, to go on from its newest checkpoint; one that is only about to pause
        goes on, at the latest with its next attempt.

        Raises NotFound, and Conflict for a job that neither is paused nor was asked to.
        """
        with self._database.begin() as session:
            jobs = JobRepository(session)
            is_queued = jobs.move_idle(principal, job_id, JobStatus.PAUSED, JobStatus.QUEUED)
            done = is_queued or jobs.ask_to_pause(principal, job_id, pause=False)
            session.expire_all()
            job = _found(jobs.get(principal, job_id), job_id)
        if not done:
            raise Conflict(f"The job {job_id} is not paused; it is {job.status}.", param="job_id")
        if is_queued:
            self._ring(job_id)
        return job

    def checkpoints(self, principal: Principal, job_id: str) -> list[JobCheckpoint]:
        """The job's checkpoints that are kept, newest first. Raises NotFound."""
        with self._database.read() as session:
            jobs = JobRepository(session)
            _found(jobs.get(principal, job_id), job_id)
            return jobs.checkpoints(principal, job_id)

    def metrics(
        self, principal: Principal, job_id: str, *, after_step: int | None = None, limit: int = 1000
    ) -> list[JobMetrics]:
        """What was measured, by step, from the one after `after_step`. Raises NotFound."""
        with self._database.read() as session:
            jobs = JobRepository(session)
            _found(jobs.get(principal, job_id), job_id)
            return jobs.metrics(principal, job_id, after_step=after_step, limit=limit)

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


def _same(known: Job, new: NewJob, key: str) -> Job:
    if (known.kind, known.spec) != (new.kind, new.spec):
        raise Conflict(
            f"The idempotency key {key!r} already stands for {known.id}, which is another job.",
            param="idempotency_key",
            hint="Use a new key for a new job.",
        )
    return known


def change_spec(spec: Json, changes: Json) -> Json:
    """A spec with fields changed. Where both have an object, its fields are changed one by one; what lies
    deeper, as a whole. Raises InvalidRequest for a field that the spec does not have.
    """
    changed = dict(spec)
    for field, value in changes.items():
        if field not in spec:
            raise InvalidRequest(
                f"The job's spec has no {field!r}.",
                param=f"changes.{field}",
                hint=f"It has: {', '.join(sorted(spec))}.",
            )
        old = spec[field]
        changed[field] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    return changed
