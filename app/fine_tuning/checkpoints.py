"""A checkpoint becomes a version: its job is queued once, however often it is asked for.

    job that has ended ─ checkpoint ─► job of kind `publish_checkpoint` ─► next version, `name@ckpt-<step>`

The model is the one that the job has made a version of, or would have.
"""

from app.access.principal import Principal
from app.errors import Conflict, NotFound, UnknownModel
from app.fine_tuning.view import planned_name, published
from app.jobs.job import Job, JobCheckpoint, Json
from app.jobs.keys import Own
from app.jobs.service import JobService
from app.registry.policy import refuse_checkpoint
from app.registry.reference import checkpoint_alias
from app.registry.service import PublishedVersion, Registry
from app.registry.snapshot import ModelFacts

PUBLISH_CHECKPOINT = "publish_checkpoint"


class CheckpointPublisher:
    """Every method acts for one principal and sees nothing of another tenant."""

    def __init__(self, jobs: JobService, registry: Registry) -> None:
        self._jobs = jobs
        self._registry = registry

    def publish(self, principal: Principal, job: Job, which: str) -> Job:
        """Queue the publication of a job's checkpoint, named by its id or as `ckpt-<step>`. One that is
        under way, or whose version is there, is given back instead.

        Raises:
            NotFound: the job keeps no such checkpoint; the hint names those that it keeps.
            Conflict: the job has not ended, or another checkpoint has the alias already; and what
                `JobService.create` raises.

        """
        if not job.status.has_ended:
            raise Conflict(
                f"The job {job.id} is {job.status}; its checkpoints are published when it has ended.",
                param="job_id",
                hint=f"Wait for it, or cancel it: POST /v1/fine_tuning/jobs/{job.id}/cancel keeps them.",
            )
        checkpoint = self._find(principal, job, which)
        key = Own.CHECKPOINT.key(checkpoint.id)
        known = self._jobs.find(principal, key)
        if known is not None and self._is_good(principal, known, checkpoint):
            return known
        self._check_alias(principal, planned_name(job), checkpoint)
        if known is not None:
            self._jobs.forget_key(principal, key)
        return self._jobs.create(
            principal, kind=PUBLISH_CHECKPOINT, spec=_spec(job, checkpoint), idempotency_key=key
        )

    def _find(self, principal: Principal, job: Job, which: str) -> JobCheckpoint:
        kept = self._jobs.checkpoints(principal, job.id)
        for checkpoint in kept:
            if which in (checkpoint.id, checkpoint_alias(checkpoint.step)):
                return checkpoint
        names = ", ".join(checkpoint_alias(checkpoint.step) for checkpoint in kept)
        hint = f"It keeps {names}." if kept else "It keeps none."
        raise NotFound(f"The job {job.id} has no checkpoint {which!r}.", param="checkpoint_id", hint=hint)

    def _is_good(self, principal: Principal, known: Job, checkpoint: JobCheckpoint) -> bool:
        """The job is under way, or its version is there; that gets its alias back if it has lost it."""
        if not known.status.has_ended:
            return True
        version = published(known)
        if version is None:
            return False
        name, number = version
        model = self._model(principal, name)
        if model is None or number not in model.versions:
            return False
        self._registry.mark_checkpoint(
            principal, PublishedVersion(name=name, number=number), step=checkpoint.step
        )
        return True

    def _check_alias(self, principal: Principal, name: str, checkpoint: JobCheckpoint) -> None:
        alias, model = checkpoint_alias(checkpoint.step), self._model(principal, name)
        if model is not None and alias in model.aliases:
            refuse_checkpoint(name, alias, model.aliases[alias])

    def _model(self, principal: Principal, name: str) -> ModelFacts | None:
        try:
            return self._registry.get_model(principal, name)
        except UnknownModel:
            return None


def _spec(job: Job, checkpoint: JobCheckpoint) -> Json:
    return {
        "job_id": job.id,
        "checkpoint_id": checkpoint.id,
        "step": checkpoint.step,
        "name": planned_name(job),
        "train": job.spec["train"],
        "dataset": job.facts.get("dataset") or job.spec.get("dataset"),
    }
