"""What workers ask of the job tables: claim, keep, end, and take up what others lost.

A claim hands out a token (`lease_token + 1`). Every later write names it; once the lease has been taken over,
the token is old and the write raises LeaseLost without touching anything. All times are the database's.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, case, func, literal, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.access.principal import Principal
from app.db.revision import lock_revision
from app.db.session import Database
from app.db.tables import JobRow
from app.jobs.clock import database_now
from app.jobs.job import Asked, ClaimedJob, FailureCode, JobError, Json
from app.jobs.records import CHECKPOINTED_ATTEMPT
from app.jobs.rows import LeaseLost, held, move, write_held
from app.jobs.states import JobStatus

__all__ = ["MAX_ATTEMPTS", "Cancelled", "JobStore", "LeaseLost"]

MAX_ATTEMPTS = 3
"""Runs in a row, none with a new checkpoint, that a job gets before it fails for having killed, or lost, each
of them."""


_HINT = "The job's log file says what it did last; a lack of memory is the likeliest cause."
_WORKER_LOST = JobError(code=FailureCode.WORKER_LOST, message="its worker fell silent", hint=_HINT)


_AFTER = {Asked.CANCEL: JobStatus.CANCELLED, Asked.PAUSE: JobStatus.PAUSED, None: JobStatus.QUEUED}
"""What becomes of a job whose run has left off, by what was asked of it."""


class Cancelled(Exception):
    """Somebody cancelled the job while it ran."""


class JobStore:
    """Safe to use from any number of workers on any number of machines at once."""

    def __init__(
        self, database: Database, *, max_attempts: int = MAX_ATTEMPTS, max_running_jobs: int = 0
    ) -> None:
        self._database = database
        self._max_attempts = max_attempts
        self._max_running_jobs = max_running_jobs
        """Of one tenant; 0: any number."""

    def claim(self, job_id: str, *, holder: str, lease_s: float) -> ClaimedJob | None:
        """Take up this job, or None when it is not queued (any more), or its tenant has enough of them
        running. Of N callers at most one gets it."""
        return self._claim(JobRow.id == job_id, holder=holder, lease_s=lease_s)

    def claim_next(self, *, holder: str, lease_s: float) -> ClaimedJob | None:
        """Take up the job of the highest priority, and of those the one that has waited longest; None when
        none waits."""
        first = (
            select(JobRow.id)
            .where(JobRow.status == JobStatus.QUEUED.value, self._may_run())
            .order_by(JobRow.priority.desc(), JobRow.created_at, JobRow.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=JobRow)  # PostgreSQL; SQLite has one writer anyway
            .scalar_subquery()
        )
        return self._claim(JobRow.id == first, holder=holder, lease_s=lease_s)

    def _may_run(self) -> ColumnElement[bool]:
        """The job's tenant has fewer jobs running than it may."""
        if not self._max_running_jobs:
            return literal(True)
        other = aliased(JobRow)
        running = (
            select(func.count())
            .select_from(other)
            .where(other.tenant_id == JobRow.tenant_id, other.status == JobStatus.RUNNING.value)
            .correlate(JobRow)
            .scalar_subquery()
        )
        return running < self._max_running_jobs

    def _claim(self, which: ColumnElement[bool], *, holder: str, lease_s: float) -> ClaimedJob | None:
        values: Json = {
            "lease_token": JobRow.lease_token + 1,
            "lease_holder": holder,
            "lease_expires_at": database_now() + lease_s,
            "attempts": JobRow.attempts + 1,
            "started_at": case((JobRow.started_at.is_(None), database_now()), else_=JobRow.started_at),
            "progress": 0.0,
            "phase": None,
            "error": None,
        }
        with self._database.begin() as session:
            if self._max_running_jobs:
                lock_revision(session)  # or two claims at once would both count one too few
            claimed = move(
                session,
                JobStatus.QUEUED,
                JobStatus.RUNNING,
                which,
                self._may_run(),
                message="started",
                data={"holder": holder},
                values=values,
            )
            return _claimed(claimed[0]) if claimed else None

    def heartbeat(
        self, job_id: str, token: int, *, lease_s: float, ran_s: float | None = None
    ) -> Asked | None:
        """Keep the lease for another `lease_s`; what somebody asked of the job, if anything. `ran_s`: how
        long it has run in all its attempts. Raises LeaseLost.
        """
        values: Json = {"lease_expires_at": database_now() + lease_s, **_ran(ran_s)}
        with self._database.begin() as session:
            return _asked(write_held(session, job_id, token, values))

    def asked(self, job_id: str, token: int) -> Asked | None:
        """What somebody asked of the job, without a write. Raises LeaseLost."""
        with self._database.read() as session:
            runs = (*held(job_id, token), JobRow.status == JobStatus.RUNNING.value)
            row = session.scalar(select(JobRow).where(*runs))
            if row is None:
                raise LeaseLost(job_id)
            return _asked(row)

    def check(self, session: Session, job_id: str, token: int) -> None:
        """Raise LeaseLost, and so undo the caller's transaction, unless the run still owns its job; Cancelled
        if somebody has cancelled that."""
        if write_held(session, job_id, token, {}).cancel_requested:
            raise Cancelled(job_id)

    def finish(
        self,
        session: Session,
        job_id: str,
        token: int,
        status: JobStatus,
        *,
        result: Json | None = None,
        error: JobError | None = None,
        ran_s: float | None = None,
    ) -> None:
        """End the run, inside the caller's transaction: what it published is committed with it or not at all.
        A job that is paused, for want of disk, keeps the error as its reason until it goes on.

        Raises LeaseLost, and Cancelled for a success or a pause that comes after a cancellation: whoever
        asked for that was told that it will be.
        """
        values: Json = {"result": result, "error": error.to_dict() if error else None, **_ran(ran_s)}
        where = list(held(job_id, token))
        if status in (JobStatus.SUCCEEDED, JobStatus.PAUSED):
            where.append(JobRow.cancel_requested.is_(False))
        if status is JobStatus.SUCCEEDED:
            values["progress"] = 1.0
        message = error.message if error else status.value
        if not move(session, JobStatus.RUNNING, status, *where, message=message, values=values):
            self.check(session, job_id, token)
            raise LeaseLost(job_id)

    def give_back(self, job_id: str, token: int, *, reason: str, ran_s: float | None = None) -> JobStatus:
        """The run has left off, and did nothing wrong: the attempt does not count. Somebody asked to
        cancel or to pause: the job is cancelled or paused; else it is queued again at once. Raises LeaseLost.
        """
        with self._database.begin() as session:
            row = write_held(session, job_id, token, _ran(ran_s))
            asked = _asked(row)
            after = _AFTER[asked]
            values: Json = {"attempts": JobRow.attempts - 1, "rung_at": database_now()}
            message = reason if asked is None else after.value
            move(session, JobStatus.RUNNING, after, *held(job_id, token), message=message, values=values)
            return after

    def lose(
        self,
        job_id: str,
        token: int,
        *,
        reason: str,
        error: JobError | None = None,
        ran_s: float | None = None,
    ) -> bool:
        """The run came to nothing: try again, or fail after too often, with that error if one is given. True
        when it is queued again. Raises LeaseLost.
        """
        given_up = error or JobError(code=FailureCode.CHILD_DIED, message=reason, hint=_HINT)
        with self._database.begin() as session:
            row = write_held(session, job_id, token, _ran(ran_s))
            after = self._retry(session, row, given_up, reason=reason)
            return after is JobStatus.QUEUED

    def requeue_stalled(self) -> list[str]:
        """Ids of jobs whose worker fell silent and that are queued again. Whoever lost too often fails."""
        stalled = (JobRow.status == JobStatus.RUNNING.value, JobRow.lease_expires_at < database_now())
        with self._database.read() as session:
            if session.scalar(select(JobRow.id).where(*stalled).limit(1)) is None:
                return []
        queued = []
        with self._database.begin() as session:
            for row in session.scalars(select(JobRow).where(*stalled).with_for_update(skip_locked=True)):
                after = self._retry(session, row, _WORKER_LOST, reason=_WORKER_LOST.message)
                if after is JobStatus.QUEUED:
                    queued.append(row.id)
        return queued

    def queued_unrung(self, *, older_than_s: float, limit: int = 16) -> list[str]:
        """Ids of the oldest queued jobs whose doorbell rang that long ago or never; now it counts as rung."""
        waits = JobRow.status == JobStatus.QUEUED.value
        silent = or_(JobRow.rung_at.is_(None), JobRow.rung_at < database_now() - older_than_s)
        oldest = select(JobRow.id).where(waits, silent).order_by(JobRow.created_at, JobRow.id).limit(limit)
        with self._database.read() as session:
            ids: Sequence[str] = session.scalars(oldest).all()
        if not ids:
            return []
        statement = update(JobRow).where(JobRow.id.in_(ids), waits, silent).values(rung_at=database_now())
        with self._database.begin() as session:
            return list(
                session.scalars(statement.returning(JobRow.id).execution_options(synchronize_session=False))
            )

    def _retry(self, session: Session, row: JobRow, given_up: JobError, *, reason: str) -> JobStatus:
        """A run is lost: where its job, whose row is locked, goes now. The error is for giving up."""
        mine = held(row.id, row.lease_token)
        tries = row.attempts - int((row.facts or {}).get(CHECKPOINTED_ATTEMPT, 0))
        values: Json = {"rung_at": database_now()}
        if row.cancel_requested:
            after, message = JobStatus.CANCELLED, "cancelled"
        elif row.pause_requested:
            after, message = JobStatus.PAUSED, f"paused: {reason}"
        elif tries < self._max_attempts:
            after, message = JobStatus.QUEUED, f"{reason}; it will be tried again"
        else:
            after = JobStatus.FAILED
            without = " without a new checkpoint" if tries < row.attempts else ""
            message = f"Given up after {self._max_attempts} attempts{without}: {reason}."
            values["error"] = replace(given_up, message=message).to_dict()
        move(session, JobStatus.RUNNING, after, *mine, message=message, values=values)
        return after


def _asked(row: JobRow) -> Asked | None:
    if row.cancel_requested:
        return Asked.CANCEL
    return Asked.PAUSE if row.pause_requested else None


def _claimed(row: JobRow) -> ClaimedJob:
    return ClaimedJob(
        id=row.id,
        principal=Principal(tenant_id=row.tenant_id),
        kind=row.kind,
        spec=row.spec,
        token=row.lease_token,
        attempt=row.attempts,
        ran_s=row.ran_s,
        time_limit_s=row.time_limit_s,
    )


def _ran(ran_s: float | None) -> Json:
    return {} if ran_s is None else {"ran_s": ran_s}
