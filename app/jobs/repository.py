"""What a caller may ask of the job tables: only rows of its own tenant."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.tables import JobCheckpointRow, JobEventRow, JobMetricsRow, JobRow
from app.ids import new_id
from app.jobs.clock import database_now
from app.jobs.job import Job, JobCheckpoint, JobEvent, JobMetrics, Json
from app.jobs.rows import add_event, checkpoint_of, event_of, job_of, metrics_of, move
from app.jobs.states import JobStatus

KEY_LIFETIME_S = 24 * 3600
"""How long an idempotency key stands for the job it made."""


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job that somebody asks for."""

    kind: str
    spec: Json
    idempotency_key: str | None = None
    priority: int = 0
    time_limit_s: float | None = None
    rerun_of: str | None = None


class JobRepository:
    """Statements inside the session it is given; the caller's block commits."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, principal: Principal, new: NewJob) -> Job:
        """A new row, queued, with its first event. The doorbell counts as rung now: it will be."""
        statement = insert(JobRow).values(
            id=new_id("job"),
            tenant_id=principal.tenant_id,
            kind=new.kind,
            status=JobStatus.QUEUED.value,
            spec=new.spec,
            progress=0.0,
            attempts=0,
            cancel_requested=False,
            lease_token=0,
            rung_at=database_now(),
            idempotency_key=new.idempotency_key,
            priority=new.priority,
            pause_requested=False,
            time_limit_s=new.time_limit_s,
            ran_s=0.0,
            rerun_of=new.rerun_of,
            created_at=database_now(),
        )
        row = self._session.scalars(statement.returning(JobRow)).one()
        add_event(self._session, row, kind="state", message="created", data={"to": JobStatus.QUEUED.value})
        return job_of(row)

    def get(self, principal: Principal, job_id: str) -> Job | None:
        """The job, unless it is not there or another tenant's."""
        row = self._session.scalar(select(JobRow).where(*_own(principal, job_id)))
        return None if row is None else job_of(row)

    def find_by_key(self, principal: Principal, key: str) -> Job | None:
        """The job that this idempotency key stands for."""
        row = self._session.scalar(
            select(JobRow).where(JobRow.tenant_id == principal.tenant_id, JobRow.idempotency_key == key)
        )
        return None if row is None else job_of(row)

    def drop_key(self, principal: Principal, key: str, *, only_older_than_s: float = 0.0) -> None:
        """The key may be used anew; the job it stood for stays."""
        self._session.execute(
            update(JobRow)
            .where(JobRow.tenant_id == principal.tenant_id, JobRow.idempotency_key == key)
            .where(JobRow.created_at <= database_now() - only_older_than_s)
            .values(idempotency_key=None)
            .execution_options(synchronize_session=False)
        )

    def events(self, principal: Principal, job_id: str, *, limit: int, after: int) -> list[JobEvent]:
        """Oldest first, from the one after `after`."""
        query = (
            select(JobEventRow)
            .where(JobEventRow.tenant_id == principal.tenant_id, JobEventRow.job_id == job_id)
            .where(JobEventRow.id > after)
            .order_by(JobEventRow.id)
            .limit(limit)
        )
        return [event_of(row) for row in self._session.scalars(query)]

    def queued(self, principal: Principal) -> int:
        """How many jobs of the tenant wait."""
        count = select(func.count()).select_from(JobRow)
        waits = JobRow.status == JobStatus.QUEUED.value
        return self._session.scalars(count.where(JobRow.tenant_id == principal.tenant_id, waits)).one()

    def checkpoints(self, principal: Principal, job_id: str) -> list[JobCheckpoint]:
        """Newest first."""
        mine = (JobCheckpointRow.tenant_id == principal.tenant_id, JobCheckpointRow.job_id == job_id)
        query = select(JobCheckpointRow).where(*mine).order_by(JobCheckpointRow.step.desc())
        return [checkpoint_of(row) for row in self._session.scalars(query)]

    def metrics(
        self, principal: Principal, job_id: str, *, after_step: int | None, limit: int
    ) -> list[JobMetrics]:
        """By step, from the one after `after_step`."""
        query = select(JobMetricsRow).where(
            JobMetricsRow.tenant_id == principal.tenant_id, JobMetricsRow.job_id == job_id
        )
        if after_step is not None:
            query = query.where(JobMetricsRow.step > after_step)
        rows = self._session.scalars(query.order_by(JobMetricsRow.step).limit(limit))
        return [metrics_of(row) for row in rows]

    def move_idle(self, principal: Principal, job_id: str, before: JobStatus, after: JobStatus) -> bool:
        """Move a job that nobody runs; False when it is not in `before`."""
        message, values = _IDLE_MOVES[before, after]
        mine = _own(principal, job_id)
        return bool(move(self._session, before, after, *mine, message=message, values=values))

    def ask_to_cancel(self, principal: Principal, job_id: str) -> bool:
        """Leave word for the worker that runs it; False when it is not running. Asking twice is one event."""
        row = self._running(principal, job_id)
        if row is not None and not row.cancel_requested:
            row.cancel_requested = True
            add_event(self._session, row, kind="message", message="cancellation asked for")
        return row is not None

    def ask_to_pause(self, principal: Principal, job_id: str, *, pause: bool = True) -> bool:
        """Leave word for the worker that runs it, or take it back; False when it is not running, or there is
        nothing to take back. Asking twice is one event."""
        row = self._running(principal, job_id)
        if row is None or not (pause or row.pause_requested):
            return False
        if row.pause_requested != pause:
            row.pause_requested = pause
            message = "pause asked for" if pause else "pause taken back"
            add_event(self._session, row, kind="message", message=message)
        return True

    def _running(self, principal: Principal, job_id: str) -> JobRow | None:
        running = (*_own(principal, job_id), JobRow.status == JobStatus.RUNNING.value)
        return self._session.scalar(select(JobRow).where(*running).with_for_update())

    def list(
        self,
        principal: Principal,
        *,
        kind: str | None,
        status: JobStatus | None,
        limit: int,
        after: str | None,
    ) -> list[Job]:
        """Newest first; `after` is the id of the last job already seen (ids sort by age)."""
        query = select(JobRow).where(JobRow.tenant_id == principal.tenant_id)
        if kind is not None:
            query = query.where(JobRow.kind == kind)
        if status is not None:
            query = query.where(JobRow.status == status.value)
        if after is not None:
            query = query.where(JobRow.id < after)
        return [job_of(row) for row in self._session.scalars(query.order_by(JobRow.id.desc()).limit(limit))]


_IDLE_MOVES: Mapping[tuple[JobStatus, JobStatus], tuple[str, Json]] = {
    (JobStatus.QUEUED, JobStatus.CANCELLED): ("cancelled before it ran", {}),
    (JobStatus.PAUSED, JobStatus.CANCELLED): ("cancelled while it was paused", {}),
    (JobStatus.QUEUED, JobStatus.PAUSED): ("paused before it ran", {}),
    (JobStatus.PAUSED, JobStatus.QUEUED): ("resumed", {"error": None, "rung_at": database_now()}),
}
"""Event and changes of each move that a caller makes by himself."""


def _own(principal: Principal, job_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (JobRow.tenant_id == principal.tenant_id, JobRow.id == job_id)
