"""Fine-tuning jobs as callers use them. Works without HTTP.

submit ──► plan (gate 1) ──► job ──► a worker: kinds `fine_tune` and, for a dry run, `preflight`
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.access.principal import Principal
from app.db.session import Database
from app.errors import NotFound
from app.fine_tuning.checkpoints import CheckpointPublisher
from app.fine_tuning.plan import FINE_TUNE, KINDS, PREFLIGHT, References, plan_fine_tune
from app.fine_tuning.request import apply_changes, check_storable, request_of
from app.fine_tuning.submissions import Call, Submissions
from app.jobs.history import HistoryRepository, Moment, Place
from app.jobs.job import Job, JobCheckpoint
from app.jobs.service import JobService

_PAGE = 100
_MOST_LOOKED_AT = 5000
"""Jobs that one search by metadata looks at."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """What the headers of a request say about earlier tries of it."""

    key: str | None = None
    retry_count: int = 0
    timeout_s: float | None = None


class FineTuning:
    """Every method acts for one principal and sees nothing of another tenant."""

    def __init__(self, database: Database, jobs: JobService, where: References) -> None:
        self._database = database
        self._jobs = jobs
        self._where = where
        self._submissions = Submissions(database, jobs)
        self._publisher = CheckpointPublisher(jobs, where.registry)

    def submit(self, principal: Principal, raw: Mapping[str, Any], *, dry_run: bool, retry: Retry) -> Job:
        """Check a request and queue its job; a request that was made before gets the job it has made.

        Raises what `plan_fine_tune` and `Submissions.submit` raise.
        """
        check_storable(raw)
        call = Call(
            digest=Call.digest_of(raw, dry_run=dry_run),
            key=retry.key,
            retry_count=retry.retry_count,
            timeout_s=retry.timeout_s,
        )
        return self._submissions.submit(
            principal, call, lambda: plan_fine_tune(principal, raw, self._where, dry_run=dry_run)
        )

    def get(self, principal: Principal, job_id: str) -> Job:
        """One fine-tuning job, or NotFound."""
        job = self._jobs.get(principal, job_id)
        if job.kind not in KINDS:
            hint = f"It is a job of kind {job.kind}: GET /v1/jobs/{job_id}."
            raise NotFound(f"There is no fine-tuning job {job_id!r}.", param="job_id", hint=hint)
        return job

    def history(
        self, principal: Principal, job_id: str, *, after: Place | None, newest_first: bool, limit: int
    ) -> list[Moment]:
        """Events and metrics of a job beyond a place. Raises NotFound."""
        self.get(principal, job_id)
        with self._database.read() as session:
            return HistoryRepository(session).page(
                principal, job_id, after=after, newest_first=newest_first, limit=limit
            )

    def checkpoints(self, principal: Principal, job_id: str) -> list[JobCheckpoint]:
        """What the job can go on from, newest first. Raises NotFound."""
        self.get(principal, job_id)
        return sorted(
            self._jobs.checkpoints(principal, job_id), key=lambda checkpoint: checkpoint.step, reverse=True
        )

    def rerun(
        self,
        principal: Principal,
        job_id: str,
        changes: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job again, with other values for some fields of its request; dotted names reach into
        objects. If it made a new model, that gets a further version.

        Raises NotFound, and what `plan_fine_tune` raises.
        """
        job = self.get(principal, job_id)
        raw = request_of(job.spec)
        apply_changes(raw, changes)
        name = raw.get("suffix")
        if name == job.spec.get("suffix") and self._is_model(principal, name) and "output_model" not in raw:
            raw["output_model"] = raw.pop("suffix")
        plan = plan_fine_tune(principal, raw, self._where, dry_run=job.kind == PREFLIGHT)
        return self._jobs.rerun(principal, job_id, plan.spec, idempotency_key=idempotency_key)

    def _is_model(self, principal: Principal, name: object) -> bool:
        return any(model.name == name for model in self._where.registry.list_models(principal))

    def publish_checkpoint(self, principal: Principal, job_id: str, checkpoint_id: str) -> Job:
        """See `CheckpointPublisher.publish`."""
        return self._publisher.publish(principal, self.get(principal, job_id), checkpoint_id)

    def cancel(self, principal: Principal, job_id: str) -> Job:
        """See `JobService.cancel`."""
        self.get(principal, job_id)
        return self._jobs.cancel(principal, job_id)

    def pause(self, principal: Principal, job_id: str) -> Job:
        """See `JobService.pause`."""
        self.get(principal, job_id)
        return self._jobs.pause(principal, job_id)

    def resume(self, principal: Principal, job_id: str) -> Job:
        """See `JobService.resume`."""
        self.get(principal, job_id)
        return self._jobs.resume(principal, job_id)

    def list(
        self, principal: Principal, *, limit: int, after: str | None, metadata: Mapping[str, str]
    ) -> list[Job]:
        """Newest first, without dry runs; only those that have all of `metadata`."""
        found: list[Job] = []
        for _ in range(0, _MOST_LOOKED_AT, _PAGE):
            page = self._jobs.list(principal, kind=FINE_TUNE, limit=_PAGE, after=after)
            found += [job for job in page if metadata.items() <= _metadata(job).items()]
            if len(found) >= limit or len(page) < _PAGE:
                break
            after = page[-1].id
        return found[:limit]


def _metadata(job: Job) -> dict[str, str]:
    return job.spec.get("openai", {}).get("metadata") or {}
