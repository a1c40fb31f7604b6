"""The two statements that everything about jobs is made of: a conditional change of a row, and an event."""

from typing import Any

from sqlalchemy import ColumnElement, insert, update
from sqlalchemy.orm import Session

from app.db.tables import JobEventRow, JobRow
from app.jobs.clock import database_now
from app.jobs.job import Job, JobEvent, Json
from app.jobs.states import JobStatus, check_move


def move(
    session: Session,
    before: JobStatus,
    after: JobStatus,
    *where: ColumnElement[bool],
    message: str,
    data: Json | None = None,
    values: Json | None = None,
) -> list[JobRow]:
    """Move every job that is in `before` and fits `where`; one event each. Returns the rows that moved.

    Nothing moves when somebody else was quicker: the status is part of the condition.
    """
    check_move(before, after)
    changes: dict[str, Any] = {"status": after.value, **(values or {})}
    if after is not JobStatus.RUNNING:
        changes |= {"lease_expires_at": None, "lease_holder": None}
    if after.has_ended:
        changes |= {"finished_at": database_now()}
    statement = (
        update(JobRow)
        .where(JobRow.status == before.value, *where)
        .values(changes)
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    moved = list(session.scalars(statement))
    level = "error" if after is JobStatus.FAILED else "info"
    for row in moved:
        facts = {"from": before.value, "to": after.value, **(data or {})}
        add_event(session, row, kind="state", level=level, message=message, data=facts)
    return moved


def add_event(
    session: Session, row: JobRow, *, kind: str, message: str, level: str = "info", data: Json | None = None
) -> None:
    """Append to the job's history."""
    session.execute(
        insert(JobEventRow).values(
            tenant_id=row.tenant_id,
            job_id=row.id,
            level=level,
            kind=kind,
            message=message,
            data=data,
            created_at=database_now(),
        )
    )


def job_of(row: JobRow) -> Job:
    """The value of a row."""
    return Job(
        id=row.id,
        tenant_id=row.tenant_id,
        kind=row.kind,
        status=JobStatus(row.status),
        spec=row.spec,
        result=row.result,
        error=row.error,
        progress=row.progress,
        phase=row.phase,
        attempts=row.attempts,
        cancel_requested=row.cancel_requested,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def event_of(row: JobEventRow) -> JobEvent:
    """The value of a row."""
    return JobEvent(
        id=row.id,
        level=row.level,
        kind=row.kind,
        message=row.message,
        data=row.data,
        created_at=row.created_at,
    )
