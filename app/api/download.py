"""Stored bytes as a response: streamed, cacheable for ever, never rendered by a browser."""

from collections.abc import Callable, Iterator
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse


def download(
    request: Request, *, filename: str, sha256: str, size_bytes: int, chunks: Callable[[], Iterator[bytes]]
) -> Response:
    """Stream what `chunks` opens, or say 304 if the client has it: the entity tag is the SHA-256."""
    tag = f'"{sha256}"'
    headers = {"etag": tag, "cache-control": "private, max-age=31536000, immutable"}
    known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    headers |= {
        "content-length": str(size_bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(chunks(), media_type="application/octet-stream", headers=headers)
