"""Worker processes that are killed and replaced, and what their jobs must have come to all the same."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

from app.access.principal import SYSTEM
from app.db.session import Database
from app.jobs.service import JobService
from app.jobs.states import JobStatus
from app.queue import Doorbell
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore

REPOSITORY = Path(__file__).parents[2]
REPLACED_WITHIN_S = 0.25
_STEP = re.compile(r"^step (\d+) of attempt \d+$", re.MULTILINE)


class Workshop:
    """`count` workers on one database and broker; whoever dies is replaced, as the supervisor would."""

    def __init__(self, folder, *, lease_s=2.0, heartbeat_s=0.4, **settings):
        self.settings = Settings(
            _env_file=None, starters="", lease_s=lease_s, heartbeat_s=heartbeat_s, **settings
        )
        self.log = folder / "workers.log"
        changed = self.settings.model_dump(mode="json", exclude_defaults=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(folder),
            "ATHANOR_STARTERS": "",
            **{f"ATHANOR_{name.upper()}": str(value) for name, value in changed.items()},
        }
        self.database = Database(self.settings.sqlalchemy_url)
        self.objects = ObjectStore.from_settings(self.settings)
        self.registry = Registry(self.database, self.objects)
        self.doorbell = Doorbell(self.settings)
        self.jobs = JobService(self.database, self.doorbell.ring)
        self.processes = []
        self._over = threading.Event()
        self._tender = None

    # -- workers -------------------------------------------------------------------------------------

    def open(self, count=1):
        """Start workers and keep that many alive."""
        self.processes = [self._start() for _ in range(count)]
        self._tender = threading.Thread(target=self._tend)
        self._tender.start()
        return self

    def _start(self):
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "workers"]
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def _tend(self):
        while not self._over.wait(REPLACED_WITHIN_S):
            for at, process in enumerate(self.processes):
                if process.poll() is not None:
                    self.processes[at] = self._start()

    def add_worker(self):
        """One more."""
        self.processes.append(self._start())

    def kill_worker(self, index=0):
        """As the kernel does when memory runs out. True: there always is one."""
        self.processes[index].kill()
        return True

    def kill_child(self, index=0):
        """The run alone; False when there is none now."""
        try:
            children = [
                child
                for child in psutil.Process(self.processes[index].pid).children()
                if "workers.child" in child.cmdline()
            ]
        except psutil.NoSuchProcess:
            return False
        for child in children:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:  # it ended meanwhile
                return False
        return bool(children)

    def close(self):
        """Nobody is left."""
        self._over.set()
        if self._tender is not None:
            self._tender.join()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.doorbell.close()
        self.database.close()

    # -- jobs ----------------------------------------------------------------------------------------

    def count(self, **spec):
        """Ask for a job of kind `count`; its id."""
        return self.jobs.create(SYSTEM, kind="count", spec=spec).id

    def get(self, job_id):
        return self.jobs.get(SYSTEM, job_id)

    def events(self, job_id, kind="state"):
        events = self.jobs.events(SYSTEM, job_id, limit=10_000)
        return [event for event in events if event.kind == kind]

    def states(self, job_id):
        return [event.data["to"] for event in self.events(job_id)]

    def log_of(self, job_id):
        path = self.settings.data_dir / "jobs" / job_id / "log.txt"
        return path.read_text() if path.exists() else ""

    def steps_taken(self, job_id):
        """How often each step was taken, over all attempts."""
        return Counter(int(step) for step in _STEP.findall(self.log_of(job_id)))

    # -- waiting -------------------------------------------------------------------------------------

    def wait(self, condition, timeout_s=60.0, every_s=0.02, what="it"):
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not happen; the workers' log:\n{self.log.read_text()}")
            time.sleep(every_s)

    def wait_logged(self, job_id, text):
        """Until the run says so in its log."""
        self.wait(lambda: f"{text}\n" in self.log_of(job_id), every_s=0.002, what=f"{text!r} of {job_id}")

    def wait_status(self, job_id, status=JobStatus.SUCCEEDED, timeout_s=60.0):
        self.wait(
            lambda: self.get(job_id).status in (status, JobStatus.FAILED),
            timeout_s=timeout_s,
            every_s=0.05,
            what=f"{status} of {job_id}",
        )
        job = self.get(job_id)
        assert job.status is status, job.error
        return job
