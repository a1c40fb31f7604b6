"""The statements that everything about jobs is made of: a conditional move, a fenced write, an event."""

from typing import Any

from sqlalchemy import ColumnElement, insert, update
from sqlalchemy.orm import Session

from app.db.tables import JobCheckpointRow, JobEventRow, JobMetricsRow, JobRow
from app.jobs.clock import database_now
from app.jobs.job import Job, JobCheckpoint, JobEvent, JobMetrics, Json
from app.jobs.states import JobStatus, check_move


class LeaseLost(Exception):
    """This run no longer owns the job; it must stop and may write nothing."""


def held(job_id: str, token: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """The job is still this run's."""
    return (JobRow.id == job_id, JobRow.lease_token == token)


def write_held(session: Session, job_id: str, token: int, values: Json) -> JobRow:
    """Change a running job's row, and keep others from it until the transaction ends. Raises LeaseLost."""
    statement = (
        update(JobRow)
        .where(*held(job_id, token), JobRow.status == JobStatus.RUNNING.value)
        .values(values or {"lease_token": token})
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    row = session.scalar(statement)
    if row is None:
        raise LeaseLost(job_id)
    return row


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
    if after is JobStatus.PAUSED or after.has_ended:
        changes |= {"pause_requested": False}
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
        pause_requested=row.pause_requested,
        priority=row.priority,
        time_limit_s=row.time_limit_s,
        ran_s=row.ran_s,
        rerun_of=row.rerun_of,
        facts=row.facts or {},
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


def checkpoint_of(row: JobCheckpointRow) -> JobCheckpoint:
    """The value of a row."""
    return JobCheckpoint(
        id=row.id,
        job_id=row.job_id,
        step=row.step,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        metrics=row.metrics,
        created_at=row.created_at,
    )


def metrics_of(row: JobMetricsRow) -> JobMetrics:
    """The value of a row."""
    return JobMetrics(step=row.step, values=row.values, created_at=row.created_at)
