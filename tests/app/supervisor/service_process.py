"""A whole `athanor serve` as a person would start it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from app.db.session import Database
from app.jobs.service import JobService
from app.queue import Doorbell
from app.settings import Settings

REPOSITORY = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from app.cli import main; main()", "serve"]


class Service:
    """One `athanor serve` and everything it starts: found by the data dir in their environments."""

    def __init__(self, data_dir, **settings):
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.log = data_dir.parent / f"{data_dir.name}.log"
        given = {"DATA_DIR": data_dir, "PORT": 0, "STARTERS": "", "DEFAULT_CLASSIFIER": "", **settings}
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(data_dir.parent),
            **{f"ATHANOR_{name}": str(value) for name, value in given.items()},
        }
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                COMMAND,
                cwd=self.data_dir.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # its own terminal's foreground group, as it were
            )
        return self

    def try_to_start(self):
        """For starts that should be refused."""
        return subprocess.run(
            COMMAND,
            cwd=self.data_dir.parent,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    @property
    def url(self):
        return json.loads((self.data_dir / "serve.json").read_text())["url"]

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def answers(self, path="/health/ready"):
        try:
            return self.get(path)[0] == 200
        except (OSError, ValueError):
            return False

    def wait(self, condition, timeout_s=60.0, what="it"):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen; the log:\n{self.log.read_text()}"
            time.sleep(0.03)

    def wait_ready(self):
        self.wait(self.answers, what="ready")
        return self

    def processes(self):
        """{pid: command line} of everything alive that has this data dir in its environment."""
        mark = f"ATHANOR_DATA_DIR={self.data_dir}".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue  # it has just gone
        return {pid: command for pid, command in found.items() if command}  # zombies have none

    def pid_of(self, module):
        """The process that runs this module."""
        pids = [pid for pid, command in self.processes().items() if f"-m {module} " in f"{command} "]
        assert len(pids) == 1, f"{module}: {pids} of {self.processes()}"
        return pids[0]

    def has(self, module):
        return any(f"-m {module} " in f"{command} " for command in self.processes().values())

    def settings(self):
        return Settings(_env_file=None, data_dir=self.data_dir)

    def jobs(self):
        """The job service, as the gateway has it: rows in the same database, the same doorbell."""
        settings = self.settings()
        return JobService(Database(settings.sqlalchemy_url), Doorbell(settings).ring)

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(12)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
