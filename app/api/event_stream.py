"""The history of a job as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    id: the cursor behind it; sent back as `Last-Event-ID`, the stream goes on there
    : heartbeat          every 15 s when there is nothing to tell
    data: [DONE]         the job has ended

A client that comes back when there is nothing more to come gets 204, and stays away.
"""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import Header, Response
from fastapi.responses import StreamingResponse

from app.access.principal import Principal
from app.jobs.feed import EventFeed, Told, Watcher
from app.jobs.history import Cursor

HEARTBEAT_S = 15.0
_HEARTBEAT = b": heartbeat\n\n"
_DONE = b"data: [DONE]\n\n"

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=64, description="The id of the last event of a stream before."),
]
_EVENT = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["data"],
}
STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": _EVENT}}},
    204: {"description": "The job has ended, and everything after `Last-Event-ID` has been told."},
}
Encode = Callable[[Told], bytes]
"""One event of the stream; empty for what this stream does not tell."""


async def stream_events(
    feed: EventFeed, principal: Principal, job_id: str, *, last_event_id: str | None, encode: Encode
) -> Response:
    """Everything after a cursor, then what happens, until the job ends.

    Raises NotFound, and InvalidRequest for an id that no stream has sent.
    """
    cursor = Cursor.parse(last_event_id, param="Last-Event-ID") if last_event_id else None
    watcher = feed.watch(principal, job_id, cursor)
    try:
        first = await watcher.next(timeout_s=HEARTBEAT_S)
    except BaseException:
        watcher.leave()
        raise
    if first is None:
        return Response(status_code=204)
    return StreamingResponse(
        _told(watcher, first, encode),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _told(watcher: Watcher, told: list[Told] | None, encode: Encode) -> AsyncIterator[bytes]:
    with watcher:
        has_ended = False
        while told is not None:
            has_ended = has_ended or any(one.state is not None and one.state.status.has_ended for one in told)
            if chunk := b"".join(map(encode, told)) or (b"" if told else _HEARTBEAT):
                yield chunk
            told = await watcher.next(timeout_s=HEARTBEAT_S)
        if has_ended:
            yield _DONE


def event(data: bytes, *, id_: str | None = None, name: str | None = None) -> bytes:
    """One event as it goes over the wire. `data` is JSON without line breaks."""
    head = (f"id: {id_}\n" if id_ else "") + (f"event: {name}\n" if name else "")
    return head.encode() + b"data: " + data + b"\n\n"
