"""Watches, from a thread, what the service does until it is ready, and has it shown."""

import http.client
import json
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.settings import Settings
from app.supervisor.display import Display

if TYPE_CHECKING:
    from app.jobs.job import Job

ASK_EVERY_S = 0.25
ASK_SELDOM_S = 2.0
"""When nothing is under way that could change the answer."""
QUIET_FOR_S = 10.0
"""Nothing to import for so long: the worker, whose part it is to ask for starters, has none to ask for."""
LOOK_AT_JOBS_AFTER_S = 1.0
"""Since the gateway's first answer: a start that has nothing to import is ready sooner, and is not slowed by
looking at jobs."""


class Narrator:
    """Tells of imports, and of the moment when the service is ready, once. Then it is done."""

    def __init__(self, settings: Settings, url: str, display: Display, *, started_s: float) -> None:
        self._settings = settings
        self._url = url
        self._display = display
        self._started_s = started_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="narrator", daemon=True)
        self._shown: set[str] = set()
        self._has_said_not_ready = False

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Say nothing more."""
        self._over.set()
        self._thread.join(timeout=2)

    def _tell(self) -> None:
        jobs: JobWatch | None = None
        answered_s: float | None = None
        while not self._over.wait(ASK_SELDOM_S if self._has_said_not_ready else ASK_EVERY_S):
            status, reason = self._ask()
            waited_s = time.monotonic() - self._started_s
            if jobs is not None:
                self._show(jobs)
            if status == 200:
                self._display.ready(self._url, waited_s)
                break
            if answered_s is None and status is not None:
                answered_s = waited_s
            if jobs is None and answered_s is not None and waited_s - answered_s > LOOK_AT_JOBS_AFTER_S:
                jobs = JobWatch(self._settings, since_s=time.time() - waited_s)
            elif jobs is not None and status is not None and jobs.quiet_s > QUIET_FOR_S:
                self._say_not_ready(reason)
        if jobs is not None:
            jobs.close()

    def _ask(self) -> tuple[int | None, str]:
        """Status and error message of `/health/ready`; None while nothing answers."""
        address = urlsplit(self._url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=2)
        try:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None, ""
        finally:
            connection.close()
        return response.status, _message(body)

    def _show(self, jobs: "JobWatch") -> None:
        for job in jobs.look():
            name = str(job.spec.get("name") or job.id)
            if not job.status.has_ended:
                self._display.progress(name, job.phase or job.status.value, job.progress)
            elif job.id not in self._shown:
                self._shown.add(job.id)
                self._display.ended(name, job.status.value, _why(job))

    def _say_not_ready(self, reason: str) -> None:
        if not self._has_said_not_ready:
            self._has_said_not_ready = True
            self._display.not_ready(reason)


class JobWatch:
    """The imports of this start, read from the rows."""

    def __init__(self, settings: Settings, *, since_s: float) -> None:
        from app.db.session import Database  # noqa: PLC0415 - only a start that takes long needs rows
        from app.jobs.service import JobService  # noqa: PLC0415 - as above

        self._database = Database(settings.sqlalchemy_url)
        self._jobs = JobService(self._database, lambda _: None)
        self._since_s = since_s
        self._busy_s = time.monotonic()

    @property
    def quiet_s(self) -> float:
        """For how long nothing has been under way, seconds."""
        return time.monotonic() - self._busy_s

    def look(self) -> "list[Job]":
        """Imports that are under way, or ended since the start."""
        from app.access.principal import SYSTEM  # noqa: PLC0415 - as above

        jobs = self._jobs.list(SYSTEM, kind="import", limit=20)
        if not all(job.status.has_ended for job in jobs):
            self._busy_s = time.monotonic()
        return [job for job in jobs if (job.finished_at or self._since_s) >= self._since_s]

    def close(self) -> None:
        """Give the connection back."""
        self._database.close()


def _why(job: "Job") -> str | None:
    if job.error is None:
        return None
    return " ".join(str(job.error[part]) for part in ("message", "hint") if job.error.get(part))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
