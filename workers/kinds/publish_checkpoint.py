"""The job kind `publish_checkpoint`: what a training was at one of its steps becomes a certified version.

    preparing ─► evaluating ─► exporting ─► certifying ─► published by the worker, as `name@ckpt-<step>`

Base, data and spec are those of the training; from where its network is rebuilt, all is as at its end.
"""

import time
from dataclasses import replace

from app.db.session import Database
from app.errors import NotFound
from app.jobs.job import Job, JobCheckpoint
from app.jobs.repository import JobRepository
from app.registry.reference import checkpoint_alias
from models.train.checkpoint import load_evaluated
from workers.context import JobContext, Outcome
from workers.kinds.fine_tune_order import FineTuneOrder
from workers.kinds.fine_tune_prepare import build
from workers.kinds.fine_tune_publish import Run, TrainedBy, measured_by, publish

_PREPARED = 0.3
"""How far the job is when the network is there."""


class CheckpointOrder(FineTuneOrder):
    """The spec of the job: that of the training, and which checkpoint of it."""

    job_id: str
    checkpoint_id: str
    name: str
    """Of the model that gets the version."""


def run(context: JobContext) -> Outcome:
    """Rebuild, evaluate, export, certify.

    Raises:
        NotFound: the checkpoint is kept no longer.
        ParityFailed: the exported graph does not reproduce the network.
        and what `build` raises, when base or data have gone.

    """
    started_s = time.monotonic()
    context.begin("preparing", at=0.0)
    order = CheckpointOrder.model_validate(context.spec)
    job, checkpoint = _find(context, order)
    path = context.objects.fetch(context.principal, checkpoint.sha256)
    prepared = build(context, order, checkpoint=path)
    step = load_evaluated(prepared.adapted.network, path)
    measured = measured_by(context, job.id)
    outcome = publish(
        context,
        Run(
            prepared=prepared,
            name=order.name,
            trained_by=TrainedBy(
                job_id=job.id,
                attempts=max(1, job.attempts),
                resumed_from_step=job.facts.get("resumed_from_step"),
            ),
            steps=step,
            best_step=step,
            checkpoint_step=step,
            measured={at: values for at, values in measured.items() if at <= step},
            times_s={"preparing": time.monotonic() - started_s},
        ),
        begins_at=_PREPARED,
    )
    return replace(outcome, result={**outcome.result, "checkpoint": f"{order.name}@{checkpoint_alias(step)}"})


def _find(context: JobContext, order: CheckpointOrder) -> tuple[Job, JobCheckpoint]:
    database = Database(context.settings.sqlalchemy_url)
    try:
        with database.read() as session:
            jobs = JobRepository(session)
            job = jobs.get(context.principal, order.job_id)
            kept = jobs.checkpoints(context.principal, order.job_id)
    finally:
        database.close()
    checkpoint = next((one for one in kept if one.id == order.checkpoint_id), None)
    if job is None or checkpoint is None:
        raise NotFound(f"The job {order.job_id} has no checkpoint {order.checkpoint_id!r} any more.")
    return job, checkpoint
