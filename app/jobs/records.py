"""What a run writes down on its way: progress, messages, metrics, facts, checkpoints.

Each write is one transaction under the fencing token: a run that has lost its job raises LeaseLost and leaves
no trace. Values go by (job, step), so a step that is run again after a crash writes over its first time.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Delete, delete, insert, select
from sqlalchemy.orm import Session

from app.db.revision import lock_revision
from app.db.session import Database
from app.db.tables import JobCheckpointRow, JobMetricsRow, JobRow
from app.errors import StorageUnavailable
from app.ids import new_id
from app.jobs.clock import database_now
from app.jobs.job import ClaimedJob, JobCheckpoint, Json, Note
from app.jobs.rows import add_event, checkpoint_of, write_held
from app.jobs.states import JobStatus
from app.storage.objects import Stored

KEEP_NEWEST = 3
"""Checkpoints of a job that are kept, besides the best."""
TO_GO_ON_ONLY = frozenset({"super_resolution"})
"""Kinds of jobs whose checkpoints are of no use but to go on: the newest is kept, until the job has ended."""
_MARKS = ("valid_psnr", "valid_miou", "valid_accuracy")
"""What validations are judged by, one of them by task; higher is better."""
CHECKPOINTED_ATTEMPT = "checkpointed_attempt"
"""The fact that names the last attempt that made a checkpoint."""


class Spent(NamedTuple):
    """A checkpoint that nobody needs."""

    id: str
    tenant_id: str
    sha256: str


class RunRecords:
    """Safe to use from any number of workers at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, job_id: str, token: int, note: Note) -> None:
        """Write a note down. A new phase, and every message, is an event. Raises LeaseLost."""
        with self._database.begin() as session:
            _write(session, job_id, token, note)

    def add_checkpoint(
        self,
        job: ClaimedJob,
        note: Note,
        *,
        step: int,
        stored: Stored,
        metrics: Json,
        is_kept: Callable[[], bool],
    ) -> list[str]:
        """Add the row of a stored checkpoint, and take away those that are not needed any more. Returns the
        hashes of the latter, for `reclaim`.

        Raises LeaseLost, and StorageUnavailable when, by `is_kept`, the bytes were reclaimed meanwhile.
        """
        with self._database.begin() as session:
            lock_revision(session)
            if not is_kept():
                raise StorageUnavailable("The checkpoint was reclaimed before it had a row.")
            row = _write(session, job.id, job.token, note)
            row.facts = {**(row.facts or {}), CHECKPOINTED_ATTEMPT: job.attempt}
            session.execute(_delete(JobCheckpointRow.job_id == job.id, JobCheckpointRow.step == step))
            session.execute(
                insert(JobCheckpointRow).values(
                    id=new_id("ckpt"),
                    tenant_id=job.principal.tenant_id,
                    job_id=job.id,
                    step=step,
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                    metrics=metrics,
                    created_at=database_now(),
                )
            )
            facts = {"step": step, "metrics": metrics}
            add_event(session, row, kind="checkpoint", message=f"checkpoint at step {step}", data=facts)
            return _drop_unneeded(session, job, step)

    def spent(self) -> list[Spent]:
        """The checkpoints from which nothing will go on any more."""
        ended = [status.value for status in JobStatus if status.has_ended]
        query = (
            select(JobCheckpointRow.id, JobCheckpointRow.tenant_id, JobCheckpointRow.sha256)
            .join(JobRow, JobRow.id == JobCheckpointRow.job_id)
            .where(JobRow.kind.in_(TO_GO_ON_ONLY), JobRow.status.in_(ended))
        )
        with self._database.read() as session:
            return [Spent(*row) for row in session.execute(query)]

    def drop(self, session: Session, checkpoint_id: str) -> None:
        """Take a checkpoint's row away; a missing one is fine."""
        session.execute(_delete(JobCheckpointRow.id == checkpoint_id))

    def checkpoints(self, job_id: str) -> list[JobCheckpoint]:
        """Newest first."""
        with self._database.read() as session:
            return _checkpoints(session, job_id)


def _delete(*which: ColumnElement[bool]) -> Delete:
    return delete(JobCheckpointRow).where(*which).execution_options(synchronize_session=False)


def needed(checkpoints: Sequence[JobCheckpoint]) -> set[int]:
    """Steps of those that are kept, of checkpoints newest first: the newest, and the one with the highest
    `valid_psnr`, `valid_miou` or `valid_accuracy`, whichever is in its metrics, of equals the lowest
    `valid_loss`."""
    steps = {checkpoint.step for checkpoint in checkpoints[:KEEP_NEWEST]}
    validated = [one for one in reversed(checkpoints) if _mark(one) is not None]
    if validated:
        steps.add(max(validated, key=_rank).step)
    return steps


def _mark(checkpoint: JobCheckpoint) -> float | None:
    marks = (checkpoint.metrics.get(name) for name in _MARKS)
    return next((float(mark) for mark in marks if mark is not None), None)


def _rank(checkpoint: JobCheckpoint) -> tuple[float, float]:
    return _mark(checkpoint) or 0.0, -float(checkpoint.metrics.get("valid_loss") or 0.0)


def _write(session: Session, job_id: str, token: int, note: Note) -> JobRow:
    before = session.scalar(select(JobRow.phase).where(JobRow.id == job_id))
    said = {"progress": note.progress, "phase": note.phase}
    row = write_held(session, job_id, token, {k: v for k, v in said.items() if v is not None})
    facts = dict(note.facts)
    if note.remaining_s is not None:
        facts["estimated_finish"] = round(session.scalars(select(database_now())).one() + note.remaining_s)
    if facts:
        row.facts = {**(row.facts or {}), **facts}
    if note.phase is not None and note.phase != before:
        add_event(session, row, kind="progress", message=note.phase, data={"progress": row.progress})
    for message in note.messages:
        add_event(session, row, kind="message", message=message)
    if note.metrics:
        _write_metrics(session, row, note.metrics.items())
    return row


def _write_metrics(session: Session, row: JobRow, metrics: Iterable[tuple[int, Json]]) -> None:
    rows = [{"step": step, "values": values} for step, values in metrics]
    again = JobMetricsRow.step.in_([written["step"] for written in rows])
    session.execute(delete(JobMetricsRow).where(JobMetricsRow.job_id == row.id, again))
    session.execute(
        insert(JobMetricsRow).values(job_id=row.id, tenant_id=row.tenant_id, created_at=database_now()), rows
    )


def _checkpoints(session: Session, job_id: str) -> list[JobCheckpoint]:
    query = select(JobCheckpointRow).where(JobCheckpointRow.job_id == job_id)
    return [checkpoint_of(row) for row in session.scalars(query.order_by(JobCheckpointRow.step.desc()))]


def _drop_unneeded(session: Session, job: ClaimedJob, step: int) -> list[str]:
    checkpoints = _checkpoints(session, job.id)
    # Not the highest step: a run that could not use it has begun anew.
    steps = {step} if job.kind in TO_GO_ON_ONLY else needed(checkpoints)
    unneeded = [checkpoint for checkpoint in checkpoints if checkpoint.step not in steps]
    session.execute(_delete(JobCheckpointRow.id.in_([checkpoint.id for checkpoint in unneeded])))
    return [checkpoint.sha256 for checkpoint in unneeded]
