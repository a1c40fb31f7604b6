"""`GET …/versions/{v}/bundle`: everything of a version as one zip to take home."""

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import Response, StreamingResponse

from app.access.principal import Principal
from app.api.bundle_readme import README_FILE, readme
from app.api.deps import PrincipalDep, ServicesDep
from app.api.download import download
from app.api.schemas.errors import error_responses
from app.api.stored_zip import Member, StoredZip
from app.registry.reference import MAX_NUMBER
from app.registry.snapshot import VersionFacts
from app.storage.objects import ObjectStore
from models.manifest import sha256_hex

router = APIRouter(prefix="/v1/models", tags=["models"])

_CHUNK_BYTES = 1 << 20


@router.get(
    "/{name}/versions/{version}/bundle",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The client has these bytes (`If-None-Match`)."},
        **error_responses(
            "unknown_model", "unknown_version", "not_found", "invalid_payload", "storage_unavailable"
        ),
    },
)
def retrieve_bundle(
    name: str,
    version: Annotated[int, PathParameter(ge=1, le=MAX_NUMBER, description="Version number.")],
    request: Request,
    principal: PrincipalDep,
    services: ServicesDep,
) -> Response:
    """Everything of a version as one zip, with a README that says how to run it without Athanor.

    Not compressed, as weights do not shrink. Every file is checked before the first byte is sent.
    """
    facts = services.registry.get_version(principal, name, version)
    folder = f"{name}-{version}"
    text = readme(name, facts).encode()
    members = [_text_member(f"{folder}/{README_FILE}", text)]
    members += _members(folder, facts, services.objects, principal)
    archive = StoredZip(members, created_at=facts.created_at)
    parts = [folder, sha256_hex(text), *(f"{file.name} {file.sha256}" for file in facts.artifacts)]
    return download(
        request,
        filename=f"{folder}.zip",
        sha256=sha256_hex("\n".join(parts).encode()),
        size_bytes=archive.size_bytes,
        chunks=archive.stream,
    )


def _members(
    folder: str, facts: VersionFacts, objects: ObjectStore, principal: Principal
) -> Iterator[Member]:
    for artifact in facts.artifacts:
        path = objects.fetch(principal, artifact.sha256)
        yield Member(
            name=f"{folder}/{artifact.name}",
            size_bytes=artifact.size_bytes,
            crc32=_crc32(path),
            chunks=partial(_chunks, path),
        )


def _text_member(name: str, text: bytes) -> Member:
    return Member(name=name, size_bytes=len(text), crc32=zlib.crc32(text), chunks=lambda: iter((text,)))


def _crc32(path: Path) -> int:
    checksum = 0
    for chunk in _chunks(path):
        checksum = zlib.crc32(chunk, checksum)
    return checksum


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
