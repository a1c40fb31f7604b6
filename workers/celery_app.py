"""The Celery worker around a JobRunner: one process, one job at a time, in the main thread.

SIGTERM, SIGINT, SIGHUP ──► runner.stop(): the child is told, its job goes back to the queue ──► exit 0
"""

import signal
import warnings
from types import FrameType

from celery import Celery, signals
from celery.apps.worker import Worker
from celery.platforms import SecurityWarning
from celery.worker import state

from app.errors import StorageUnavailable
from app.observability.logs import get_logger
from app.queue import RUN_JOB, make_celery
from app.settings import Settings
from workers.job_task import JobRunner


class JobWorker(Worker):  # type: ignore[misc] # Celery is untyped
    """Celery's worker with our way to stop: at once, however long the job would still take."""

    runner: JobRunner

    def install_platform_tweaks(self, worker: Worker) -> None:
        """Called by Celery in place of installing its own handlers."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        state.should_stop = 0
        self.runner.stop()


def make_worker(settings: Settings, runner: JobRunner, *, name: str) -> JobWorker:
    """A worker that answers the doorbell with this runner. `start()` blocks until a signal ends it."""
    # It warns of root, which is what containers run as; dangerous only where pickle is accepted.
    warnings.simplefilter("ignore", SecurityWarning)
    signals.setup_logging.connect(_keep_our_logging, weak=False)
    celery = make_celery(settings)
    _register(celery, runner)
    worker = JobWorker(
        app=celery,
        hostname=name,
        pool="solo",
        concurrency=1,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.runner = runner
    return worker


def _register(celery: Celery, runner: JobRunner) -> None:
    @celery.task(name=RUN_JOB, ignore_result=True)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        try:
            runner.answer(job_id)
        except StorageUnavailable as error:  # the row still waits, and the reaper will ring again
            get_logger("workers").warning("doorbell_unanswered", job_id=job_id, error=repr(error.__cause__))


def _keep_our_logging(**_: object) -> None:
    """A receiver of this signal keeps Celery from setting up logging."""
