"""`/v1/datasets`: uploaded files become validated, immutable versions; what is in them can be looked at."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from app.api.deps import IdempotencyKey, PrincipalDep, ServicesDep
from app.api.schemas.datasets import (
    DatasetDeleted,
    DatasetList,
    DatasetObject,
    DatasetRequest,
    DatasetVersionList,
    DatasetVersionObject,
    ImageFilter,
    ImageList,
)
from app.api.schemas.errors import error_responses
from app.datasets.plan import plan_dataset
from app.registry.reference import MAX_NUMBER

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

Number = Annotated[int, Path(ge=1, le=MAX_NUMBER, description="Version number.")]
Index = Annotated[int, Path(ge=0, le=2**31 - 1, description="Place of the image in the version.")]
_DATASET = error_responses("unknown_dataset", "storage_unavailable")
_VERSION = error_responses("unknown_dataset", "unknown_version", "invalid_payload", "storage_unavailable")
_MEDIA_TYPES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG", "image/png"),
    (b"RIFF", "image/webp"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)
"""What a version may hold, by its first bytes; anything else of it is TIFF."""


@router.post(
    "",
    status_code=201,
    responses={
        201: {
            "description": "The data set, while its job validates the files.",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "Where to follow it."}},
        },
        **error_responses(
            "not_found",
            "unknown_dataset",
            "unknown_version",
            "conflict",
            "invalid_payload",
            "storage_unavailable",
        ),
    },
)
def create_dataset(
    body: DatasetRequest,
    response: Response,
    principal: PrincipalDep,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> DatasetObject:
    """Make a data set version out of uploaded files. A job validates every image first."""
    spec = plan_dataset(principal, body.plan(), datasets=services.datasets, files=services.files)
    job = services.jobs.create(principal, kind="dataset", spec=spec, idempotency_key=idempotency_key)
    if not job.status.has_ended:  # one that has is an earlier request's, and the data set may be gone again
        services.datasets.announce(principal, spec["name"], spec["task"])
    response.headers["location"] = f"/v1/datasets/{spec['name']}"
    return DatasetObject.of(services.datasets.get(principal, spec["name"]))


@router.get("", responses=error_responses("storage_unavailable"))
def list_datasets(principal: PrincipalDep, services: ServicesDep) -> DatasetList:
    """List the caller's data sets."""
    return DatasetList(data=[DatasetObject.of(facts) for facts in services.datasets.list_datasets(principal)])


@router.get("/{name}", responses=_DATASET)
def retrieve_dataset(name: str, principal: PrincipalDep, services: ServicesDep) -> DatasetObject:
    """One data set: how the last thing asked of it went, and which versions there are."""
    return DatasetObject.of(services.datasets.get(principal, name))


@router.delete("/{name}", responses=_DATASET | error_responses("unknown_dataset", "conflict"))
def delete_dataset(name: str, principal: PrincipalDep, services: ServicesDep) -> DatasetDeleted:
    """Delete a data set with all its versions, unless a job needs it."""
    services.datasets.delete(principal, name)
    services.packs.drop_deleted(principal)
    return DatasetDeleted(id=name, object="dataset")


@router.get("/{name}/versions", responses=_DATASET)
def list_dataset_versions(name: str, principal: PrincipalDep, services: ServicesDep) -> DatasetVersionList:
    """List a data set's versions, oldest first."""
    versions = services.datasets.versions(principal, name)
    return DatasetVersionList(data=[DatasetVersionObject.of(version) for version in versions])


@router.get("/{name}/versions/{version}", responses=_VERSION)
def retrieve_dataset_version(
    name: str, version: Number, principal: PrincipalDep, services: ServicesDep
) -> DatasetVersionObject:
    """One version, with the report of its validation."""
    return DatasetVersionObject.of(services.datasets.get_version(principal, f"{name}:{version}"))


@router.delete("/{name}/versions/{version}", responses=_VERSION | error_responses("conflict"))
def delete_dataset_version(
    name: str, version: Number, principal: PrincipalDep, services: ServicesDep
) -> DatasetDeleted:
    """Delete a version that no job needs. Its number is never used again."""
    services.datasets.delete_version(principal, name, version)
    services.packs.drop_deleted(principal)
    return DatasetDeleted(id=f"{name}:{version}", object="dataset.version")


@router.get("/{name}/versions/{version}/images", responses=_VERSION)
def list_images(
    name: str,
    version: Number,
    principal: PrincipalDep,
    services: ServicesDep,
    *,
    wanted: Annotated[ImageFilter, Query()],
) -> ImageList:
    """List the images of a version, of one split or label or of all."""
    facts = services.datasets.get_version(principal, f"{name}:{version}")
    page = services.packs.page(
        principal, facts, split=wanted.split, label=wanted.label, limit=wanted.limit, after=wanted.after
    )
    return ImageList.of(facts, page)


@router.get(
    "/{name}/versions/{version}/images/{index}",
    response_class=Response,
    responses={
        200: {
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            "description": "The image as it was uploaded.",
        },
        304: {"description": "The client has these bytes (`If-None-Match`)."},
        **error_responses(
            "unknown_dataset", "unknown_version", "not_found", "invalid_payload", "storage_unavailable"
        ),
    },
)
def retrieve_image(
    *,
    name: str,
    version: Number,
    index: Index,
    request: Request,
    principal: PrincipalDep,
    services: ServicesDep,
) -> Response:
    """One image of a version, as it was uploaded. The entity tag is its SHA-256."""
    facts = services.datasets.get_version(principal, f"{name}:{version}")
    image, data = services.packs.image(principal, facts, index)
    tag = f'"{image.item.sha256}"'
    headers = {"etag": tag, "cache-control": "private, max-age=31536000, immutable"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = next((media for magic, media in _MEDIA_TYPES if data.startswith(magic)), "image/tiff")
    headers |= {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'"}
    return Response(data, media_type=kind, headers=headers)
