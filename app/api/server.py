"""uvicorn around the gateway."""

import socket

import uvicorn

from app.api.gateway import Gateway
from app.api.protocol import protocol_of
from app.supervisor.bind import BACKLOG


class Server(uvicorn.Server):
    """Ends streams before it waits for requests in flight: a stream lasts as long as its job."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, as uvicorn does."""
        self._gateway.on_stop()
        await super().shutdown(sockets)


def run(gateway: Gateway, listener: socket.socket, *, drain_timeout_s: float) -> None:
    """Answer HTTP on a bound socket; a first SIGTERM or SIGINT lets requests in flight finish."""
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
        timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
    )
    Server(config, gateway).run(sockets=[listener])
