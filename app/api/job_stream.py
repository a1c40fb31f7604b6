"""`GET /v1/jobs/{id}/events/stream`: what happens to a job of any kind, as it happens."""

import orjson
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse

from app.api.deps import PrincipalDep, ServicesDep
from app.api.event_stream import STREAM_RESPONSES, LastEventId, event, stream_events
from app.api.jobs import JobId
from app.api.schemas.errors import error_responses
from app.jobs.feed import Told

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get(
    "/{job_id}/events/stream",
    response_class=StreamingResponse,
    responses=STREAM_RESPONSES | error_responses("not_found", "invalid_payload"),
)
async def stream_job_events(
    job_id: JobId, principal: PrincipalDep, services: ServicesDep, last_event_id: LastEventId = None
) -> Response:
    """Events named `state`, `progress`, `message`, `metrics` and `checkpoint`; and `status`, without an
    id, whenever the job's progress moves. Ends with the job."""
    return await stream_events(services.feed, principal, job_id, last_event_id=last_event_id, encode=_encode)


def _encode(told: Told) -> bytes:
    if told.state is not None:
        state = told.state
        now = {"status": state.status.value, "phase": state.phase, "progress": state.progress}
        return event(orjson.dumps(now), name="status")
    assert told.moment is not None
    moment = told.moment
    facts = {
        "id": moment.number,
        "object": "job.event",
        "created_at": moment.created_at,
        "level": moment.level,
        "kind": moment.kind,
        "message": moment.message,
        "data": moment.data,
    }
    return event(orjson.dumps(facts), id_=str(told.cursor), name=moment.kind)
