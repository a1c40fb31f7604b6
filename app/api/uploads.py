"""`/v1/uploads`: files that come in parts. OpenAI's shapes, and a GET that says what has arrived."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool

from app.api.deps import PrincipalDep, ServicesDep
from app.api.schemas.errors import error_responses
from app.api.schemas.uploads import CompleteRequest, PartObject, UploadObject, UploadRequest, UploadWithParts
from app.api.upload_form import read_upload_form

router = APIRouter(prefix="/v1/uploads", tags=["files"])

UploadId = Annotated[str, Path(max_length=64)]
_UPLOAD = error_responses("not_found", "conflict", "invalid_payload", "storage_unavailable")
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post("", responses=error_responses("payload_too_large", "invalid_payload", "storage_unavailable"))
def create_upload(body: UploadRequest, principal: PrincipalDep, services: ServicesDep) -> UploadObject:
    """Announce a file that will come in parts. It expires an hour later."""
    facts = services.uploads.create(
        principal,
        filename=body.filename,
        purpose=body.purpose,
        mime_type=body.mime_type,
        size_bytes=body.bytes,
    )
    return UploadObject.of(facts)


@router.get("/{upload_id}", responses=error_responses("not_found", "invalid_payload", "storage_unavailable"))
def retrieve_upload(upload_id: UploadId, principal: PrincipalDep, services: ServicesDep) -> UploadWithParts:
    """An upload and what has arrived of it, for a client that goes on after a break."""
    facts, parts = services.uploads.get(principal, upload_id)
    return UploadWithParts.with_parts(facts, parts, services.uploads.file_of(principal, facts))


@router.post(
    "/{upload_id}/parts",
    openapi_extra=_FORM,
    responses=_UPLOAD | error_responses("payload_too_large", "unsupported_media"),
)
async def add_part(
    upload_id: UploadId, request: Request, principal: PrincipalDep, services: ServicesDep
) -> PartObject:
    """Store one part. Parts may come in any order, several at a time, and again after a failure."""
    declared = request.headers.get("content-length", "")
    body_bytes = int(declared) if declared.isdigit() else None
    place = await run_in_threadpool(services.uploads.begin_part, principal, upload_id, body_bytes=body_bytes)
    with place:
        await read_upload_form(request.headers.get("content-type", ""), request.stream(), place, part="data")
        part = await run_in_threadpool(services.uploads.add_part, principal, upload_id, place)
    return PartObject.of(part)


@router.post("/{upload_id}/complete", responses=_UPLOAD)
def complete_upload(
    upload_id: UploadId, body: CompleteRequest, principal: PrincipalDep, services: ServicesDep
) -> UploadObject:
    """Make a file of the parts, in this order; together they must be what was announced."""
    return UploadObject.of(*services.uploads.complete(principal, upload_id, body.part_ids, md5=body.md5))


@router.post("/{upload_id}/cancel", responses=_UPLOAD)
def cancel_upload(upload_id: UploadId, principal: PrincipalDep, services: ServicesDep) -> UploadObject:
    """Give up an upload and its bytes."""
    return UploadObject.of(services.uploads.cancel(principal, upload_id))
