"""How the supervisor hands a gateway its listening socket, over the gateway's stdin.

A gateway is started before anything else is known, because importing its parts takes longest. Once it has
what models need it waits here for its go: by then the settings are checked, the database is migrated and the
port is bound. It imports the routes afterwards, while pinned models load. The listener stays open in the
supervisor, so that clients wait while a gateway is replaced, and are not refused.
"""

import os
import socket

_GO = b"go"


def give(control: socket.socket, listener: socket.socket) -> None:
    """Tell the gateway to serve this listener."""
    socket.send_fds(control, [_GO], [listener.fileno()])


def take() -> socket.socket | None:
    """In the gateway: wait for the listener. None when the supervisor changed its mind or has gone."""
    with socket.socket(fileno=os.dup(0)) as control:
        message, descriptors, _, _ = socket.recv_fds(control, len(_GO), 1)
    if message != _GO or not descriptors:
        return None
    return socket.socket(fileno=descriptors[0])
