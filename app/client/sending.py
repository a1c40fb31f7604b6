"""Sends a file to the service: a large one in parts, so that a broken connection costs one of them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.client.errors import RequestFailed, Unreachable

if TYPE_CHECKING:
    from app.client.client import Client

Json = dict[str, Any]
Watch = Callable[[int], None]
"""Told how many bytes of the file have been sent so far."""

PART_BYTES = 8 * 2**20
"""Longer files go in parts of this size."""
_TRIES = 5
_PAUSE_S = 1.0


def send_file(client: "Client", path: Path, watch: Watch = lambda _: None) -> Json:
    """The service's file object. Raises OSError when the file cannot be read, and the client's errors."""
    size_bytes = path.stat().st_size
    if size_bytes <= PART_BYTES:
        return client.upload(path)
    upload = client.begin_upload(filename=path.name, size_bytes=size_bytes)
    part_ids: list[str] = []
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            part_ids.append(_send_part(client, upload["id"], data)["id"])
            watch(file.tell())
    file_object = client.complete_upload(upload["id"], part_ids)["file"]
    assert isinstance(file_object, dict)  # the service has just made it
    return file_object


def _send_part(client: "Client", upload_id: str, data: bytes) -> Json:
    """Send one part, again after a broken connection or while the service is busy."""
    for left in range(_TRIES - 1, -1, -1):
        try:
            return client.add_part(upload_id, data)
        except Unreachable:
            if not left:
                raise
            time.sleep(_PAUSE_S)
        except RequestFailed as error:
            if not left or error.status < 500:
                raise
            time.sleep(error.retry_after_s or _PAUSE_S)
    raise AssertionError("the last try returns or raises")
