"""`/v1/jobs`: every kind of job in one shape; imports can be asked for here."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query

from app.api.deps import PrincipalDep, ServicesDep
from app.api.schemas.errors import error_responses
from app.api.schemas.jobs import JobEventList, JobEventObject, JobList, JobObject, JobRequest
from app.jobs.states import JobStatus

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # PostgreSQL takes no NUL in text
_MAX_ID = 2**31 - 1
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


@router.post("", status_code=201, responses=error_responses("invalid_payload", "conflict"))
def create_job(
    request: JobRequest,
    principal: PrincipalDep,
    services: ServicesDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[\x20-\x7e]*$",
            description="A second request with this key within 24 h gets the first one's job.",
        ),
    ] = None,
) -> JobObject:
    """Queue an import. A worker takes it up; `GET /v1/jobs/{id}` shows how far it is."""
    job = services.jobs.create(
        principal, kind=request.kind, spec=request.plain_spec(), idempotency_key=idempotency_key
    )
    return JobObject.of(job)


@router.get("/{job_id}", responses=error_responses("not_found", "invalid_payload"))
def retrieve_job(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> JobObject:
    """One job as it is now."""
    return JobObject.of(services.jobs.get(principal, job_id))


@router.get("/{job_id}/events", responses=error_responses("not_found", "invalid_payload"))
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
    """Cancel a job: at once if it waits; within seconds if it runs."""
    return JobObject.of(services.jobs.cancel(principal, job_id))
