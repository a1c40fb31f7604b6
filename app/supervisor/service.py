"""The supervisor behind `athanor serve`.

gateway process imports what models need …  ◄─ started first, waits for its listener
settings ► lock ► bind ► migrate ► hand the listener over ► start the worker ► tend both
SIGINT, SIGTERM, SIGHUP ► SIGTERM to both ► SIGKILL to what is left ► nothing of it runs
"""

import signal
import socket
import threading
import time
from types import FrameType

from app.db import migrate
from app.settings import Settings
from app.supervisor.bind import bind, check_bind, url_of
from app.supervisor.display import Display, make_display
from app.supervisor.lock import announce, only_one
from app.supervisor.narrator import Narrator
from app.supervisor.processes import GatewayProcess, Supervised

STOP_WITHIN_S = 8.5
"""How long the processes may take to stop before they are killed, seconds."""
TEND_EVERY_S = 0.1
WORKER_NICENESS = 10
"""Serving comes first, also while both start."""


class Supervisor:
    """One run of the service. `gateway` may have been started already, to import meanwhile."""

    def __init__(self, settings: Settings, gateway: GatewayProcess, *, started_s: float) -> None:
        self._settings = settings
        self._gateway = gateway
        self._worker = Supervised("worker", "workers", niceness=WORKER_NICENESS)
        self._started_s = started_s
        self._signals = 0
        self._stop = threading.Event()

    def run(self) -> None:
        """Serve until a signal comes. Raises Conflict, Forbidden or InvalidRequest if that cannot be."""
        check_bind(self._settings)
        with only_one(self._settings.data_dir), bind(self._settings) as listener:
            url = url_of(listener)
            display = make_display(self._settings)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._on_signal)
            try:
                display.starting(url, str(self._settings.data_dir))
                migrate.upgrade(self._settings.sqlalchemy_url)
                announce(self._settings.data_dir, url)
                self._serve(listener, url, display)
            finally:
                self._end(listener, display)

    def _serve(self, listener: socket.socket, url: str, display: Display) -> None:
        self._gateway.hand(listener)
        display.adopt(self._worker)
        self._worker.start()
        narrator = Narrator(self._settings, url, display, started_s=self._started_s)
        narrator.start()
        while not self._stop.wait(TEND_EVERY_S):
            for process in (self._gateway, self._worker):
                code = process.tend()
                if code is not None:
                    display.died(process.name, code)
        narrator.stop()

    def _end(self, listener: socket.socket, display: Display) -> None:
        """Nothing that this supervisor started is left when this returns."""
        listener.close()
        display.stopping()
        processes = (self._gateway, self._worker)
        for process in processes:
            process.terminate()
        deadline_s, signals = time.monotonic() + STOP_WITHIN_S, self._signals
        while any(process.is_alive for process in processes):
            if time.monotonic() > deadline_s or self._signals > signals:
                break
            time.sleep(0.02)
        for process in processes:
            process.kill()
        display.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1  # a second one while stopping: no more patience
        self._stop.set()
