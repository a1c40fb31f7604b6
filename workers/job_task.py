"""One run of one job, from claim to end:

claim ──► child process ──► its lines ──► publish + finish, one transaction under the fencing token
              ▲   │
 stop, cancel ┘   └► heartbeats keep the lease; a lost lease ends the child and nothing is written
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from app.db.session import Database
from app.errors import AppError, StorageUnavailable
from app.jobs.job import ClaimedJob, FailureCode, JobError
from app.jobs.states import JobStatus
from app.jobs.store import JobStore, LeaseLost
from app.observability.logs import bound, get_logger
from app.registry.service import Registry
from app.settings import Settings
from workers.child_process import ChildProcess, Exited, Woken
from workers.heartbeat import Heartbeat
from workers.notes import Notes
from workers.protocol import Done, Failed, Line, Order

STOP_WITHIN_S = 2.5
"""How long a child may take to stop when its worker stops, seconds."""
RETRY_EVERY_S = 0.5
"""Pause before a write is tried again while database or object store are away, seconds."""

_log = get_logger(__name__)
Returned = TypeVar("Returned")


class Cancelled(Exception):
    """Somebody cancelled the job while it ran."""


class Stopped(Exception):
    """This worker is stopping."""


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """What every run of this worker needs."""

    settings: Settings
    database: Database
    store: JobStore
    registry: Registry
    kinds: Mapping[str, str]
    """Kind of job -> `module:function`."""
    holder: str
    """Name of this worker, for people who read job events."""


class JobRunner:
    """Runs jobs one after the other. `stop()` may be called from a signal handler or another thread."""

    def __init__(self, workplace: Workplace) -> None:
        self._place = workplace
        self._stopping = threading.Event()
        self._child: ChildProcess | None = None

    @property
    def is_busy(self) -> bool:
        """A job is running."""
        return self._child is not None

    @property
    def is_stopping(self) -> bool:
        """`stop()` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Take up nothing more, and give back what runs: another worker takes it up at once."""
        self._stopping.set()
        if self._child is not None:
            self._child.wake()

    def answer(self, job_id: str) -> int:
        """Somebody rang: run that job, then whatever else waits. Returns how many it ran.

        So a worker never idles while jobs wait, whatever became of their messages.
        """
        ran = 0
        while not self.is_stopping and (job := self._take(job_id)) is not None:
            self._run(job)
            ran += 1
        return ran

    def _take(self, job_id: str) -> ClaimedJob | None:
        store, holder, lease_s = self._place.store, self._place.holder, self._place.settings.lease_s
        return store.claim(job_id, holder=holder, lease_s=lease_s) or store.claim_next(
            holder=holder, lease_s=lease_s
        )

    def _run(self, job: ClaimedJob) -> None:
        with bound(job_id=job.id):
            _log.info("job_started", kind=job.kind, attempt=job.attempt)
            try:
                self._attempt(job)
            except LeaseLost:
                _log.warning("job_lease_lost")

    def _attempt(self, job: ClaimedJob) -> None:
        settings = self._place.settings
        run = self._place.kinds.get(job.kind)
        if run is None:
            message = f"No worker knows the kind {job.kind!r}."
            self._end(job, JobStatus.FAILED, error=JobError(code=FailureCode.INTERNAL, message=message))
            return
        folder = settings.data_dir / "jobs" / job.id
        order = Order(
            job_id=job.id,
            run=run,
            spec=job.spec,
            tenant_id=job.principal.tenant_id,
            work_dir=folder / f"run-{job.token}",  # a run that lost its lease may still be in its own
            settings=Order.settings_of(settings),
        )
        order.work_dir.mkdir(mode=0o700, parents=True)
        threads = settings.cpu_threads or len(os.sched_getaffinity(0))
        beats = {"every_s": settings.heartbeat_s, "lease_s": settings.lease_s}
        try:
            with ChildProcess(order, log_path=folder / "log.txt", threads=threads) as child:
                self._child = child
                if self.is_stopping:  # stop() came before there was a child to wake
                    child.wake()
                with Heartbeat(self._place.store, job, on_news=child.wake, **beats) as heartbeat:
                    self._conclude(job, child, heartbeat)
        finally:
            self._child = None
            shutil.rmtree(order.work_dir, ignore_errors=True)

    def _conclude(self, job: ClaimedJob, child: ChildProcess, heartbeat: Heartbeat) -> None:
        """Attend the child to its end, and write the end down."""
        try:
            last = self._attend(job, child, heartbeat)
        except Cancelled:
            child.end()
            self._end(job, JobStatus.CANCELLED)
        except Stopped:
            child.end(within_s=STOP_WITHIN_S)
            self._persist(lambda: self._place.store.give_back(job.id, job.token, reason="its worker stopped"))
            _log.info("job_given_back")
        else:
            code = child.end()
            if isinstance(last, Done):
                self._publish(job, last)
            elif isinstance(last, Failed):
                error = JobError(code=last.code, message=last.message, hint=last.hint)
                self._end(job, JobStatus.FAILED, error=error)
            else:
                self._lose(job, code)

    def _attend(self, job: ClaimedJob, child: ChildProcess, heartbeat: Heartbeat) -> Line | None:
        """Hear the child out. Its last word, or None when it died without one.

        Raises Cancelled, Stopped, LeaseLost.
        """
        notes = Notes(self._place.store, job)
        last: Line | None = None
        while True:
            try:
                line = child.next_line(timeout_s=notes.due_in_s)
            except Exited:
                return last
            except Woken:
                if heartbeat.lease_lost:
                    raise LeaseLost(job.id) from None
                if heartbeat.cancel_asked:
                    raise Cancelled from None
                if self.is_stopping:
                    raise Stopped from None
                continue
            if isinstance(line, Done | Failed):
                last = line
            elif line is not None:
                notes.take(line)
            notes.write_due()

    def _lose(self, job: ClaimedJob, code: int) -> None:
        """The child died without a word: another try, or none left."""
        reason = "the child process " + (
            f"was killed by signal {-code}" if code < 0 else f"left with exit code {code}"
        )
        queued = self._persist(lambda: self._place.store.lose(job.id, job.token, reason=reason))
        _log.warning("job_child_died", reason=reason, retried=queued)

    def _publish(self, job: ClaimedJob, done: Done) -> None:
        """Publish and finish, both or neither."""
        try:
            version = self._persist(lambda: self._commit(job, done))
        except AppError as error:
            self._end(job, JobStatus.FAILED, error=JobError.of(error))
        else:
            _log.info("job_ended", status=JobStatus.SUCCEEDED.value, version=version)

    def _commit(self, job: ClaimedJob, done: Done) -> str | None:
        place, parcel, result = self._place, done.publish, dict(done.result)
        if parcel is not None:
            staged = place.registry.stage(job.principal, parcel.artifacts)
        with place.database.begin() as session:
            if parcel is not None:
                version = place.registry.publish(
                    job.principal,
                    name=parcel.name,
                    manifest=parcel.manifest,
                    certificate=parcel.certificate,
                    artifacts=staged,
                    job_id=job.id,
                    session=session,
                )
                result["model"] = f"{version.name}:{version.number}"
            place.store.finish(session, job.id, job.token, JobStatus.SUCCEEDED, result=result)
        return result.get("model")

    def _end(self, job: ClaimedJob, status: JobStatus, *, error: JobError | None = None) -> None:
        def write() -> None:
            with self._place.database.begin() as session:
                self._place.store.finish(session, job.id, job.token, status, error=error)

        self._persist(write)
        _log.info("job_ended", status=status.value, error=error.to_dict() if error else None)

    def _persist(self, write: Callable[[], Returned]) -> Returned:
        """Do a write that must not be lost, again and again while database or objects are away.

        Raises LeaseLost when that takes longer than the lease, for then the job is another's.
        """
        give_up_s = time.monotonic() + self._place.settings.lease_s
        while True:
            try:
                return write()
            except StorageUnavailable as error:
                if time.monotonic() > give_up_s:
                    raise LeaseLost from error
                _log.warning("job_write_failed", error=error.message, cause=repr(error.__cause__))
                time.sleep(RETRY_EVERY_S)
