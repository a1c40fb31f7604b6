"""`/v1/models/{name}/serving`: what stays loaded, with how many threads, and what was measured."""

from fastapi import APIRouter

from app.access.principal import Principal
from app.api.deps import PrincipalDep, ServicesDep
from app.api.schemas.errors import error_responses
from app.api.schemas.serving import ServedVersion, ServingObject, ServingRequest
from app.errors import InvalidRequest
from app.registry.reference import DEFAULT_ALIAS
from app.registry.snapshot import ModelFacts
from app.runtime.plan import serving_cores
from app.services import Services

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("/{name}/serving", responses=error_responses("unknown_model", "storage_unavailable"))
def retrieve_serving(name: str, principal: PrincipalDep, services: ServicesDep) -> ServingObject:
    """How a model is served by the process that answers: its plan, what it holds, whether it stays loaded."""
    return _shown(principal, services, name)


@router.put(
    "/{name}/serving",
    responses=error_responses(
        "unknown_model",
        "unknown_version",
        "invalid_payload",
        "invalid_request",
        "not_servable",
        "model_not_ready",
        "out_of_memory",
        "storage_unavailable",
    ),
)
def set_serving(
    name: str, body: ServingRequest, principal: PrincipalDep, services: ServicesDep
) -> ServingObject:
    """Set how a model is served; what is left out goes back to its default.

    Loaded versions are replaced while requests go on. A model that is to be pinned is loaded first: one that
    does not load, or has no room, is not pinned.
    """
    cores = serving_cores(services.settings.cpu_threads)
    if body.threads is not None and body.threads > cores:
        raise InvalidRequest(
            f"threads must be at most {cores}: so many cores serve here.",
            param="threads",
            hint="Leave it out for what was measured to be fastest.",
        )
    services.registry.get_model(principal, name)
    if body.pinned:
        services.pool.load(principal, name)
    services.registry.set_serving(principal, name, body.options)
    services.pool.refresh()
    return _shown(principal, services, name)


def _shown(principal: Principal, services: Services, name: str) -> ServingObject:
    model = services.registry.get_model(principal, name)
    return ServingObject(
        model=name,
        pinned=model.serving.pinned,
        stays_loaded=services.pool.stays_loaded(principal, name),
        instances=model.serving.instances,
        threads=model.serving.threads,
        max_batch=model.serving.max_batch,
        versions=_served(services, model),
        memory_held_bytes=services.residency.held_bytes,
        memory_limit_bytes=services.residency.limit_bytes,
    )


def _served(services: Services, model: ModelFacts) -> list[ServedVersion]:
    found = []
    for number, version in model.versions.items():
        engines = services.pool.loaded(version)
        found += [ServedVersion.of(number, engine.plan, engine.footprint, engine) for engine in engines]
        if not engines and number == model.aliases.get(DEFAULT_ALIAS):
            known = services.loader.measured(version, model.serving)
            if known is not None:
                found.append(ServedVersion.of(number, *known, None))
    return found
