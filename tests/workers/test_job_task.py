import threading
import time
from pathlib import Path

import pytest

from app.access.principal import SYSTEM
from app.db.tables import JobRow
from app.jobs.states import JobStatus
from workers import attempt, heartbeat


def wait_for(path, timeout_s=60):
    """The pid that a child wrote once it ran."""
    deadline = time.monotonic() + timeout_s
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"no child wrote {path}"
        time.sleep(0.02)
    return int(path.read_text())


def wait_until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_job_runs_in_a_nice_child_with_its_own_group_threads_and_folder(bench):
    job = bench.run("context_facts")
    assert job.status is JobStatus.SUCCEEDED, job.error
    facts = dict(job.result)
    work_dir = Path(facts.pop("work_dir"))
    assert facts == {
        "threads": "1",
        "nice": 10,
        "own_group": True,
        "tenant": "default",
        "data_dir": str(bench.settings.data_dir),
        "api_key": None,
    }
    assert work_dir.parent == bench.settings.data_dir / "jobs" / job.id
    assert not work_dir.exists()


def test_progress_and_messages_reach_the_row(bench, tmp_path):
    job_id, thread = bench.start("nap", seconds=1, started=str(tmp_path / "pid"))
    wait_for(tmp_path / "pid")
    wait_until(lambda: bench.get(job_id).phase == "napping")
    assert bench.get(job_id).progress == 0.25
    thread.join()
    assert bench.get(job_id).progress == 1.0


def test_every_message_of_a_chatty_job_is_kept_and_its_prints_go_to_its_log(bench):
    job = bench.run("chatter")
    assert job.status is JobStatus.SUCCEEDED, job.error
    said = [event.message for event in bench.jobs.events(SYSTEM, job.id) if event.kind == "message"]
    assert said == [f"step {step}" for step in range(50)]
    log = (bench.settings.data_dir / "jobs" / job.id / "log.txt").read_text()
    for words in ("print to stdout", "raw write to descriptor 1", "a program's stdout", "stderr"):
        assert words in log


def test_a_kinds_own_error_is_the_jobs_error(bench):
    job = bench.run("refuse")
    assert job.status is JobStatus.FAILED
    assert job.error == {"code": "import_refused", "message": "This is not a model.", "hint": "Send a model."}
    assert job.attempts == 1


def test_a_fault_fails_the_job_and_only_the_log_has_the_trace(bench):
    job = bench.run("fault")
    assert (job.status, job.error["code"]) == (JobStatus.FAILED, "internal")
    assert "ZeroDivisionError" in job.error["message"]
    assert "secret detail" not in str(job.error)
    assert "secret detail" in (bench.settings.data_dir / "jobs" / job.id / "log.txt").read_text()


def test_an_unknown_kind_fails_the_job(bench):
    job = bench.run("no-such-kind")
    assert job.status is JobStatus.FAILED
    assert "no-such-kind" in job.error["message"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("kill_self", "the child process was killed by signal 9"),
        ("segfault", "the child process was killed by signal 11"),
        ("leave", "the child process left with exit code 7"),
    ],
)
def test_a_job_that_kills_each_of_its_children_fails_after_three(bench, kind, words):
    job = bench.run(kind)
    assert (job.status, job.attempts) == (JobStatus.FAILED, 3)
    assert job.error["code"] == "child_died"
    assert words in job.error["message"]


def test_a_job_whose_child_was_killed_is_tried_again(bench, tmp_path):
    job = bench.run("kill_self_once", marker=str(tmp_path / "marker"))
    assert (job.status, job.result, job.attempts) == (JobStatus.SUCCEEDED, {"second": True}, 2)
    assert bench.states(job.id) == ["queued", "running", "queued", "running", "succeeded"]


def test_what_a_child_left_running_ends_with_it(bench, tmp_path, is_alive):
    job = bench.run("leave_process", seconds=0, started=str(tmp_path / "pid"))
    assert job.status is JobStatus.SUCCEEDED
    wait_until(lambda: not is_alive(job.result["pid"]))


@pytest.mark.parametrize("kind", ["nap", "deaf", "leave_process"])
def test_a_running_job_is_cancelled_and_its_processes_are_gone(bench, tmp_path, is_alive, kind):
    job_id, thread = bench.start(kind, seconds=600, started=str(tmp_path / "pid"))
    pid = wait_for(tmp_path / "pid")
    bench.jobs.cancel(SYSTEM, job_id)
    thread.join(8)
    assert not thread.is_alive()
    assert bench.get(job_id).status is JobStatus.CANCELLED
    wait_until(lambda: not is_alive(pid))


@pytest.mark.parametrize("listen_every_s", [0.1, 60])
def test_a_cancellation_is_heard_between_heartbeats_and_kept_by_a_run_that_was_quicker(
    bench, tmp_path, monkeypatch, listen_every_s
):
    monkeypatch.setattr(heartbeat, "LISTEN_EVERY_S", listen_every_s)
    bench.runner = bench.make_runner("worker-1", heartbeat_s=60)
    seconds = 600 if listen_every_s < 1 else 2
    job_id, thread = bench.start("nap", seconds=seconds, started=str(tmp_path / "pid"))
    wait_for(tmp_path / "pid")
    bench.jobs.cancel(SYSTEM, job_id)
    thread.join(12)
    assert not thread.is_alive()
    job = bench.get(job_id)
    assert (job.status, job.result) == (JobStatus.CANCELLED, None)


def test_a_stopping_worker_waits_a_while_then_gives_its_job_back_and_another_takes_it_up(
    bench, tmp_path, is_alive, monkeypatch
):
    monkeypatch.setattr(attempt, "STOP_WITHIN_S", 1.0)
    job_id, thread = bench.start("nap", seconds=600, started=str(tmp_path / "pid"))
    pid = wait_for(tmp_path / "pid")
    bench.runner.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert not is_alive(pid)
    job = bench.get(job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert bench.states(job_id) == ["queued", "running", "queued"]
    assert bench.runner.answer(job_id) == 0
    assert bench.store.claim(job_id, holder="worker-2", lease_s=20) is not None


def test_a_run_that_lost_its_lease_is_ended_and_writes_nothing(bench, tmp_path, is_alive):
    job_id, thread = bench.start("nap", seconds=600, started=str(tmp_path / "pid"))
    pid = wait_for(tmp_path / "pid")
    with bench.database.begin() as session:  # as another worker's claim does after the lease expired
        session.get(JobRow, job_id).lease_token += 1
    thread.join(8)
    assert not thread.is_alive()
    wait_until(lambda: not is_alive(pid))
    assert bench.states(job_id) == ["queued", "running"]
    assert bench.store.heartbeat(job_id, 2, lease_s=20) is None  # the new run goes on undisturbed


def test_two_rings_for_one_job_run_it_once(bench, tmp_path):
    job = bench.jobs.create(SYSTEM, kind="nap", spec={"seconds": 0.2, "started": str(tmp_path / "pid")})
    ran = []
    runners = [bench.runner, bench.make_runner("worker-2")]
    threads = [threading.Thread(target=lambda r=r: ran.append(r.answer(job.id))) for r in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == [0, 1]
    assert bench.states(job.id) == ["queued", "running", "succeeded"]
    assert bench.runner.answer(job.id) == 0


def test_a_ring_for_one_job_makes_the_worker_do_all_that_wait(bench):
    jobs = [bench.jobs.create(SYSTEM, kind="context_facts", spec={}) for _ in range(3)]
    assert bench.runner.answer(jobs[2].id) == 3
    assert {bench.get(job.id).status for job in jobs} == {JobStatus.SUCCEEDED}
