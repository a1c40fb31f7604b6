"""The one composition root: `create_app(settings)` builds the gateway from its parts."""

from fastapi import FastAPI

from app import __version__
from app.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Build the gateway. No import of this module has a side effect; all state hangs on the app."""
    app = FastAPI(title="Athanor", version=__version__)
    app.state.settings = settings

    @app.get("/health/live", tags=["system"])
    def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    return app
