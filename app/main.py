"""The one composition root: `create_app(settings)` builds the gateway from its parts.

No import of this module has a side effect; threads start and stop with the application's lifespan.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app import __version__
from app.access.door import Door
from app.api import (
    bundle,
    catalog,
    classification,
    datasets,
    files,
    fine_tuning,
    job_stream,
    jobs,
    models,
    segmentation,
    serving,
    super_resolution,
    system,
    uploads,
)
from app.api.docs import DocumentedApi, add_docs
from app.api.errors import STATUS, error_body, retry_headers
from app.api.gateway import REQUEST_ID_KEY, Gateway
from app.api.inference import Inference
from app.errors import AppError, Internal, InvalidPayload, MethodNotAllowed, NotFound
from app.observability.access_log import AccessLog
from app.services import Services, build_services
from app.settings import Settings
from app.upscaling.submissions import UpscaleSubmissions


def create_app(settings: Settings, services: Services | None = None) -> Gateway:
    """Build the ASGI application that uvicorn runs, over services that may have begun already."""
    services = services or build_services(settings)
    access_log = AccessLog(
        as_json=settings.logs_json(sys.stderr.isatty()),
        log_level=settings.log_level,
        also=services.metrics.settle,
    )
    api = _build_api(services, access_log)
    inference = Inference(
        services.pool, default_deadline_s=settings.default_deadline_s, why_missing=services.why_missing
    )
    gateway = Gateway(
        api,
        door=Door(settings, lambda: services.pool.snapshot.keys),
        hot={
            classification.PATH: classification.ClassificationRoute(inference, settings),
            segmentation.PATH: segmentation.SegmentationRoute(inference, settings),
            super_resolution.PATH: super_resolution.SuperResolutionRoute(
                inference, settings, UpscaleSubmissions(services.files, services.jobs)
            ),
        },
        metrics=services.metrics,
        access_log=access_log,
        outer=partial(_cors, settings.cors_origins.split(",")) if settings.cors_origins else None,
    )
    gateway.on_stop = services.feed.end
    return gateway


def _cors(origins: list[str], app: ASGIApp) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["server-timing", "x-request-id", "retry-after"],
    )


def build_api(settings: Settings) -> FastAPI:
    """The documented part alone, for its OpenAPI document."""
    return _build_api(build_services(settings), None)


def _build_api(services: Services, access_log: AccessLog | None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if access_log is not None:
            access_log.start()
        services.begin()
        try:
            yield
        finally:
            services.close()
            if access_log is not None:
                access_log.close()

    api = DocumentedApi(
        title="Athanor",
        version=__version__,
        summary="Trains, proves and serves deep-learning models.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    add_docs(api)
    api.state.services = services
    modules = (
        classification,
        segmentation,
        super_resolution,
        models,
        serving,
        bundle,
        files,
        uploads,
        datasets,
        catalog,
        fine_tuning,
        job_stream,
        jobs,
    )
    for module in (*modules, system):
        # `include_router` would build each of them a second time, 0.35 s in all, at the first request.
        api.router.routes.extend(module.router.routes)
    api.add_exception_handler(AppError, _app_error)
    api.add_exception_handler(RequestValidationError, _invalid_payload)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(Exception, _internal)
    return api


def _respond(request: Request, error: AppError) -> Response:
    response = Response(
        error_body(error, request.scope.get(REQUEST_ID_KEY, "")),
        status_code=STATUS[error.code],
        media_type="application/json",
    )
    response.raw_headers += retry_headers(error)
    return response


def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return _respond(request, error)


def _invalid_payload(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"][1:]]
    if isinstance(error.body, dict) and parts[:1] == [error.body.get("kind")]:
        parts = parts[1:]  # which of several bodies it was, and no field of it
    where = ".".join(parts) or None
    return _respond(request, InvalidPayload(f"{where or 'body'}: {first['msg']}", param=where))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        response = _respond(request, MethodNotAllowed(request.method, request.url.path, allowed))
        response.headers["allow"] = allowed
        return response
    if error.status_code == 404:
        return _respond(request, NotFound(f"There is no route {request.url.path}.", hint="See /docs."))
    return _respond(request, InvalidPayload(str(error.detail)))


def _internal(request: Request, _: Exception) -> Response:
    return _respond(
        request, Internal("Something went wrong here.", hint="The log has the details under this request id.")
    )
