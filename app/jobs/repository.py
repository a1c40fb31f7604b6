"""What a caller may ask of the job tables: only rows of its own tenant."""

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.tables import JobEventRow, JobRow
from app.ids import new_id
from app.jobs.clock import database_now
from app.jobs.job import Job, JobEvent, Json
from app.jobs.rows import add_event, event_of, job_of, move
from app.jobs.states import JobStatus

KEY_LIFETIME_S = 24 * 3600
"""How long an idempotency key stands for the job it made."""


class JobRepository:
    """Statements inside the session it is given; the caller's block commits."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, principal: Principal, *, kind: str, spec: Json, idempotency_key: str | None) -> Job:
        """A new row, queued, with its first event. The doorbell counts as rung now: it will be."""
        statement = insert(JobRow).values(
            id=new_id("job"),
            tenant_id=principal.tenant_id,
            kind=kind,
            status=JobStatus.QUEUED.value,
            spec=spec,
            progress=0.0,
            attempts=0,
            cancel_requested=False,
            lease_token=0,
            rung_at=database_now(),
            idempotency_key=idempotency_key,
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

    def cancel_queued(self, principal: Principal, job_id: str) -> bool:
        """Cancel a job that nobody has taken up; False when it is not queued."""
        mine = _own(principal, job_id)
        return bool(
            move(
                self._session, JobStatus.QUEUED, JobStatus.CANCELLED, *mine, message="cancelled before it ran"
            )
        )

    def ask_to_cancel(self, principal: Principal, job_id: str) -> bool:
        """Leave word for the worker that runs it; False when it is not running. Asking twice is one event."""
        running = (*_own(principal, job_id), JobRow.status == JobStatus.RUNNING.value)
        row = self._session.scalar(select(JobRow).where(*running).with_for_update())
        if row is not None and not row.cancel_requested:
            row.cancel_requested = True
            add_event(self._session, row, kind="message", message="cancellation asked for")
        return row is not None

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


def _own(principal: Principal, job_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (JobRow.tenant_id == principal.tenant_id, JobRow.id == job_id)
