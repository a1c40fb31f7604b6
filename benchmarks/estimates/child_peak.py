"""Highest resident memory of a job's child while it trains, as the system counts it."""

import re
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

_POLL_S = 0.5
"""The system keeps the highest value by itself; only the end of training must not be missed by much."""
_CHILD = "workers.child"


class ChildPeak:
    """A context manager that watches the one job that runs.

    The child resets the system's count when it begins to measure, so what it needed to load its libraries
    and the base is in neither figure. What it takes for export and certificate is left out by the phase.
    """

    def __init__(self, url: str) -> None:
        self.training_bytes = 0
        self.phases: list[str] = []
        """Seen so far, in order."""
        self._url = url
        self._job_id: str | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._is_over.wait(_POLL_S):
                peak = child_peak_bytes()
                running = client.get("/v1/jobs", params={"kind": "fine_tune", "limit": 1}).json()["data"]
                phase = running[0]["phase"] if running else None
                if phase and phase not in self.phases:
                    self.phases.append(phase)
                if phase == "training":
                    self.training_bytes = max(self.training_bytes, peak)


def child_peak_bytes() -> int:
    """VmHWM of the child that runs below this process; 0 without one."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, OSError):
            if _CHILD in process.cmdline():
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
                if peak:
                    return int(peak[1]) * 1024
    return 0
