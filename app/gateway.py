"""The gateway process: `python -m app.gateway`.

Alone it binds its address itself. With `--parent PID` it belongs to a supervisor: its imports run while the
supervisor prepares, then it takes over the listening socket, and it dies with its parent.
"""

import argparse
import socket
import sys

import uvicorn

from app.api.gateway import Gateway
from app.api.protocol import protocol_of
from app.db import migrate
from app.errors import AppError, Conflict
from app.main import create_app
from app.observability.logs import configure_logs, get_logger
from app.runtime.heap import tame_heap
from app.settings import Settings
from app.supervisor.bind import BACKLOG, bind, check_bind, url_of
from app.supervisor.handover import take
from app.supervisor.lifeline import die_with


def main() -> int:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="athanor serve --gateway-only", description="Serve HTTP.")
    parser.add_argument("--parent", type=int, help="process id of the supervisor, whose socket is on stdin")
    parent_pid = parser.parse_args().parent
    if parent_pid is not None:
        die_with(parent_pid)
        listener = take()
        if listener is None:
            return 0
        serve(Settings(), listener)
        return 0
    return serve_alone(Settings())


def serve_alone(settings: Settings) -> int:
    """Check, bind, serve. Returns the exit code."""
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
    gateway = create_app(settings)
    config = uvicorn.Config(
        gateway,
        loop="uvloop",
        http=protocol_of(gateway),
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
    )
    _Server(config, gateway).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends streams before it waits for requests in flight: a stream lasts as long as its job."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, as uvicorn does."""
        self._gateway.on_stop()
        await super().shutdown(sockets)


if __name__ == "__main__":
    sys.exit(main())
