"""Serving HTTP in this process: alone, or for a supervisor.

What models need is imported first, while the supervisor prepares; the routes last, while pinned models load.
"""

import gc
import socket

from app.db import migrate
from app.errors import AppError, Conflict
from app.observability.logs import configure_logs, get_logger
from app.runtime.heap import tame_heap
from app.services import build_services
from app.settings import Settings
from app.supervisor.bind import bind, check_bind, url_of
from app.supervisor.handover import take

_NEW_OBJECTS = 10_000
"""Before the next look for garbage. Requests leave hardly any, and have more than Python's 700 at a time."""


def serve_for_supervisor() -> int:
    """Serve the listener that it gives, if it does. Returns the exit code."""
    listener = take()
    if listener is not None:
        serve(Settings(), listener)
    return 0


def serve_alone() -> int:
    """Check, bind, serve. Returns the exit code."""
    settings = Settings()
    configure_logs(settings)
    log = get_logger(__name__)
    try:
        check_bind(settings)
        if not migrate.is_current(settings.sqlalchemy_url):
            raise Conflict("The database is not at this version's revision.", hint="Run `athanor migrate`.")
        listener = bind(settings)
    except AppError as error:
        log.error("no_start", message=error.message, hint=error.hint)
        return 1
    log.info("listening", url=url_of(listener))
    serve(settings, listener)
    return 0


def serve(settings: Settings, listener: socket.socket) -> None:
    """Answer HTTP on a bound socket; a first SIGTERM or SIGINT lets requests in flight finish."""
    tame_heap()
    configure_logs(settings)
    services = build_services(settings)
    services.begin_beside_imports()
    try:
        from app.api.server import run  # noqa: PLC0415 - as below
        from app.main import create_app  # noqa: PLC0415 - a second, in which pinned models load

        gateway = create_app(settings, services)
    except BaseException:
        services.begin()  # what waits for it can end
        services.close()
        raise
    gc.freeze()  # what is here stays: no request waits for a look through it
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    gc.enable()
    run(gateway, listener, drain_timeout_s=settings.drain_timeout_s)
