"""Health, metrics, and the way to the documentation."""

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from app.access.principal import SYSTEM
from app.api.deps import ServicesDep
from app.api.schemas.errors import error_responses
from app.errors import ModelNotReady

router = APIRouter(tags=["system"])


class Health(BaseModel):
    """`live` or `ready`."""

    status: str


@router.get("/health/live")
def live() -> Health:
    """The process answers."""
    return Health(status="live")


@router.get("/health/ready", responses=error_responses("model_not_ready"))
def ready(services: ServicesDep) -> Health:
    """The default classifier answers."""
    name = services.settings.default_classifier
    if name and services.pool.find(SYSTEM, name) is None:
        raise services.why_missing(SYSTEM, name) or ModelNotReady(
            f"{name} is not loaded.", param="model", hint="Its import job says why: GET /v1/jobs?kind=import."
        )
    return Health(status="ready")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(services: ServicesDep) -> Response:
    """Prometheus exposition."""
    return Response(services.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
def root() -> RedirectResponse:
    """Lead to the documentation."""
    return RedirectResponse("/docs")
