"""What a running `athanor serve` survives. The tests share one service and leave it well."""

import json
import os
import shutil
import signal
import time
import urllib.request
from pathlib import Path

from app.access.principal import SYSTEM
from app.jobs.states import JobStatus
from tests.app.supervisor.service_process import Service


def finished(jobs, job_id):
    return jobs.get(SYSTEM, job_id).status.has_ended


def test_it_answers_and_says_where(running):
    announced = json.loads((running.data_dir / "serve.json").read_text())
    assert announced["pid"] == running.process.pid
    assert announced["url"].startswith("http://127.0.0.1:")
    assert running.get("/health/live") == (200, '{"status":"live"}')
    with urllib.request.urlopen(running.url + "/health/live") as response:
        assert "server" not in response.headers
        assert "date" not in response.headers


def test_no_idle_process_maps_torch(running):
    pids = running.processes()
    assert len(pids) == 3
    for pid in pids:
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()


def test_a_second_one_on_the_same_data_dir_is_refused_by_name(running):
    refused = running.try_to_start()
    assert refused.returncode == 1
    assert f"pid {running.process.pid}, {running.url}" in refused.stderr
    assert str(running.data_dir) in refused.stderr
    assert len(refused.stderr.splitlines()) == 2
    assert running.answers()


def test_a_taken_port_is_refused_naming_who_has_it(running, tmp_path):
    port = running.url.rpartition(":")[2]
    refused = Service(tmp_path / "other", PORT=port).try_to_start()
    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken by" in refused.stderr
    assert "ATHANOR_PORT" in refused.stderr


def test_a_job_runs_through_doorbell_worker_and_child(running):
    jobs = running.jobs()
    job = jobs.create(SYSTEM, kind="probe", spec={"steps": 2, "step_s": 0.01})
    running.wait(lambda: finished(jobs, job.id), what="the job's end")
    assert jobs.get(SYSTEM, job.id).status is JobStatus.SUCCEEDED
    assert json.loads(running.get(f"/v1/jobs/{job.id}")[1])["result"]["steps"] == 2


def delete(folder):
    """Whatever is written into it meanwhile."""
    for _ in range(50):
        try:
            shutil.rmtree(folder)
        except OSError:
            continue
        return
    raise AssertionError(f"{folder} cannot be deleted")


def test_a_job_is_done_though_the_brokers_folder_is_deleted(running):
    jobs = running.jobs()
    delete(running.data_dir / "broker")
    lost = jobs.create(SYSTEM, kind="probe", spec={"steps": 0})
    shutil.rmtree(running.data_dir / "broker", ignore_errors=True)  # and its message with it
    running.wait(lambda: finished(jobs, lost.id), what="the unheard job's end")
    job = jobs.create(SYSTEM, kind="probe", spec={"steps": 0})
    running.wait(lambda: finished(jobs, job.id), what="the job's end")
    assert jobs.get(SYSTEM, job.id).status is JobStatus.SUCCEEDED
    assert running.has("workers")


def test_a_killed_worker_is_started_again_and_does_the_next_job(running):
    jobs = running.jobs()
    old = running.pid_of("workers")
    os.kill(old, signal.SIGKILL)
    job = jobs.create(SYSTEM, kind="probe", spec={"steps": 0})
    running.wait(lambda: finished(jobs, job.id), what="the job's end")
    assert running.pid_of("workers") != old


def test_while_a_killed_gateway_is_replaced_clients_wait_and_none_is_refused(running):
    old = running.pid_of("app.gateway")
    os.kill(old, signal.SIGKILL)
    running.wait(lambda: not Path(f"/proc/{old}").exists(), what="the gateway's death")
    started = time.monotonic()
    assert running.get("/health/live")[0] == 200
    assert time.monotonic() - started > 0.2
    assert running.pid_of("app.gateway") != old
