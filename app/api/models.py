"""`/v1/models`: what there is, its versions and their proof, aliases, and bringing a model of one's own."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response, StreamingResponse

from app.api.deps import IdempotencyKey, PrincipalDep, ServicesDep
from app.api.download import download
from app.api.schemas.errors import error_responses
from app.api.schemas.jobs import JobObject
from app.api.schemas.models import (
    AliasObject,
    AliasTarget,
    Deleted,
    ImportRequest,
    ModelList,
    ModelObject,
    VersionList,
    VersionObject,
    VersionSummary,
)
from app.errors import NotFound
from app.registry.imports import ImportPlan, plan_import
from app.registry.reference import MAX_NUMBER, check_alias_name
from models.manifest import Certificate

router = APIRouter(prefix="/v1/models", tags=["models"])

Number = Annotated[int, Path(ge=1, le=MAX_NUMBER, description="Version number.")]
_VERSION = error_responses("unknown_model", "unknown_version", "invalid_payload", "storage_unavailable")


@router.get("", responses=error_responses("storage_unavailable"))
def list_models(principal: PrincipalDep, services: ServicesDep) -> ModelList:
    """List the caller's models."""
    models = services.registry.list_models(principal)
    return ModelList(
        data=[
            ModelObject.of(
                model,
                owner=principal.tenant_id,
                ready=services.pool.find(principal, model.name) is not None,
            )
            for model in models
        ]
    )


@router.post(
    "",
    status_code=202,
    responses={
        202: {
            "description": "The job that checks and publishes the model.",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "Where to follow it."}},
        },
        **error_responses("not_found", "conflict", "invalid_payload", "storage_unavailable"),
    },
)
def import_model(
    body: ImportRequest,
    response: Response,
    principal: PrincipalDep,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> JobObject:
    """Bring your own ONNX. A job checks it in a process of its own and publishes it."""
    options = body.model_dump(exclude={"name", "file", "task", "reference"})
    plan = ImportPlan(
        name=body.name, file_id=body.file, task=body.task, options=options, reference_id=body.reference
    )
    spec = plan_import(principal, plan, registry=services.registry, files=services.files)
    job = services.jobs.create(principal, kind="import", spec=spec, idempotency_key=idempotency_key)
    response.headers["location"] = f"/v1/jobs/{job.id}"
    return JobObject.of(job)


@router.get("/{name}", responses=error_responses("unknown_model", "storage_unavailable"))
def retrieve(name: str, principal: PrincipalDep, services: ServicesDep) -> ModelObject:
    """One model."""
    model = services.registry.get_model(principal, name)
    ready = services.pool.find(principal, name) is not None
    return ModelObject.of(model, owner=principal.tenant_id, ready=ready)


@router.delete("/{name}", responses=error_responses("unknown_model", "conflict", "storage_unavailable"))
def delete_model(name: str, principal: PrincipalDep, services: ServicesDep) -> Deleted:
    """Delete a model with all its versions. An alias besides `default`, or a job that needs it, keeps it."""
    services.registry.delete_model(principal, name)
    services.pool.refresh()
    return Deleted(id=name, object="model")


@router.get("/{name}/versions", responses=error_responses("unknown_model", "storage_unavailable"))
def list_versions(name: str, principal: PrincipalDep, services: ServicesDep) -> VersionList:
    """List a model's versions, oldest first."""
    model = services.registry.get_model(principal, name)
    return VersionList(data=[VersionSummary.of(model, version) for version in model.versions.values()])


@router.get("/{name}/versions/{version}", responses=_VERSION)
def retrieve_version(
    name: str, version: Number, principal: PrincipalDep, services: ServicesDep
) -> VersionObject:
    """One version: its manifest and its files."""
    facts = services.registry.get_version(principal, name, version)
    return VersionObject.of(services.registry.get_model(principal, name), facts)


@router.delete("/{name}/versions/{version}", responses=_VERSION | error_responses("conflict"))
def delete_version(name: str, version: Number, principal: PrincipalDep, services: ServicesDep) -> Deleted:
    """Delete a version that no alias points at and no job needs. Its number is never used again."""
    services.registry.delete_version(principal, name, version)
    services.pool.refresh()
    return Deleted(id=f"{name}:{version}", object="model.version")


@router.get("/{name}/versions/{version}/certificate", responses=_VERSION)
def retrieve_certificate(
    name: str, version: Number, principal: PrincipalDep, services: ServicesDep
) -> Certificate:
    """Why to trust a version. `athanor verify` computes it again from the stored samples."""
    return services.registry.get_version(principal, name, version).certificate


@router.get(
    "/{name}/versions/{version}/artifacts/{file}",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The client has these bytes (`If-None-Match`)."},
        **error_responses(
            "unknown_model", "unknown_version", "not_found", "invalid_payload", "storage_unavailable"
        ),
    },
)
def retrieve_artifact(
    *,
    name: str,
    version: Number,
    file: str,
    request: Request,
    principal: PrincipalDep,
    services: ServicesDep,
) -> Response:
    """One file of a version. The entity tag is its SHA-256."""
    facts = services.registry.get_version(principal, name, version)
    artifact = facts.artifact(file)
    if artifact is None:
        known = ", ".join(known.name for known in facts.artifacts)
        raise NotFound(f"{name}:{version} has no file {file!r}.", param="file", hint=f"It has: {known}.")
    return download(
        request,
        filename=artifact.name,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        chunks=lambda: services.objects.stream(principal, artifact.sha256),
    )


@router.put(
    "/{name}/aliases/{alias}",
    responses=_VERSION | error_responses("not_servable", "model_not_ready", "out_of_memory"),
)
def promote(
    name: str, alias: str, body: AliasTarget, principal: PrincipalDep, services: ServicesDep
) -> AliasObject:
    """Point an alias at a version. The version is loaded first: one that does not load moves nothing."""
    check_alias_name(alias)
    services.pool.prepare(principal, name, body.version)
    moved = services.registry.promote(principal, name, alias, body.version)
    services.pool.refresh()
    return AliasObject.of(name, moved)


@router.post(
    "/{name}/aliases/{alias}/rollback",
    responses=error_responses(
        "unknown_model",
        "unknown_version",
        "conflict",
        "not_servable",
        "model_not_ready",
        "out_of_memory",
        "storage_unavailable",
    ),
)
def rollback(name: str, alias: str, principal: PrincipalDep, services: ServicesDep) -> AliasObject:
    """Point an alias back at where it was before; a second rollback undoes the first."""
    before = services.registry.get_alias(principal, name, alias)
    if before.previous_number is not None:
        services.pool.prepare(principal, name, before.previous_number)
    moved = services.registry.rollback(principal, name, alias)
    services.pool.refresh()
    return AliasObject.of(name, moved)


@router.delete(
    "/{name}/aliases/{alias}",
    responses=error_responses("unknown_model", "unknown_version", "conflict", "storage_unavailable"),
)
def delete_alias(name: str, alias: str, principal: PrincipalDep, services: ServicesDep) -> Deleted:
    """Delete an alias other than `default`."""
    services.registry.delete_alias(principal, name, alias)
    services.pool.refresh()
    return Deleted(id=f"{name}@{alias}", object="model.alias")
