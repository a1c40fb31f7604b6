"""Whole worker processes, as `athanor worker` and the supervisor start them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from app.access.principal import SYSTEM
from app.db.session import Database
from app.jobs.service import JobService
from app.jobs.states import JobStatus
from app.queue import RUN_JOB, Doorbell, make_celery
from app.settings import Settings
from workers.reaper import UNHEARD_AFTER_S

REPOSITORY = Path(__file__).parents[2]


class Workers:
    """Worker processes on one database and broker."""

    def __init__(self, settings, folder):
        self.settings = settings
        self.log = folder / "workers.log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "ATHANOR_DATA_DIR": str(settings.data_dir),
            "ATHANOR_DATABASE_URL": settings.database_url,
            "ATHANOR_BROKER_URL": settings.broker_url,
            "ATHANOR_STARTERS": settings.starters,
            "ATHANOR_LEASE_S": str(settings.lease_s),
            "ATHANOR_HEARTBEAT_S": str(settings.heartbeat_s),
        }
        self.database = Database(settings.sqlalchemy_url)
        self.doorbell = Doorbell(settings)
        self.jobs = JobService(self.database, self.doorbell.ring)
        self.processes = []

    def start(self):
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "workers"]
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def nap(self, seconds=0.0):
        return self.jobs.create(SYSTEM, kind="probe", spec={"steps": 1, "step_s": seconds}).id

    def get(self, job_id):
        return self.jobs.get(SYSTEM, job_id)

    def wait(self, condition, timeout_s=60.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"it did not happen; the log:\n{self.log.read_text()}"
            time.sleep(0.03)

    def wait_succeeded(self, job_id):
        self.wait(lambda: self.get(job_id).status is JobStatus.SUCCEEDED)

    def states(self, job_id):
        return [event.data["to"] for event in self.jobs.events(SYSTEM, job_id) if event.kind == "state"]

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.doorbell.close()
        self.database.close()


@pytest.fixture
def make_workers(tmp_path, sqlite_url):
    made = []

    def make(**changes):
        given = {"data_dir": tmp_path / "data", "database_url": sqlite_url, "starters": "", **changes}
        made.append(Workers(Settings(_env_file=None, **given), tmp_path))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


def test_a_job_is_heard_of_at_once_and_told_twice_runs_once(make_workers):
    workers = make_workers()
    workers.start()
    first = workers.nap()
    workers.wait_succeeded(first)
    job_id = workers.nap(0.5)
    celery = make_celery(workers.settings)
    celery.send_task(RUN_JOB, args=[job_id])
    workers.wait(lambda: workers.get(job_id).phase == "napping")
    celery.send_task(RUN_JOB, args=[job_id])
    workers.wait_succeeded(job_id)
    last = workers.nap()
    workers.wait_succeeded(last)  # the worker has heard every message before this one
    assert workers.states(job_id) == ["queued", "running", "succeeded"]
    created, started, *_ = workers.jobs.events(SYSTEM, job_id)
    assert started.created_at - created.created_at < UNHEARD_AFTER_S  # by its message, not by the reaper
    celery.close()


def test_sigterm_gives_the_job_back_within_five_seconds_and_the_next_worker_takes_it(make_workers):
    workers = make_workers()
    stopped = workers.start()
    job_id = workers.nap(3)
    workers.wait(lambda: workers.get(job_id).phase == "napping")
    started_s = time.monotonic()
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(5) == 0
    assert time.monotonic() - started_s < 5
    assert workers.states(job_id)[:3] == ["queued", "running", "queued"]
    workers.start()
    workers.wait_succeeded(job_id)
    assert workers.get(job_id).attempts == 1


def test_an_idle_worker_has_imported_neither_torch_nor_a_kind_and_ends_on_a_signal(
    make_workers, sqlite_url, tmp_path
):
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    idle = []
    for number in numbers:  # each with a database of its own, or one might run all jobs
        copied = shutil.copy(sqlite_url.removeprefix("sqlite:///"), tmp_path / f"{number.name}.db")
        idle.append(make_workers(data_dir=tmp_path / number.name, database_url=f"sqlite:///{copied}"))
    processes = [workers.start() for workers in idle]
    for workers, process in zip(idle, processes, strict=True):
        workers.wait_succeeded(workers.nap())
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libtorch" not in maps
        assert "onnxruntime" not in maps
    for process, number in zip(processes, numbers, strict=True):
        process.send_signal(number)
    assert [process.wait(5) for process in processes] == [0, 0, 0]


def test_the_job_of_a_killed_worker_is_taken_up_by_another(make_workers):
    workers = make_workers(lease_s=1.0, heartbeat_s=0.3)
    killed = workers.start()
    job_id = workers.nap(4)
    workers.wait(lambda: workers.get(job_id).phase == "napping")
    children = psutil.Process(killed.pid).children()
    assert len(children) == 2  # the run and the nursery
    killed.kill()
    killed.wait()
    assert psutil.wait_procs(children, timeout=3)[1] == []  # their lifelines are cut
    workers.start()
    workers.wait_succeeded(job_id)
    assert workers.states(job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert workers.get(job_id).attempts == 2


def test_jobs_reach_workers_over_redis_and_survive_its_loss_of_every_message(make_workers, redis_url):
    workers = make_workers(broker_url=redis_url)
    lost = workers.nap()
    import redis

    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("athanor") == 1
        client.flushall()
    process = workers.start()
    workers.wait_succeeded(lost)
    workers.wait_succeeded(workers.nap())
    process.terminate()
    assert process.wait(5) == 0


def test_workers_on_postgresql_share_jobs_and_do_each_once(make_workers, postgres_url):
    workers = make_workers(database_url=postgres_url)
    workers.start()
    workers.start()
    job_ids = [workers.nap(0.3) for _ in range(6)]
    for job_id in job_ids:
        workers.wait_succeeded(job_id)
    assert [workers.states(job_id) for job_id in job_ids] == [["queued", "running", "succeeded"]] * 6


def test_a_run_outlives_broken_connections_to_the_database(make_workers, postgres_url, postgres):
    workers = make_workers(database_url=postgres_url, heartbeat_s=0.2)
    workers.start()
    job_id = workers.nap(2.0)
    workers.wait(lambda: workers.get(job_id).phase == "napping")
    name = postgres_url.rpartition("/")[2]
    for _ in range(5):
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        time.sleep(0.3)
    workers.wait_succeeded(job_id)
    assert workers.states(job_id) == ["queued", "running", "succeeded"]


def test_a_worker_on_a_database_without_tables_says_what_to_do(make_workers, tmp_path):
    workers = make_workers(database_url=f"sqlite:///{tmp_path / 'empty.db'}")
    assert workers.start().wait(20) == 1
    assert "athanor migrate" in workers.log.read_text()
