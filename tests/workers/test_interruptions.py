"""Runs that are asked to leave off, and what the next attempt goes on from."""

import re
import time
from collections import Counter
from dataclasses import replace

import pytest

from app.access.principal import SYSTEM
from app.jobs.states import JobStatus
from app.storage.disk import Disk
from workers.job_task import JobRunner

STEPS = 12
COUNT = {"steps": STEPS, "step_s": 0.05, "checkpoint_every": 4}


def log_of(bench, job_id):
    path = bench.settings.data_dir / "jobs" / job_id / "log.txt"
    return path.read_text() if path.exists() else ""


def steps_taken(bench, job_id):
    return Counter(int(step) for step in re.findall(r"^step (\d+) of", log_of(bench, job_id), re.MULTILINE))


def wait_logged(bench, job_id, text, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while text not in log_of(bench, job_id):
        assert time.monotonic() < deadline, f"{job_id} did not say {text!r}"
        time.sleep(0.01)


def steps_of(bench, job_id):
    return [checkpoint.step for checkpoint in bench.jobs.checkpoints(SYSTEM, job_id)]


def interrupted(bench, text="step 5 of"):
    """A job whose worker stopped at this point."""
    job_id, thread = bench.start("count", **COUNT)
    wait_logged(bench, job_id, text)
    bench.runner.stop()
    thread.join(20)
    assert bench.get(job_id).status is JobStatus.QUEUED
    return job_id


def test_a_worker_that_stops_lets_its_run_checkpoint_and_the_next_repeats_no_step(bench):
    plain = bench.run("count", **COUNT)
    job_id = interrupted(bench)
    left_at = steps_of(bench, job_id)[0]
    assert left_at >= 5
    bench.make_runner("worker-2").answer(job_id)
    job = bench.get(job_id)
    assert (job.status, job.attempts) == (JobStatus.SUCCEEDED, 1)
    assert job.result == plain.result
    assert job.facts["resumed_from_step"] == left_at
    assert steps_taken(bench, job_id) == dict.fromkeys(range(1, STEPS + 1), 1)
    assert [m.step for m in bench.jobs.metrics(SYSTEM, job_id)] == list(range(1, STEPS + 1))
    assert bench.states(job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert "resumed_from_step" not in plain.facts


def test_a_running_job_is_paused_at_a_checkpoint_and_goes_on_from_it(bench):
    job_id, thread = bench.start("count", **COUNT)
    wait_logged(bench, job_id, "step 3 of")
    bench.jobs.pause(SYSTEM, job_id)
    thread.join(20)
    assert bench.get(job_id).status is JobStatus.PAUSED
    assert bench.runner.answer(job_id) == 0
    bench.jobs.resume(SYSTEM, job_id)
    bench.runner.answer(job_id)
    job = bench.get(job_id)
    assert (job.status, job.attempts) == (JobStatus.SUCCEEDED, 1)
    assert job.facts["resumed_from_step"] >= 3
    assert steps_taken(bench, job_id) == dict.fromkeys(range(1, STEPS + 1), 1)
    assert bench.states(job_id)[2:4] == ["paused", "queued"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(bench):
    job_id = interrupted(bench, "step 9 of")
    newest, before, *_ = bench.jobs.checkpoints(SYSTEM, job_id)
    path = bench.objects.fetch(SYSTEM, newest.sha256)
    path.write_bytes(b"rust")
    bench.make_runner("worker-2").answer(job_id)
    job = bench.get(job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert job.facts["resumed_from_step"] == before.step


def test_objects_of_checkpoints_that_are_not_needed_are_deleted(bench):
    job = bench.run("count", steps=10, step_s=0, checkpoint_every=1)
    assert steps_of(bench, job.id) == [10, 9, 8]
    objects = [path for path in (bench.settings.data_dir / "objects").rglob("*") if path.is_file()]
    assert len(objects) == 3


def test_a_run_that_leaves_off_unasked_is_tried_again_and_given_up(bench):
    job = bench.run("leave_unasked")
    assert (job.status, job.attempts) == (JobStatus.FAILED, 3)
    assert "left off without being asked to" in job.error["message"]


def test_a_job_ends_when_its_time_is_up_and_says_so(bench):
    job = bench.jobs.create(SYSTEM, kind="count", spec={"steps": 1000, "step_s": 0.05}, time_limit_s=1.5)
    bench.runner.answer(job.id)
    job = bench.get(job.id)
    assert (job.status, job.error["code"]) == (JobStatus.FAILED, "time_limit")
    assert "was given 1.5 s" in job.error["message"]
    assert 1.5 <= job.ran_s < 10


def test_the_time_of_earlier_attempts_counts(bench):
    job_id = interrupted(bench)
    ran_s = bench.get(job_id).ran_s
    assert ran_s > 5 * COUNT["step_s"]
    bench.make_runner("worker-2").answer(job_id)
    assert bench.get(job_id).ran_s > ran_s


def with_little_room(bench):
    return JobRunner(replace(bench.place, disk=Disk(bench.settings.data_dir, min_free_bytes=2**60)))


def test_without_room_a_new_job_fails_and_one_that_has_a_checkpoint_is_paused(bench):
    fresh = bench.jobs.create(SYSTEM, kind="count", spec=COUNT)
    with_little_room(bench).answer(fresh.id)
    assert bench.get(fresh.id).status is JobStatus.FAILED
    assert bench.get(fresh.id).error["code"] == "disk_full"
    job_id = interrupted(bench)
    with_little_room(bench).answer(job_id)
    paused = bench.get(job_id)
    assert (paused.status, paused.error["code"]) == (JobStatus.PAUSED, "disk_full")
    bench.jobs.resume(SYSTEM, job_id)
    bench.make_runner("worker-2").answer(job_id)
    assert bench.get(job_id).status is JobStatus.SUCCEEDED


def test_a_run_that_meets_an_outage_is_tried_again_and_given_up_with_its_own_error(bench, monkeypatch):
    monkeypatch.setattr("workers.attempt.AWAY_S", 0.0)
    job = bench.run("meet_outage", attempts=2)
    assert (job.status, job.attempts) == (JobStatus.SUCCEEDED, 3)
    job = bench.run("meet_outage", attempts=3)
    assert (job.status, job.attempts, job.error["code"]) == (JobStatus.FAILED, 3, "storage_unavailable")
    assert "The database cannot answer now" in job.error["message"]


def test_damage_is_not_tried_again(bench):
    job = bench.run("meet_outage", is_damage=True)
    assert (job.status, job.attempts, job.error["code"]) == (JobStatus.FAILED, 1, "storage_unavailable")


def test_a_kind_that_meets_a_full_disk_fails_as_such(bench):
    assert bench.run("fill_disk").error["code"] == "disk_full"


def test_what_a_killed_worker_left_in_the_jobs_folder_is_cleared(bench):
    job = bench.jobs.create(SYSTEM, kind="count", spec={"steps": 1})
    left = bench.settings.data_dir / "jobs" / job.id / "run-0"
    left.mkdir(parents=True)
    (left / "checkpoint-1.part").write_text("half")
    bench.runner.answer(job.id)
    assert bench.get(job.id).status is JobStatus.SUCCEEDED
    assert sorted(path.name for path in left.parent.iterdir()) == ["log.txt"]


def test_a_run_says_when_it_will_be_done(bench):
    job_id, thread = bench.start("count", steps=80, step_s=0.05)
    deadline = time.monotonic() + 60
    while "estimated_finish" not in (facts := bench.get(job_id).facts):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    thread.join()
    finished_at = bench.get(job_id).finished_at
    assert bench.get(job_id).started_at < facts["estimated_finish"] < finished_at + 30


def test_a_run_publishes_a_data_set_once_however_often_it_asks(bench):
    job = bench.run("publish_dataset", name="digits", task="classification")
    assert job.result == {"datasets": ["digits:1", "digits:1"]}
    version = bench.place.datasets.get_version(SYSTEM, "digits:1")
    assert bench.objects.read(SYSTEM, version.sha256) == b"pixels"


def test_a_data_set_that_is_refused_is_the_jobs_error(bench):
    job = bench.run("publish_dataset", name="No Name", task="classification")
    assert (job.status, job.error["code"]) == (JobStatus.FAILED, "invalid_request")


@pytest.mark.parametrize("act", ["pause", "stop"])
def test_a_kind_that_does_not_listen_is_killed_and_its_job_not_blamed(bench, tmp_path, monkeypatch, act):
    monkeypatch.setattr("workers.attempt.PAUSE_WITHIN_S", 0.5)
    monkeypatch.setattr("workers.attempt.STOP_WITHIN_S", 0.5)
    job_id, thread = bench.start("nap", seconds=600, started=str(tmp_path / "pid"))
    while not (tmp_path / "pid").exists():
        time.sleep(0.02)
    if act == "pause":
        bench.jobs.pause(SYSTEM, job_id)
    else:
        bench.runner.stop()
    thread.join(20)
    expected = JobStatus.PAUSED if act == "pause" else JobStatus.QUEUED
    assert (bench.get(job_id).status, bench.get(job_id).attempts) == (expected, 0)
