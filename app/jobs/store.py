"""What workers ask of the job tables: claim, keep, end, and take up what others lost.

A claim hands out a token (`lease_token + 1`). Every later write names it; once the lease has been taken over,
the token is old and the write raises LeaseLost without touching anything. All times are the database's.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, case, or_, select, update
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.session import Database
from app.db.tables import JobRow
from app.jobs.clock import database_now
from app.jobs.job import ClaimedJob, FailureCode, JobError, Json
from app.jobs.rows import add_event, move
from app.jobs.states import JobStatus

MAX_ATTEMPTS = 3
"""Runs a job gets before it fails for having killed, or lost, each of them."""


class LeaseLost(Exception):
    """This run no longer owns the job; it must stop and may write nothing."""


class JobStore:
    """Safe to use from any number of workers on any number of machines at once."""

    def __init__(self, database: Database, *, max_attempts: int = MAX_ATTEMPTS) -> None:
        self._database = database
        self._max_attempts = max_attempts

    def claim(self, job_id: str, *, holder: str, lease_s: float) -> ClaimedJob | None:
        """Take up this job, or None when it is not queued (any more). Of N callers at most one gets it."""
        return self._claim(JobRow.id == job_id, holder=holder, lease_s=lease_s)

    def claim_next(self, *, holder: str, lease_s: float) -> ClaimedJob | None:
        """Take up the job that has waited longest, or None when none waits."""
        oldest = (
            select(JobRow.id)
            .where(JobRow.status == JobStatus.QUEUED.value)
            .order_by(JobRow.created_at, JobRow.id)
            .limit(1)
            .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer anyway
            .scalar_subquery()
        )
        return self._claim(JobRow.id == oldest, holder=holder, lease_s=lease_s)

    def _claim(self, which: ColumnElement[bool], *, holder: str, lease_s: float) -> ClaimedJob | None:
        values: Json = {
            "lease_token": JobRow.lease_token + 1,
            "lease_holder": holder,
            "lease_expires_at": database_now() + lease_s,
            "attempts": JobRow.attempts + 1,
            "started_at": case((JobRow.started_at.is_(None), database_now()), else_=JobRow.started_at),
            "progress": 0.0,
            "phase": None,
        }
        with self._database.begin() as session:
            claimed = move(
                session,
                JobStatus.QUEUED,
                JobStatus.RUNNING,
                which,
                message="started",
                data={"holder": holder},
                values=values,
            )
            if not claimed:
                return None
            row = claimed[0]
            return ClaimedJob(
                id=row.id,
                principal=Principal(tenant_id=row.tenant_id),
                kind=row.kind,
                spec=row.spec,
                token=row.lease_token,
                attempt=row.attempts,
            )

    def heartbeat(self, job_id: str, token: int, *, lease_s: float) -> bool:
        """Keep the lease for another `lease_s`; True when somebody asked to cancel. Raises LeaseLost."""
        with self._database.begin() as session:
            row = self._write(session, job_id, token, {"lease_expires_at": database_now() + lease_s})
            return row.cancel_requested

    def record(
        self,
        job_id: str,
        token: int,
        *,
        progress: float | None = None,
        phase: str | None = None,
        message: str | None = None,
    ) -> None:
        """Write down how far the run is. A new phase, and every message, is an event. Raises LeaseLost."""
        with self._database.begin() as session:
            before = session.scalar(select(JobRow.phase).where(JobRow.id == job_id))
            said = {"progress": progress, "phase": phase}
            row = self._write(session, job_id, token, {k: v for k, v in said.items() if v is not None})
            if phase is not None and phase != before:
                add_event(session, row, kind="progress", message=phase, data={"progress": row.progress})
            if message is not None:
                add_event(session, row, kind="message", message=message)

    def finish(
        self,
        session: Session,
        job_id: str,
        token: int,
        status: JobStatus,
        *,
        result: Json | None = None,
        error: JobError | None = None,
    ) -> None:
        """End the run, inside the caller's transaction: what it published is committed with it or not at all.

        Raises LeaseLost.
        """
        values: Json = {"result": result, "error": error.to_dict() if error else None}
        if status is JobStatus.SUCCEEDED:
            values["progress"] = 1.0
        message = error.message if error else status.value
        if not move(
            session, JobStatus.RUNNING, status, *_held(job_id, token), message=message, values=values
        ):
            raise LeaseLost(job_id)

    def give_back(self, job_id: str, token: int, *, reason: str) -> None:
        """A stopping worker's: queue the job again at once; the attempt does not count. Raises LeaseLost."""
        values: Json = {"attempts": JobRow.attempts - 1, "rung_at": database_now()}
        with self._database.begin() as session:
            held = _held(job_id, token)
            if not move(session, JobStatus.RUNNING, JobStatus.QUEUED, *held, message=reason, values=values):
                raise LeaseLost(job_id)

    def lose(self, job_id: str, token: int, *, reason: str) -> bool:
        """The run died under its worker: try again, or fail after too often. True when it is queued again.

        Raises LeaseLost.
        """
        with self._database.begin() as session:
            held = _held(job_id, token)
            if self._requeue(session, *held, reason=reason):
                return True
            if not self._give_up(session, *held, code=FailureCode.CHILD_DIED, reason=reason):
                raise LeaseLost(job_id)
            return False

    def requeue_stalled(self) -> list[str]:
        """Ids of jobs whose worker fell silent and that are queued again. Whoever lost too often fails."""
        expired = JobRow.lease_expires_at < database_now()
        reason = "its worker fell silent"
        with self._database.read() as session:
            running = JobRow.status == JobStatus.RUNNING.value
            if session.scalar(select(JobRow.id).where(running, expired).limit(1)) is None:
                return []
        with self._database.begin() as session:
            asked = JobRow.cancel_requested.is_(True)
            move(session, JobStatus.RUNNING, JobStatus.CANCELLED, expired, asked, message="cancelled")
            queued = self._requeue(session, expired, reason=reason)
            self._give_up(session, expired, code=FailureCode.WORKER_LOST, reason=reason)
            return [row.id for row in queued]

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

    def _requeue(self, session: Session, *which: ColumnElement[bool], reason: str) -> list[JobRow]:
        may_retry = JobRow.attempts < self._max_attempts
        return move(
            session,
            JobStatus.RUNNING,
            JobStatus.QUEUED,
            may_retry,
            *which,
            message=f"{reason}; it will be tried again",
            values={"rung_at": database_now()},
        )

    def _give_up(
        self, session: Session, *which: ColumnElement[bool], code: FailureCode, reason: str
    ) -> list[JobRow]:
        message = f"Given up after {self._max_attempts} attempts: {reason}."
        hint = "The job's log file says what it did last; a lack of memory is the likeliest cause."
        error = JobError(code=code, message=message, hint=hint).to_dict()
        return move(
            session, JobStatus.RUNNING, JobStatus.FAILED, *which, message=message, values={"error": error}
        )

    def _write(self, session: Session, job_id: str, token: int, values: Json) -> JobRow:
        statement = (
            update(JobRow)
            .where(*_held(job_id, token), JobRow.status == JobStatus.RUNNING.value)
            .values(values or {"lease_token": token})
            .returning(JobRow)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        row = session.scalar(statement)
        if row is None:
            raise LeaseLost(job_id)
        return row


def _held(job_id: str, token: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (JobRow.id == job_id, JobRow.lease_token == token)
