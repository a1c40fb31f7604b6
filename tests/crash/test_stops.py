"""The whole service stopped, a worker that freezes, a broker that is deleted: no step is lost or doubled."""

import os
import shutil
import signal
import time

import psutil
import pytest

from app.access.principal import SYSTEM
from app.errors import UnknownModel
from app.jobs.states import JobStatus
from tests.app.supervisor.service_process import Service

pytestmark = pytest.mark.slow

STEPS = 20


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path / "data")
    yield service
    service.end()


def log_of(service, job_id):
    path = service.data_dir / "jobs" / job_id / "log.txt"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM"])
def test_a_stopped_service_has_checkpointed_its_job_and_goes_on_when_it_is_started_again(service, how):
    service.start().wait_ready()
    jobs = service.jobs()
    spec = {"steps": STEPS, "step_s": 0.2, "checkpoint_every": 1000}
    job_id = jobs.create(SYSTEM, kind="count", spec=spec).id
    service.wait(lambda: "step 3 of" in log_of(service, job_id), what="the third step")
    started_s = time.monotonic()
    if how == "ctrl-c":
        os.killpg(service.process.pid, signal.SIGINT)
    else:
        service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(10) == 0
    assert time.monotonic() - started_s < 10
    assert service.processes() == {}
    assert jobs.get(SYSTEM, job_id).status is JobStatus.QUEUED
    [checkpoint] = jobs.checkpoints(SYSTEM, job_id)
    assert checkpoint.step >= 3
    service.start().wait_ready()
    service.wait(lambda: jobs.get(SYSTEM, job_id).status.has_ended, what="the job's end")
    job = jobs.get(SYSTEM, job_id)
    assert (job.status, job.attempts) == (JobStatus.SUCCEEDED, 1), job.error
    assert job.facts["resumed_from_step"] == checkpoint.step
    steps = [line for line in log_of(service, job_id).splitlines() if line.startswith("step ")]
    assert len(steps) == STEPS


def test_a_frozen_run_whose_lease_expired_can_write_nothing_when_it_thaws(make_workshop):
    workshop = make_workshop(lease_s=1.0, heartbeat_s=0.2)
    workshop.open(1)
    frozen = workshop.processes[0]
    job_id = workshop.count(steps=STEPS, step_s=0.2, checkpoint_every=5, publish="once")
    workshop.wait_logged(job_id, "step 7 of attempt 1")
    frozen_ones = [psutil.Process(frozen.pid), *psutil.Process(frozen.pid).children()]
    assert len(frozen_ones) == 3  # with its nursery and the run
    [run] = [process for process in frozen_ones if "workers.child" in process.cmdline()]
    for process in frozen_ones:
        process.suspend()
    workshop.add_worker()
    workshop.wait_logged(job_id, "step 8 of attempt 2")
    for process in frozen_ones:
        process.resume()
    job = workshop.wait_status(job_id)
    assert job.attempts == 2
    assert job.facts["resumed_from_step"] == 5
    assert workshop.states(job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert list(workshop.registry.get_model(SYSTEM, "once").versions) == [1]
    workshop.wait(lambda: not run.is_running(), what="the end of the child that lost its job")
    kept = [checkpoint.step for checkpoint in workshop.jobs.checkpoints(SYSTEM, job_id)]
    assert kept == [20, 15, 10]
    assert frozen.poll() is None, "the worker itself lives on"


def test_pause_and_resume_over_two_workers_repeat_no_step(make_workshop):
    workshop = make_workshop().open(2)
    job_id = workshop.count(steps=STEPS, step_s=0.05, checkpoint_every=1000, publish="paused")
    for marker in ("step 4 of", "step 9 of"):
        workshop.wait(lambda marker=marker: marker in workshop.log_of(job_id))
        workshop.jobs.pause(SYSTEM, job_id)
        workshop.wait(lambda: workshop.get(job_id).status is JobStatus.PAUSED)
        with pytest.raises(UnknownModel):
            workshop.registry.get_model(SYSTEM, "paused")
        workshop.jobs.resume(SYSTEM, job_id)
    workshop.wait_status(job_id)
    assert workshop.steps_taken(job_id) == dict.fromkeys(range(1, STEPS + 1), 1)


def test_jobs_survive_the_deletion_of_the_brokers_folder_and_messages_that_come_twice(make_workshop):
    workshop = make_workshop().open(2)
    job_ids = []
    for number in range(12):
        job_ids.append(workshop.count(steps=3, step_s=0.01, seed=number, publish="fire"))
        if number % 4 == 3:
            shutil.rmtree(workshop.settings.data_dir / "broker", ignore_errors=True)
        else:
            workshop.doorbell.ring(job_ids[-1])
    for job_id in job_ids:
        workshop.wait_status(job_id, timeout_s=120)
        assert workshop.states(job_id) == ["queued", "running", "succeeded"]
    assert list(workshop.registry.get_model(SYSTEM, "fire").versions) == list(range(1, 13))
