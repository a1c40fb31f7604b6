"""One run of one job, from its claim to its end:

checkpoint ──► child process ──► its lines ──► publish + finish, one transaction under the fencing token
                 ▲     │
  stop, pause, cancel  └► heartbeats keep the lease; a lost lease ends the child and nothing is written
"""

import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from app.errors import AppError, DiskFull, NotFound, ObjectDamaged, StorageUnavailable
from app.jobs.job import Asked, ClaimedJob, FailureCode, JobCheckpoint, JobError
from app.jobs.states import JobStatus
from app.jobs.store import Cancelled, LeaseLost
from app.observability.logs import get_logger
from app.storage.reclaim import reclaim
from workers.child_process import ChildProcess, Exited, Woken
from workers.ending import commit
from workers.heartbeat import Heartbeat
from workers.kinds.warming import imports_of
from workers.notes import Notes
from workers.protocol import (
    Checkpoint,
    DatasetMade,
    DatasetPublished,
    Done,
    Failed,
    Kept,
    Left,
    Line,
    Order,
    ResumeFrom,
    Stop,
)
from workers.workplace import Workplace

STOP_WITHIN_S = 5.5
"""How long a child may take to checkpoint and leave when its worker stops, seconds. What follows, and the
supervisor's own patience, have to fit into the ten seconds that a service has to go."""
PAUSE_WITHIN_S = 30.0
"""The same when its job is to pause: nobody waits for the worker then."""
AWAY_S = 2.0
"""A run that met a database or an object store that was away is tried again after this long, seconds."""
RETRY_EVERY_S = 0.5
"""Pause before a write is tried again while database or object store are away, seconds."""

_log = get_logger(__name__)
Returned = TypeVar("Returned")


class Overdue(Exception):
    """The child was asked to leave and did not."""


class OutOfTime(Exception):
    """The job has run for as long as it may."""


class Attempt:
    """`run()` it once. `wake()` may be called from a signal handler or another thread."""

    def __init__(self, place: Workplace, job: ClaimedJob, *, is_stopping: Callable[[], bool]) -> None:
        self._place = place
        self._job = job
        self._is_stopping = is_stopping
        self._child: ChildProcess | None = None
        self._notes = Notes(place.records, job)
        self._heartbeat = Heartbeat(
            place.store,
            job,
            every_s=place.settings.heartbeat_s,
            lease_s=place.settings.lease_s,
            on_news=self.wake,
        )
        self._leave_by_s: float | None = None

    def wake(self) -> None:
        """There is news: the worker stops, somebody asked something, or the lease is lost."""
        if self._child is not None:
            self._child.wake()

    def run(self) -> None:
        """Run the job to an end, or as far as it gets. Raises LeaseLost."""
        job, run = self._job, self._place.kinds.get(self._job.kind)
        if run is None:
            message = f"No worker knows the kind {job.kind!r}."
            self._end(JobStatus.FAILED, error=JobError(code=FailureCode.INTERNAL, message=message))
            return
        folder = self._place.settings.data_dir / "jobs" / job.id
        with self._heartbeat:
            try:
                self._place.disk.check()
            except DiskFull as error:
                self._stop_for(error)
                return
            if self._is_stopping():
                self._give_back()
                return
            for old in folder.glob("run-*"):  # of runs whose worker was killed
                shutil.rmtree(old, ignore_errors=True)
            order = Order(
                job_id=job.id,
                attempt=job.attempt,
                run=run,
                spec=job.spec,
                tenant_id=job.principal.tenant_id,
                work_dir=folder / f"run-{job.token}",  # a run that lost its lease may still be in its own
                settings=Order.settings_of(self._place.settings),
                resume=self._resume(),
            )
            order.work_dir.mkdir(mode=0o700, parents=True)
            imports = imports_of(job.kind, job.spec)
            try:
                with ChildProcess(
                    order, log_path=folder / "log.txt", nursery=self._place.nursery, imports=imports
                ) as child:
                    self._child = child
                    if self._is_stopping() or self._heartbeat.has_news:  # it came before there was a child
                        child.wake()
                    self._conclude(child)
            finally:
                self._child = None
                shutil.rmtree(order.work_dir, ignore_errors=True)

    # -- its beginning -------------------------------------------------------------------------------

    def _resume(self) -> ResumeFrom | None:
        """The newest checkpoint whose bytes are whole."""
        for checkpoint in self._persist(lambda: self._place.records.checkpoints(self._job.id)):
            resume = self._persist(partial(self._fetch, checkpoint))
            if resume is not None:
                self._notes.add_facts({"resumed_from_step": resume.step})
                return resume
        return None

    def _fetch(self, checkpoint: JobCheckpoint) -> ResumeFrom | None:
        try:
            path = self._place.objects.fetch(self._job.principal, checkpoint.sha256)
        except (NotFound, ObjectDamaged) as error:
            _log.warning("checkpoint_unreadable", step=checkpoint.step, error=error.message)
            return None
        return ResumeFrom(step=checkpoint.step, path=path, metrics=checkpoint.metrics)

    # -- its middle ----------------------------------------------------------------------------------

    def _attend(self, child: ChildProcess) -> Line | None:
        """Hear the child out. Its last word, or None when it died without one.

        Raises Cancelled, Overdue, OutOfTime, LeaseLost, and what a publication or a checkpoint is refused by.
        """
        last: Line | None = None
        while True:
            self._check_time()
            try:
                line = child.next_line(timeout_s=self._patience_s())
            except Exited:
                self._write_rest()
                return last
            except Woken:
                self._heed(child)
                continue
            if isinstance(line, Done | Failed | Left):
                last = line
            elif isinstance(line, Checkpoint):
                self._keep(line)
                child.tell(Kept())
            elif isinstance(line, DatasetMade):
                child.tell(DatasetPublished(reference=self._publish_dataset(line)))
            elif line is not None:
                self._notes.take(line)
            self._notes.write_due()

    def _write_rest(self) -> None:
        if self._notes.due_in_s is not None:
            note = self._notes.collect()
            self._persist(lambda: self._place.records.write(self._job.id, self._job.token, note))

    def _heed(self, child: ChildProcess) -> None:
        if self._heartbeat.lease_lost:
            raise LeaseLost(self._job.id)
        if self._heartbeat.asked is Asked.CANCEL:
            raise Cancelled
        if self._is_stopping():
            self._tell_to_leave(child, STOP_WITHIN_S)
        elif self._heartbeat.asked is Asked.PAUSE:
            self._tell_to_leave(child, PAUSE_WITHIN_S)

    def _tell_to_leave(self, child: ChildProcess, within_s: float) -> None:
        by_s = time.monotonic() + within_s
        if self._leave_by_s is None:
            child.tell(Stop())
            self._leave_by_s = by_s
        self._leave_by_s = min(self._leave_by_s, by_s)

    def _time_left_s(self) -> float | None:
        limit_s = self._job.time_limit_s
        return None if limit_s is None else limit_s - self._heartbeat.ran_s

    def _patience_s(self) -> float | None:
        """How long the child may be silent before there is something else to do."""
        leave_in_s = None if self._leave_by_s is None else self._leave_by_s - time.monotonic()
        due = [s for s in (self._notes.due_in_s, self._time_left_s(), leave_in_s) if s is not None]
        return max(0.0, min(due)) if due else None

    def _check_time(self) -> None:
        if self._leave_by_s is not None and time.monotonic() >= self._leave_by_s:
            raise Overdue
        left_s = self._time_left_s()
        if left_s is not None and left_s <= 0:
            raise OutOfTime

    def _keep(self, line: Checkpoint) -> None:
        """Store the file durably, then its row; forget what is not needed any more."""
        place, job, note = self._place, self._job, self._notes.collect()
        place.disk.check(line.path.stat().st_size)

        def write() -> list[str]:
            stored = place.objects.put_file(job.principal, line.path)
            return place.records.add_checkpoint(
                job,
                note,
                step=line.step,
                stored=stored,
                metrics=line.metrics,
                is_kept=lambda: place.objects.exists(job.principal, stored.sha256),
            )

        unneeded = self._persist(write)
        line.path.unlink()
        try:
            reclaim(place.database, place.objects, job.principal, unneeded)
        except StorageUnavailable as error:  # they stay: bytes that nobody needs
            _log.warning("checkpoints_not_reclaimed", hashes=unneeded, error=repr(error.__cause__))

    def _publish_dataset(self, line: DatasetMade) -> str:
        place, job = self._place, self._job

        def write() -> str:
            stored = place.datasets.stage(job.principal, line.pack)
            with place.database.begin() as session:
                published = place.datasets.publish(
                    job.principal,
                    name=line.name,
                    task=line.task,
                    pack=stored,
                    source=line.source,
                    report=line.report,
                    job_id=job.id,
                    session=session,
                )
                place.store.check(session, job.id, job.token)
            return str(published)

        return self._persist(write)

    # -- its end -------------------------------------------------------------------------------------

    def _conclude(self, child: ChildProcess) -> None:
        """Attend the child to its end, and write the end down."""
        try:
            last = self._attend(child)
        except Cancelled:
            child.end()
            self._end(JobStatus.CANCELLED)
        except OutOfTime:
            child.end(within_s=0)
            self._end(JobStatus.FAILED, error=self._out_of_time())
        except Overdue:
            child.end(within_s=0)
            self._give_back()
        except DiskFull as error:
            child.end(within_s=0)
            self._stop_for(error)
        except AppError as error:
            child.end(within_s=0)
            self._end(JobStatus.FAILED, error=JobError.of(error))
        else:
            code = child.end()
            if isinstance(last, Done):
                self._publish(last)
            elif isinstance(last, Failed):
                self._fail(last)
            elif self._leave_by_s is not None:  # it left, or died on its way
                self._give_back()
            else:
                self._lose(_cause(code, last))

    def _give_back(self) -> None:
        """The attempt is over through no fault of the job's."""
        job, ran_s = self._job, self._heartbeat.ran_s
        after = self._persist(
            lambda: self._place.store.give_back(job.id, job.token, reason="its worker stopped", ran_s=ran_s)
        )
        _log.info("job_given_back", status=after.value)

    def _lose(self, reason: str, error: JobError | None = None) -> None:
        """The run is lost: another try, or none left."""
        job, ran_s = self._job, self._heartbeat.ran_s
        queued = self._persist(
            lambda: self._place.store.lose(job.id, job.token, reason=reason, error=error, ran_s=ran_s)
        )
        _log.warning("job_run_lost", reason=reason, retried=queued)

    def _fail(self, last: Failed) -> None:
        error = JobError(code=last.code, message=last.message, hint=last.hint)
        if last.code == DiskFull.code:
            self._stop_for(error)
        elif last.may_pass:
            time.sleep(AWAY_S)
            self._lose(f"its run failed ({last.message})", error)
        else:
            self._end(JobStatus.FAILED, error=error)

    def _stop_for(self, error: DiskFull | JobError) -> None:
        """The disk has no room. What a job has reached is not thrown away for that: it is paused. One that
        has reached nothing fails."""
        reached = self._persist(lambda: self._place.records.checkpoints(self._job.id))
        status = JobStatus.PAUSED if reached else JobStatus.FAILED
        self._end(status, error=error if isinstance(error, JobError) else JobError.of(error))

    def _out_of_time(self) -> JobError:
        message = f"It ran {self._heartbeat.ran_s:.0f} s, and was given {self._job.time_limit_s:g} s."
        hint = "Run it again with a longer time_limit_s: POST /v1/jobs/{id}/rerun."
        return JobError(code=FailureCode.TIME_LIMIT, message=message, hint=hint)

    def _publish(self, done: Done) -> None:
        """Publish and finish, both or neither."""
        try:
            version = self._persist(lambda: commit(self._place, self._job, done, ran_s=self._heartbeat.ran_s))
        except Cancelled:
            self._end(JobStatus.CANCELLED)
        except AppError as error:
            self._end(JobStatus.FAILED, error=JobError.of(error))
        else:
            _log.info("job_ended", status=JobStatus.SUCCEEDED.value, version=version)

    def _end(self, status: JobStatus, *, error: JobError | None = None) -> None:
        job, ran_s = self._job, self._heartbeat.ran_s

        def write() -> None:
            with self._place.database.begin() as session:
                self._place.store.finish(session, job.id, job.token, status, error=error, ran_s=ran_s)

        try:
            self._persist(write)
        except Cancelled:
            self._end(JobStatus.CANCELLED)
        else:
            _log.info("job_ended", status=status.value, error=error.to_dict() if error else None)

    def _persist(self, write: Callable[[], Returned]) -> Returned:
        """Do what must not be lost, again and again while database or objects are away.

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


def _cause(code: int, last: Line | None) -> str:
    """Why a child ended that neither succeeded nor failed."""
    if last is not None:
        return "the child process left off without being asked to"
    ended = f"was killed by signal {-code}" if code < 0 else f"left with exit code {code}"
    return f"the child process {ended}"
