"""Servers as process groups: start, check, pause, count their CPU time, stop; and the grid of each peer."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving.load import PATH

ROOT = Path(__file__).resolve().parents[2]
_READY_S = 120
_QUIET_SHARE = 0.05
"""A server that uses less of one core than this has nothing left to do."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How to start one server."""

    name: str
    command: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    """The knobs that were chosen, as they are reported."""
    environment: dict[str, str] = field(default_factory=dict)
    path: str = PATH
    query: str = ""


class Server:
    """One running server and all its processes."""

    def __init__(self, spec: Spec, port: int, log: Path) -> None:
        self.spec = spec
        self.port = port
        self._log = log
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **spec.environment, "BENCH_PORT": str(port)}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [part.replace("{port}", str(port)) for part in spec.command],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def answer(self, photo: bytes) -> bytes:
        """The body of the answer to one request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{self.spec.path}{self.spec.query}",
            data=photo,
            headers={"Content-Type": "image/jpeg"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            body: bytes = response.read()
            return body

    def wait_ready(self, photo: bytes) -> None:
        """Wait for the first answer.

        Raises:
            RuntimeError: it ended or stayed silent; the message has the end of its log.

        """
        deadline_s = time.monotonic() + _READY_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                self.answer(photo)
            except OSError:
                time.sleep(0.2)
            else:
                return
        self.stop()
        raise RuntimeError(
            f"{self.spec.name} does not answer:\n{self._log.read_text(errors='replace')[-3000:]}"
        )

    def processes(self) -> list[psutil.Process]:
        """Its descendants, and the members of its session whose parents have gone."""
        members: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            members = {process.pid: process for process in (root, *root.children(recursive=True))}
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(process.pid) == self._process.pid:
                    members[process.pid] = process
        return list(members.values())

    def cpu_s(self) -> float:
        """CPU time that its processes have used so far."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def rest(self, timeout_s: float = 10) -> None:
        """Wait until it has worked off what an ended load left behind."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            before = self.cpu_s()
            time.sleep(0.4)
            if self.cpu_s() - before <= 0.4 * _QUIET_SHARE:
                return

    def pause(self) -> None:
        """Take it off the processor without ending it."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End all its processes, politely, then not."""
        self.resume()
        processes = self.processes()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for process in {*processes, *self.processes()}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextlib.contextmanager
def running(spec: Spec, photo: bytes, folder: Path) -> Iterator[Server]:
    """A server that has answered once, for the length of a block."""
    server = Server(spec, _free_port(), folder / f"{spec.name}.log")
    try:
        server.wait_ready(photo)
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _spec(name: str, command: tuple[str, ...], model: Path, options: dict[str, Any]) -> Spec:
    environment = {f"BENCH_{key.upper()}": str(value) for key, value in options.items()}
    environment |= {"BENCH_MODEL": str(model), "OMP_NUM_THREADS": "1"}
    environment["BENTOML_CONFIG_OPTIONS"] = "api_server.logging.access.enabled=false"
    environment["BENTOML_DO_NOT_TRACK"] = "True"
    return Spec(name=name, command=command, options=options, environment=environment)


def peer_grids(model: Path, python: Path) -> dict[str, list[Spec]]:
    """Every configuration that is tried of every peer; the fastest at 32 connections is measured."""
    return {
        "bare": list(_bare(model)),
        "fastapi": list(_fastapi(model, python)),
        "litserve": list(_litserve(model, python)),
        "bentoml": list(_bentoml(model, python)),
    }


def _bare(model: Path) -> Iterator[Spec]:
    command = (sys.executable, "-m", "benchmarks.serving.peers.bare_server")
    for batch in (2, 4, 8):
        yield _spec("bare", command, model, {"lanes": len(os.sched_getaffinity(0)), "batch": batch})


def _fastapi(model: Path, python: Path) -> Iterator[Spec]:
    for workers, pool, threads in ((1, 2, 1), (1, 4, 1), (2, 1, 1), (2, 2, 1)):
        command = (str(python), "-m", "uvicorn", "benchmarks.serving.peers.fastapi_server:app")
        flags = ("--port", "{port}", "--workers", str(workers), "--log-level", "warning", "--no-access-log")
        options = {"workers": workers, "pool": pool, "session_threads": threads}
        yield _spec("fastapi", command + flags, model, options)


def _litserve(model: Path, python: Path) -> Iterator[Spec]:
    command = (str(python), "-m", "benchmarks.serving.peers.litserve_server")
    timeouts_s = {1: 0.0, 4: 0.002, 8: 0.005}
    tried = ((1, 8, 1, 0), (2, 1, 1, 0), (2, 4, 1, 0), (2, 8, 1, 0), (2, 4, 1, 1), (2, 8, 1, 1), (2, 4, 2, 0))
    for workers, batch, api_servers, fast_queue in tried:
        options = {"workers": workers, "session_threads": 2 // workers, "api_servers": api_servers}
        options |= {"batch": batch, "batch_timeout_s": timeouts_s[batch], "fast_queue": fast_queue}
        yield _spec("litserve", command, model, options)


def _bentoml(model: Path, python: Path) -> Iterator[Spec]:
    def serve(service: str) -> tuple[str, ...]:
        target = f"benchmarks.serving.peers.bento_server:{service}"
        return (str(python), "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", "{port}")

    for workers, threads in ((1, 2), (2, 1), (2, 2)):
        options = {"service": "Direct", "workers": workers, "threads": threads, "batch": 1}
        yield _spec("bentoml", serve("Direct"), model, options)
    for workers, batch in ((1, 4), (2, 4), (2, 8)):
        options = {"service": "Batched", "workers": workers, "threads": 2, "batch": batch}
        yield _spec("bentoml", serve("Batched"), model, options)
