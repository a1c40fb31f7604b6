"""`/v1/fine_tuning/jobs`: OpenAI's routes and objects, with Athanor's keys beside theirs."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.access.principal import Principal
from app.api.deps import IdempotencyKey, PrincipalDep, ServicesDep
from app.api.event_stream import STREAM_RESPONSES, LastEventId, event, stream_events
from app.api.schemas.errors import error_responses
from app.api.schemas.fine_tuning import (
    EVENT_PREFIX,
    FineTuningCheckpoint,
    FineTuningCheckpointList,
    FineTuningEvent,
    FineTuningEventList,
    FineTuningJob,
    FineTuningJobList,
    FineTuningRequest,
)
from app.api.schemas.jobs import JobObject
from app.fine_tuning.service import Retry
from app.jobs.feed import Told
from app.jobs.history import Place
from app.services import Services

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # PostgreSQL takes no NUL in text
_METADATA = re.compile(r"metadata\[([^\]]*)\]")
JobId = Annotated[str, Path(max_length=64, pattern=_PRINTABLE)]
Limit = Annotated[int, Query(ge=1, le=1000)]
_ID = error_responses("not_found", "invalid_payload", "storage_unavailable")


def _retry(
    idempotency_key: IdempotencyKey = None,
    x_stainless_retry_count: Annotated[
        int,
        Header(ge=0, le=1000, description="How often OpenAI's client has sent this request before."),
    ] = 0,
    x_stainless_read_timeout: Annotated[
        float | None, Header(ge=0, allow_inf_nan=False, description="How long that client waits, seconds.")
    ] = None,
) -> Retry:
    return Retry(key=idempotency_key, retry_count=x_stainless_retry_count, timeout_s=x_stainless_read_timeout)


def _wanted_metadata(request: Request) -> dict[str, str]:
    """`metadata[team]=vision` -> {"team": "vision"}"""
    pairs = ((_METADATA.fullmatch(name), value) for name, value in request.query_params.items())
    return {match[1]: value for match, value in pairs if match}


@router.post(
    "",
    responses=error_responses(
        "invalid_spec",
        "unknown_model",
        "unknown_version",
        "unknown_dataset",
        "not_found",
        "conflict",
        "invalid_payload",
        "quota_exceeded",
        "disk_full",
        "storage_unavailable",
    ),
)
def create(
    body: FineTuningRequest,
    principal: PrincipalDep,
    services: ServicesDep,
    retry: Annotated[Retry, Depends(_retry)],
    dry_run: Annotated[
        bool, Query(description="Validate the data, measure one step, and stop there with an estimate.")
    ] = False,
) -> FineTuningJob:
    """Queue a training. What makes no sense is refused at once, with the field and the nearest that would."""
    raw: dict[str, Any] = body.model_dump(exclude_unset=True)
    return FineTuningJob.of(services.fine_tuning.submit(principal, raw, dry_run=dry_run, retry=retry))


@router.get(
    "",
    responses=error_responses("invalid_payload", "storage_unavailable"),
    openapi_extra={
        "parameters": [
            {
                "name": "metadata",
                "in": "query",
                "style": "deepObject",
                "explode": True,
                "schema": {"type": "object", "additionalProperties": {"type": "string"}},
                "description": "Only jobs that have all of it.",
            }
        ]
    },
)
def list_(
    principal: PrincipalDep,
    services: ServicesDep,
    metadata: Annotated[dict[str, str], Depends(_wanted_metadata)],
    *,
    limit: Limit = 20,
    after: Annotated[
        str | None, Query(max_length=64, pattern=_PRINTABLE, description="Id of the last job seen.")
    ] = None,
) -> FineTuningJobList:
    """List fine-tuning jobs, newest first; dry runs are among `GET /v1/jobs?kind=preflight`."""
    jobs = services.fine_tuning.list(principal, limit=limit + 1, after=after, metadata=metadata)
    return FineTuningJobList(data=[FineTuningJob.of(job) for job in jobs[:limit]], has_more=len(jobs) > limit)


@router.get("/{job_id}", responses=_ID)
def retrieve(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> FineTuningJob:
    """One job as it is now."""
    return FineTuningJob.of(services.fine_tuning.get(principal, job_id))


@dataclass(frozen=True, kw_only=True)
class _Page:
    """What part of a history is asked for."""

    limit: int
    after: str | None
    newest_first: bool


def _page(
    *,
    limit: Limit = 20,
    after: Annotated[
        str | None, Query(max_length=64, pattern=_PRINTABLE, description="Id of the last event seen.")
    ] = None,
    order: Annotated[
        Literal["asc", "desc"], Query(description="`desc`: newest first, as OpenAI has it.")
    ] = "desc",
) -> _Page:
    return _Page(limit=limit, after=after, newest_first=order == "desc")


@router.get(
    "/{job_id}/events", response_model=FineTuningEventList, responses=_ID | {204: STREAM_RESPONSES[204]}
)
async def list_events(
    *,
    job_id: JobId,
    principal: PrincipalDep,
    services: ServicesDep,
    page: Annotated[_Page, Depends(_page)],
    stream: Annotated[bool, Query(description="As server-sent events, until the job ends.")] = False,
    last_event_id: LastEventId = None,
) -> Any:  # noqa: ANN401 - a page, or a stream of the same objects
    """What happened to a job, and what was measured at its steps, as one line."""
    if stream:
        await run_in_threadpool(services.fine_tuning.get, principal, job_id)
        return await stream_events(
            services.feed, principal, job_id, last_event_id=last_event_id, encode=_encode
        )
    return await run_in_threadpool(_events, services, principal, job_id, page)


def _events(services: Services, principal: Principal, job_id: str, page: _Page) -> FineTuningEventList:
    after = None if page.after is None else Place.parse(page.after.removeprefix(EVENT_PREFIX), param="after")
    moments = services.fine_tuning.history(
        principal, job_id, after=after, newest_first=page.newest_first, limit=page.limit + 1
    )
    return FineTuningEventList(
        data=[FineTuningEvent.of(moment) for moment in moments[: page.limit]],
        has_more=len(moments) > page.limit,
    )


def _encode(told: Told) -> bytes:
    if told.moment is None:
        return b""
    return event(FineTuningEvent.of(told.moment).model_dump_json().encode(), id_=str(told.cursor))


@router.get("/{job_id}/checkpoints", responses=_ID)
def list_checkpoints(
    job_id: JobId,
    principal: PrincipalDep,
    services: ServicesDep,
    *,
    limit: Limit = 10,
    after: Annotated[
        str | None, Query(max_length=64, pattern=_PRINTABLE, description="Id of the last checkpoint seen.")
    ] = None,
) -> FineTuningCheckpointList:
    """What the job keeps of the network on its way, newest first."""
    job = services.fine_tuning.get(principal, job_id)
    found = services.fine_tuning.checkpoints(principal, job_id)
    begin = next((at + 1 for at, checkpoint in enumerate(found) if checkpoint.id == after), 0)
    data = [FineTuningCheckpoint.of(job, checkpoint) for checkpoint in found[begin : begin + limit]]
    return FineTuningCheckpointList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(found) > begin + limit,
    )


@router.post(
    "/{job_id}/checkpoints/{checkpoint_id}/publish",
    status_code=202,
    responses={
        202: {
            "description": "The job that publishes it: a new one, or the one that does or has.",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "Where to follow it."}},
        },
        **_ID,
        **error_responses("conflict", "quota_exceeded", "disk_full"),
    },
)
def publish_checkpoint(
    job_id: JobId,
    checkpoint_id: Annotated[
        str, Path(max_length=64, pattern=_PRINTABLE, description="Its id, or `ckpt-STEP`.")
    ],
    response: Response,
    principal: PrincipalDep,
    services: ServicesDep,
) -> JobObject:
    """Make a checkpoint of a job that has ended the next version of its model, `name@ckpt-STEP`."""
    job = services.fine_tuning.publish_checkpoint(principal, job_id, checkpoint_id)
    response.headers["location"] = f"/v1/jobs/{job.id}"
    return JobObject.of(job)


@router.post("/{job_id}/cancel", responses=_ID | error_responses("job_not_cancellable"))
def cancel(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> FineTuningJob:
    """Cancel a job: at once if it waits, within seconds if it runs."""
    return FineTuningJob.of(services.fine_tuning.cancel(principal, job_id))


@router.post("/{job_id}/pause", responses=_ID | error_responses("conflict"))
def pause(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> FineTuningJob:
    """Pause a job: at once if it waits; if it runs, after its next step and a checkpoint."""
    return FineTuningJob.of(services.fine_tuning.pause(principal, job_id))


@router.post("/{job_id}/resume", responses=_ID | error_responses("conflict"))
def resume(job_id: JobId, principal: PrincipalDep, services: ServicesDep) -> FineTuningJob:
    """Queue a paused job again; it goes on from its newest checkpoint."""
    return FineTuningJob.of(services.fine_tuning.resume(principal, job_id))


@router.post(
    "/{job_id}/rerun",
    responses=_ID
    | error_responses(
        "not_found", "invalid_spec", "unknown_model", "unknown_dataset", "invalid_payload", "quota_exceeded"
    ),
)
def rerun(
    job_id: JobId, changes: dict[str, Any], principal: PrincipalDep, services: ServicesDep
) -> FineTuningJob:
    """Queue a job again with other values for some fields: `{"n_epochs": 3, "adapter.r": 16}`."""
    return FineTuningJob.of(services.fine_tuning.rerun(principal, job_id, changes))
