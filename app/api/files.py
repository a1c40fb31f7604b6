"""`/v1/files`: store bytes, judge nothing. OpenAI's shapes."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.deps import PrincipalDep, ServicesDep
from app.api.download import download
from app.api.schemas.errors import error_responses
from app.api.schemas.files import FileDeleted, FileList, FileObject
from app.api.upload_form import read_upload_form
from app.files.service import DEFAULT_PURPOSE

router = APIRouter(prefix="/v1/files", tags=["files"])

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # PostgreSQL takes no NUL in text
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 64,
                            "default": DEFAULT_PURPOSE,
                        },
                    },
                }
            }
        },
    }
}


@router.post(
    "",
    openapi_extra=_FORM,
    responses=error_responses(
        "payload_too_large", "unsupported_media", "invalid_payload", "storage_unavailable"
    ),
)
async def upload(request: Request, principal: PrincipalDep, services: ServicesDep) -> FileObject:
    """Store one file of any size up to the limit; when this answers, it survives a power cut."""
    declared = request.headers.get("content-length", "")
    body_bytes = int(declared) if declared.isdigit() else None
    place = await run_in_threadpool(services.files.begin, body_bytes=body_bytes)
    with place:
        form = await read_upload_form(request.headers.get("content-type", ""), request.stream(), place)
        purpose = form.fields.get("purpose", DEFAULT_PURPOSE)
        facts = await run_in_threadpool(
            services.files.commit, principal, place, filename=form.filename or "", purpose=purpose
        )
    return FileObject.of(facts)


@router.get("", responses=error_responses("invalid_payload", "storage_unavailable"))
def list_files(
    *,
    principal: PrincipalDep,
    services: ServicesDep,
    purpose: Annotated[
        str | None, Query(max_length=64, pattern=_PRINTABLE, description="Only files of this purpose.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    after: Annotated[
        str | None, Query(max_length=64, pattern=_PRINTABLE, description="Id of the last file seen.")
    ] = None,
    order: Literal["asc", "desc"] = "desc",
) -> FileList:
    """List files by the time of upload."""
    page = services.files.list(principal, purpose=purpose, limit=limit, after=after, order=order)
    data = [FileObject.of(facts) for facts in page.files]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return FileList(data=data, first_id=first, last_id=last, has_more=page.has_more)


@router.get("/{file_id}", responses=error_responses("not_found", "storage_unavailable"))
def retrieve(file_id: str, principal: PrincipalDep, services: ServicesDep) -> FileObject:
    """One file's facts."""
    return FileObject.of(services.files.get(principal, file_id))


@router.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The client has these bytes (`If-None-Match`)."},
        **error_responses("not_found", "storage_unavailable"),
    },
)
def content(file_id: str, request: Request, principal: PrincipalDep, services: ServicesDep) -> Response:
    """A file's bytes. The entity tag is their SHA-256."""
    facts = services.files.get(principal, file_id)
    return download(
        request,
        filename=facts.filename,
        sha256=facts.sha256,
        size_bytes=facts.size_bytes,
        chunks=lambda: services.files.content(principal, file_id)[1],
    )


@router.delete("/{file_id}", responses=error_responses("not_found", "conflict", "storage_unavailable"))
def delete(file_id: str, principal: PrincipalDep, services: ServicesDep) -> FileDeleted:
    """Delete a file. What has been made from it stays."""
    services.files.delete(principal, file_id)
    return FileDeleted(id=file_id)
