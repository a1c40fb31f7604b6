"""Processes that must live: gateway and worker. Imports little: the gateway is started before the rest."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from app.supervisor.handover import give

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
"""Before a restart; doubles with each death in a row."""
LIVED_WELL_S = 20.0
"""A process that lived this long starts with the first pause again."""


class Supervised:
    """One process, in a group of its own: a Ctrl-C on the terminal reaches the supervisor alone.

    Everything happens in the caller's thread, which has to live on: the process dies with it.
    """

    def __init__(self, name: str, module: str, *, niceness: int = 0) -> None:
        self.name = name
        self.on_log: Callable[[str], None] | None = None
        """Takes its log lines, in a thread; None: they go to the supervisor's own stderr."""
        self.environment: dict[str, str] = {}
        """Added to the supervisor's own."""
        self._module = module
        self._niceness = niceness
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._due_s: float | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, as long as it runs."""
        return self._process.pid if self.is_alive and self._process else None

    @property
    def is_alive(self) -> bool:
        """It runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it now."""
        self._start(subprocess.DEVNULL)

    def _start(self, stdin: int) -> None:
        self._started_s, self._due_s = time.monotonic(), None
        self._process = subprocess.Popen(  # noqa: S603 - this Python, our modules
            [sys.executable, "-P", "-m", self._module, "--parent", str(os.getpid())],
            stdin=stdin,
            stderr=subprocess.PIPE if self.on_log else None,
            env={**os.environ, **self.environment},
            process_group=0,
        )
        # From here, as it could do so itself only after its imports, which are what it should be nice with.
        niceness = max(self._niceness, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)
        if self._process.stderr is not None and self.on_log is not None:
            relay = threading.Thread(
                target=_relay, args=(self._process.stderr, self.on_log), name=f"{self.name}-log", daemon=True
            )
            relay.start()

    def tend(self) -> int | None:
        """Start it again, after a pause, if it has died. Its exit code, once for each death."""
        if self._process is None or self.is_alive:
            return None
        now_s = time.monotonic()
        if self._due_s is None:
            if now_s - self._started_s > LIVED_WELL_S:
                self._pause_s = FIRST_PAUSE_S
            self._due_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._sweep()
            return self._process.returncode
        if now_s >= self._due_s:
            self.start()
        return None

    def terminate(self) -> None:
        """Ask it to stop."""
        if self._process is not None and self.is_alive:
            self._process.terminate()

    def kill(self) -> None:
        """End it and what else is in its group."""
        if self._process is not None:
            if self.is_alive:
                self._process.kill()
            self._process.wait()
            self._sweep()

    def _sweep(self) -> None:
        """Whatever it left in its process group ends too."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class GatewayProcess(Supervised):
    """The gateway: it can be started before there is a listener, and waits for it."""

    def __init__(self) -> None:
        super().__init__("gateway", "app.gateway")
        self._control: socket.socket | None = None
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Start it; it serves as soon as it has the listener."""
        self._forget_control()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._start(theirs.fileno())
        if self._listener is not None:
            self.hand(self._listener)

    def hand(self, listener: socket.socket) -> None:
        """Let it, and each that comes after it, serve this listener."""
        self._listener = listener
        if self._control is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died; the next one gets it
                give(self._control, listener)
        self._forget_control()

    def _forget_control(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None


def _relay(stream: IO[bytes], take: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            take(line.decode(errors="replace").rstrip("\n"))
