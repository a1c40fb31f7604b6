"""The worker process: `python -m workers`."""

import argparse
import os
import socket
import sys

from app.db import migrate
from app.db.session import Database
from app.errors import StorageUnavailable
from app.jobs.service import JobService
from app.jobs.starters import ask_for_starters
from app.observability.logs import configure_logs, get_logger
from app.queue import Doorbell
from app.settings import Settings
from app.supervisor.lifeline import die_with
from workers.celery_app import make_worker
from workers.ending import drop_spent
from workers.job_task import JobRunner
from workers.kinds import KINDS
from workers.reaper import Reaper
from workers.workplace import Workplace


def main() -> int:
    """Answer the doorbell until a signal comes."""
    parser = argparse.ArgumentParser(prog="athanor worker", description="Run queued jobs.")
    parser.add_argument("--parent", type=int, help="process id to die with")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        die_with(arguments.parent)
    settings = Settings()
    configure_logs(settings)
    log = get_logger("workers")
    try:
        if migrate.is_current(settings.sqlalchemy_url):
            run(settings)
            return 0
        log.error("database_not_migrated", hint="Run `athanor migrate` first.")
    except StorageUnavailable as error:
        log.error("no_start", message=error.message, cause=repr(error.__cause__))
    return 1


def run(settings: Settings) -> None:
    """Build the parts, ask for the starters, work."""
    name = f"worker-{os.getpid()}@{socket.gethostname()}"
    database = Database(settings.sqlalchemy_url)
    place = Workplace.of(settings, database, kinds=KINDS, holder=name)
    doorbell = Doorbell(settings)
    runner = JobRunner(place)
    worker = make_worker(settings, runner, name=name)
    ask_for_starters(settings, JobService(database, doorbell.ring), place.registry)
    reaper = Reaper(
        place.store, doorbell.ring, is_idle=lambda: not runner.is_busy, tidy=lambda: drop_spent(place)
    )
    reaper.start()
    get_logger("workers").info("worker_ready", name=name)
    try:
        worker.start()
    finally:
        reaper.stop()
        place.nursery.end()
        doorbell.close()
        database.close()


if __name__ == "__main__":
    sys.exit(main())
