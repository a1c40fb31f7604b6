"""`/v1/jobs`: every kind of job in one shape; imports and compressions can be asked for here, and any job be
run again."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import ValidationError

from app.access.principal import Principal
from app.api.deps import IdempotencyKey, PrincipalDep, ServicesDep
from app.api.schemas.errors import error_responses
from app.api.schemas.jobs import (
    CompressJobRequest,
    ImportSpec,
    JobCheckpointList,
    JobCheckpointObject,
    JobEventList,
    JobEventObject,
    JobList,
    JobMetricsList,
    JobMetricsObject,
    JobObject,
    JobRequest,
    RerunRequest,
)
from app.compression.plan import KIND as COMPRESS
from app.compression.plan import plan_compression
from app.compression.spec import CompressSpec
from app.errors import InvalidRequest
from app.fine_tuning.plan import KINDS as FINE_TUNING_KINDS
from app.jobs.job import Job, Json
from app.jobs.service import change_spec
from app.jobs.states import JobStatus
from app.services import Services

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # PostgreSQL takes no NUL in text
_MAX_ID = 2**31 - 1
_ID_ERRORS = error_responses("not_found", "invalid_payload")
JobId = Annotated[str, Path(max_length=64, pattern=_PRINTABLE)]


@router.get("", responses=error_responses("invalid_payload"))
def list_jobs(
    principal: PrincipalDep,
    services: ServicesDep,
    *,
    kind: Annotated[str | None, Query(max_length=32, pattern=_PRINTABLE)] = None,
    status: JobStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[
        str | None, Query(max_length=64, pattern=_PRINTABLE, description="Id of the last job seen.")
    ] = None,
) -> JobList:
    """List jobs, newest first."""
    jobs = services.jobs.list(principal, kind=kind, status=status, limit=limit + 1, after=after)
    return JobList(data=[JobObject.of(job) for job in jobs[:limit]], has_more=len(jobs) > limit)


@router.post(
    "",
    status_code=201,
    responses=error_responses(
        "invalid_payload",
        "invalid_request",
        "invalid_spec",
        "unknown_model",
        "unknown_version",
        "unknown_dataset",
        "conflict",
        "quota_exceeded",
        "disk_full",
    ),
)
def create_job(
    request: JobRequest,
    principal: PrincipalDep,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> JobObject:
    """Queue an import or a compression. A worker takes it up; `GET /v1/jobs/{id}` shows how far it is."""
    if isinstance(request, CompressJobRequest):
        spec = _planned(principal, services, request.spec)
    else:
        spec = request.spec.model_dump()
    job = services.jobs.create(
        principal,
        kind=request.kind,
        spec=spec,
        idempotency_key=idempotency_key,
        priority=request.priority,
        time_limit_s=request.time_limit_s,
    )
    return JobObject.of(job)


@router.get("/{job_id}", responses=_ID_ERRORS)
def retrieve_job(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> JobObject:
    """One job as it is now."""
    return JobObject.of(services.jobs.get(principal, job_id))


@router.get("/{job_id}/events", responses=_ID_ERRORS)
def list_job_events(
    job_id: JobId,
    principal: PrincipalDep,
    services: ServicesDep,
    *,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0, le=_MAX_ID, description="Id of the last event seen.")] = 0,
) -> JobEventList:
    """What happened to a job, oldest first."""
    events = services.jobs.events(principal, job_id, limit=limit + 1, after=after)
    data = [JobEventObject.of(event) for event in events[:limit]]
    return JobEventList(data=data, has_more=len(events) > limit)


@router.post(
    "/{job_id}/cancel", responses=error_responses("not_found", "job_not_cancellable", "invalid_payload")
)
def cancel_job(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> JobObject:
    """Cancel a job: at once if it waits or is paused; within seconds if it runs."""
    return JobObject.of(services.jobs.cancel(principal, job_id))


@router.post("/{job_id}/pause", responses=_ID_ERRORS | error_responses("conflict"))
def pause_job(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> JobObject:
    """Pause a job: at once if it waits; if it runs, when it has written a checkpoint."""
    return JobObject.of(services.jobs.pause(principal, job_id))


@router.post("/{job_id}/resume", responses=_ID_ERRORS | error_responses("conflict"))
def resume_job(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> JobObject:
    """Queue a paused job again. It goes on from its newest checkpoint."""
    return JobObject.of(services.jobs.resume(principal, job_id))


@router.post(
    "/{job_id}/rerun",
    status_code=201,
    responses=_ID_ERRORS
    | error_responses("invalid_request", "invalid_spec", "conflict", "quota_exceeded", "disk_full"),
)
def rerun_job(
    job_id: JobId,
    request: RerunRequest,
    principal: PrincipalDep,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> JobObject:
    """Queue a new job like this one, with fields of its spec changed; of a training, fields of the request
    that made it."""
    job = services.jobs.get(principal, job_id)
    if job.kind in FINE_TUNING_KINDS:
        again = services.fine_tuning.rerun(
            principal, job_id, request.changes, idempotency_key=idempotency_key
        )
    else:
        spec = _changed(principal, services, job, request.changes)
        again = services.jobs.rerun(principal, job_id, spec, idempotency_key=idempotency_key)
    return JobObject.of(again)


@router.get("/{job_id}/checkpoints", responses=_ID_ERRORS)
def list_job_checkpoints(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> JobCheckpointList:
    """The checkpoints that are kept, newest first: the last three and the best. Of an enlargement the last,
    until it has ended."""
    checkpoints = services.jobs.checkpoints(principal, job_id)
    return JobCheckpointList(data=[JobCheckpointObject.of(checkpoint) for checkpoint in checkpoints])


@router.get("/{job_id}/metrics", responses=_ID_ERRORS)
def list_job_metrics(
    job_id: JobId,
    principal: PrincipalDep,
    services: ServicesDep,
    *,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    after_step: Annotated[int | None, Query(ge=0, le=_MAX_ID, description="The last step seen.")] = None,
) -> JobMetricsList:
    """What was measured, by step."""
    metrics = services.jobs.metrics(principal, job_id, after_step=after_step, limit=limit + 1)
    data = [JobMetricsObject.of(measured) for measured in metrics[:limit]]
    return JobMetricsList(data=data, has_more=len(metrics) > limit)


def _planned(principal: Principal, services: Services, asked: CompressSpec) -> Json:
    return plan_compression(principal, asked, registry=services.registry, datasets=services.datasets)


def _changed(principal: Principal, services: Services, job: Job, changes: Json) -> Json:
    """The spec of the next job, checked as `POST /v1/jobs` does; other kinds' by their runs."""
    spec = change_spec(job.spec, changes)
    if not changes:
        return spec
    try:
        if job.kind == COMPRESS:
            return _planned(principal, services, CompressSpec.model_validate(spec))
        return ImportSpec.model_validate(spec).model_dump() if job.kind == "import" else spec
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join(["changes", *map(str, first["loc"])])
        raise InvalidRequest(f"{param}: {first['msg']}.", param=param) from error
