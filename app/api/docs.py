"""The API's document, and `/docs` without the internet: Swagger UI's files come out of a package."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.api.schemas.errors import error_schemas

_STATIC_PATH = "/docs/static"


class DocumentedApi(FastAPI):
    """Its document has what the routes' errors refer to."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            super().openapi()["components"]["schemas"] |= error_schemas()
        return super().openapi()


def add_docs(api: FastAPI) -> None:
    """Serve the page and its files. The package that carries them is located, not imported."""
    spec = find_spec("fastapi_offline")
    assert spec is not None  # a dependency
    assert spec.origin is not None
    api.mount(_STATIC_PATH, StaticFiles(directory=Path(spec.origin).parent / "static"))

    @api.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Athanor API",
            swagger_js_url=f"{_STATIC_PATH}/swagger-ui-bundle.js",
            swagger_css_url=f"{_STATIC_PATH}/swagger-ui.css",
            swagger_favicon_url=f"{_STATIC_PATH}/favicon.png",
        )
