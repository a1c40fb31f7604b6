import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from app.access.principal import SYSTEM
from app.db.session import Database
from app.jobs.service import JobService
from app.settings import Settings
from tests.workers.misbehaving_kinds import KINDS
from workers.job_task import JobRunner
from workers.nursery import Nursery
from workers.workplace import Workplace

REPOSITORY = Path(__file__).parents[2]


class Bench:
    """A runner, its parts, and ways to look at what it does."""

    def __init__(self, settings, database, nursery):
        self.settings = settings
        self.database = database
        self.rung = []
        self.jobs = JobService(database, self.rung.append)
        place = Workplace.of(settings, database, kinds=KINDS, holder="worker-1")
        self.place = replace(place, nursery=nursery)
        self.store = self.place.store
        self.objects = self.place.objects
        self.registry = self.place.registry
        self.runner = JobRunner(self.place)

    def make_runner(self, holder, **settings):
        return JobRunner(
            replace(self.place, holder=holder, settings=self.settings.model_copy(update=settings))
        )

    def use(self, nursery):
        """Have further runs forked by another nursery than the one that benches share."""
        self.place = replace(self.place, nursery=nursery)
        self.runner = self.make_runner("worker-1")

    def run(self, kind, **spec):
        """Create a job, run it here, and give what became of it."""
        job = self.jobs.create(SYSTEM, kind=kind, spec=spec)
        self.runner.answer(job.id)
        return self.jobs.get(SYSTEM, job.id)

    def start(self, kind, **spec):
        """Create a job and run it in a thread."""
        job = self.jobs.create(SYSTEM, kind=kind, spec=spec)
        thread = threading.Thread(target=self.runner.answer, args=(job.id,))
        thread.start()
        return job.id, thread

    def get(self, job_id):
        return self.jobs.get(SYSTEM, job_id)

    def states(self, job_id):
        return [event.data["to"] for event in self.jobs.events(SYSTEM, job_id) if event.kind == "state"]


@pytest.fixture(scope="session")
def nursery():
    """One for all benches: each would import the same."""
    nursery = Nursery(threads=1)
    yield nursery
    nursery.end()


@pytest.fixture
def bench(tmp_path, sqlite_url, monkeypatch, nursery):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # the child has to find `tests`
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        _env_file=None, data_dir=tmp_path / "data", database_url=sqlite_url, heartbeat_s=0.1, cpu_threads=1
    )
    database = Database(sqlite_url)
    yield Bench(settings, database, nursery)
    database.close()


@pytest.fixture
def is_alive():
    def look(pid):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    return look
