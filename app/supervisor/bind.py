"""The address that the gateway listens on: may it, can it, and if not, why."""

import errno
import socket

from app.errors import Conflict, Forbidden, InvalidRequest
from app.settings import Settings

BACKLOG = 2048
"""Connections that may wait to be accepted."""
EXAMPLE_KEY = "replace-this-with-a-long-random-value"
"""What `.env.example` has for a key: known to everybody."""


def check_bind(settings: Settings) -> None:
    """Refuse an address that others can reach while no key is set, and the example key. Raises Forbidden."""
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    if key == EXAMPLE_KEY:
        raise Forbidden(
            "ATHANOR_API_KEY still has the value of .env.example, which everybody knows.",
            param="api_key",
            hint="Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    if not settings.binds_loopback and not key:
        raise Forbidden(
            f"Other machines could reach {settings.host}, and no key is set.",
            param="host",
            hint="Set ATHANOR_API_KEY to a long random value, or ATHANOR_HOST to 127.0.0.1.",
        )


def bind(settings: Settings) -> socket.socket:
    """A listening socket. Raises Conflict, Forbidden or InvalidRequest, saying what to do."""
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise InvalidRequest(f"{host!r} is no address of this machine.", hint="Set ATHANOR_HOST.") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)  # from now on clients wait; the gateway answers them when it is there
    except OSError as error:
        listener.close()
        raise _refusal(error, host, port) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a person on this machine finds the service."""
    host, port = listener.getsockname()[:2]
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host)  # noqa: S104 - compared, not bound
    return f"http://{local or (f'[{host}]' if ':' in host else host)}:{port}"


def _refusal(error: OSError, host: str, port: int) -> Conflict | Forbidden | InvalidRequest:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"Port {port} of {host} is taken{_by_whom(port)}.",
            param="port",
            hint="Stop it, or set ATHANOR_PORT to another port (0 takes a free one).",
        )
    if error.errno == errno.EACCES:
        return Forbidden(
            f"This user may not bind port {port}.", param="port", hint="Set ATHANOR_PORT to 1024 or above."
        )
    return InvalidRequest(f"{host}:{port} cannot be bound: {error.strerror}.", hint="Set ATHANOR_HOST.")


def _by_whom(port: int) -> str:
    """` by NAME (pid N)`, where this user may know it."""
    import psutil  # noqa: PLC0415 - only a failed start needs it

    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""
