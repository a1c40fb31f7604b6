"""Server-sent events as the service sends them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

DONE = "[DONE]"
"""The data of the last event."""


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """One event."""

    name: str
    data: str
    id: str | None
    """What to send as `Last-Event-ID` to go on behind it."""


def read_events(lines: Iterable[str]) -> Iterator[Streamed | None]:
    """Events out of the lines of a stream; None for a heartbeat."""
    name, data, id_ = "message", "", None
    for line in lines:
        if not line:
            if data:
                yield Streamed(name=name, data=data, id=id_)
            name, data, id_ = "message", "", None
        elif line.startswith(":"):
            yield None
        else:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data = value
            elif field == "id":
                id_ = value
