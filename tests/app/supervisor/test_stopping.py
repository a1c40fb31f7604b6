"""However `athanor serve` ends, nothing of it is left within ten seconds."""

import os
import pty
import re
import signal
import subprocess
import time

import pytest

from app.access.principal import SYSTEM
from app.jobs.states import JobStatus
from tests.app.supervisor.service_process import COMMAND


def start_nap(service):
    """A job that is well under way in a child process."""
    jobs = service.jobs()
    job = jobs.create(SYSTEM, kind="probe", spec={"steps": 1, "step_s": 600})
    service.wait(lambda: jobs.get(SYSTEM, job.id).phase == "napping", what="the nap")
    assert service.has("workers.child")
    return jobs, job.id


@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM"])
def test_asked_to_stop_it_gives_its_job_back_and_leaves_no_process(service, how):
    service.start().wait_ready()
    jobs, job_id = start_nap(service)
    started_s = time.monotonic()
    if how == "ctrl-c":
        os.killpg(service.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    else:
        service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(10) == 0
    assert service.processes() == {}
    assert time.monotonic() - started_s < 10
    job = jobs.get(SYSTEM, job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert not (service.data_dir / "serve.json").exists()


def test_stopped_while_it_starts_it_leaves_no_process(service):
    service.start()
    service.wait(lambda: service.has("app.gateway"), what="the gateway's start")
    time.sleep(0.2)
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(10)
    service.wait(lambda: service.processes() == {}, timeout_s=5, what="the end of all processes")


def test_killed_it_leaves_no_process_and_its_lock_is_free(service):
    service.start().wait_ready()
    start_nap(service)
    service.process.kill()
    service.process.wait()
    service.wait(lambda: service.processes() == {}, timeout_s=10, what="the end of all processes")
    service.start().wait_ready()


def test_a_process_that_will_not_stop_is_killed(service):
    service.start().wait_ready()
    os.kill(service.pid_of("workers"), signal.SIGSTOP)  # deaf to SIGTERM
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(10) == 0
    assert service.processes() == {}


def test_a_closed_terminal_ends_it(service):
    ours, theirs = pty.openpty()
    service.process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *COMMAND],
        cwd=service.data_dir.parent,
        env={**service.environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while b"ready" not in shown:
        shown += os.read(ours, 4096)
    text = re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|\]8;.*?\x1b\\)", "", shown.decode())
    assert "Athanor on http://127.0.0.1:" in text
    assert str(service.data_dir) in text
    os.close(ours)
    service.process.wait(10)
    service.wait(lambda: service.processes() == {}, timeout_s=5, what="the end of all processes")
