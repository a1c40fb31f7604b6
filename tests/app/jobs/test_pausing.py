"""Pause, resume, run again, priorities and limits, on SQLite and PostgreSQL alike."""

import threading
import time

import pytest

from app.access.principal import SYSTEM, Principal
from app.errors import Conflict, DiskFull, InvalidRequest, QuotaExceeded
from app.jobs.job import Asked, JobError, Note
from app.jobs.records import RunRecords
from app.jobs.service import JobService, change_spec
from app.jobs.states import JobStatus
from app.jobs.store import JobStore
from app.storage.disk import Disk
from app.storage.objects import Stored

OTHER = Principal(tenant_id="b")


@pytest.fixture
def rung():
    return []


@pytest.fixture
def jobs(database, rung):
    return JobService(database, rung.append)


@pytest.fixture
def store(database):
    return JobStore(database)


def create(jobs, principal=SYSTEM, **options):
    return jobs.create(principal, kind="count", spec={"steps": 3}, **options).id


def moves(jobs, job_id):
    return [event.data["to"] for event in jobs.events(SYSTEM, job_id) if event.kind == "state"]


def test_a_job_that_waits_is_paused_at_once_and_nobody_takes_it_up(jobs, store, rung):
    job_id = create(jobs)
    assert jobs.pause(SYSTEM, job_id).status is JobStatus.PAUSED
    assert jobs.pause(SYSTEM, job_id).status is JobStatus.PAUSED
    assert store.claim(job_id, holder="w", lease_s=20) is None
    assert store.queued_unrung(older_than_s=0) == []
    assert jobs.resume(SYSTEM, job_id).status is JobStatus.QUEUED
    assert rung == [job_id, job_id]
    assert store.claim(job_id, holder="w", lease_s=20) is not None
    assert moves(jobs, job_id) == ["queued", "paused", "queued", "running"]


def test_a_running_job_is_paused_when_its_run_has_left_and_the_attempt_does_not_count(jobs, store):
    job_id = create(jobs)
    claimed = store.claim(job_id, holder="w", lease_s=20)
    asked = jobs.pause(SYSTEM, job_id)
    assert (asked.status, asked.pause_requested) == (JobStatus.RUNNING, True)
    assert store.heartbeat(job_id, claimed.token, lease_s=20, ran_s=3.0) is Asked.PAUSE
    assert store.give_back(job_id, claimed.token, reason="-", ran_s=4.5) is JobStatus.PAUSED
    paused = jobs.get(SYSTEM, job_id)
    assert (paused.status, paused.pause_requested, paused.attempts) == (JobStatus.PAUSED, False, 0)
    jobs.resume(SYSTEM, job_id)
    assert store.claim(job_id, holder="w", lease_s=20).ran_s == 4.5


def test_a_pause_taken_back_in_time_changes_nothing(jobs, store):
    job_id = create(jobs)
    claimed = store.claim(job_id, holder="w", lease_s=20)
    jobs.pause(SYSTEM, job_id)
    assert jobs.resume(SYSTEM, job_id).status is JobStatus.RUNNING
    assert store.heartbeat(job_id, claimed.token, lease_s=20) is None
    assert store.give_back(job_id, claimed.token, reason="-") is JobStatus.QUEUED


def test_cancelling_comes_before_pausing(jobs, store):
    job_id = create(jobs)
    claimed = store.claim(job_id, holder="w", lease_s=20)
    jobs.pause(SYSTEM, job_id)
    jobs.cancel(SYSTEM, job_id)
    assert store.heartbeat(job_id, claimed.token, lease_s=20) is Asked.CANCEL


def test_a_paused_job_can_be_cancelled_and_an_ended_one_neither_paused_nor_resumed(jobs):
    job_id = create(jobs)
    jobs.pause(SYSTEM, job_id)
    assert jobs.cancel(SYSTEM, job_id).status is JobStatus.CANCELLED
    for act in (jobs.pause, jobs.resume):
        with pytest.raises(Conflict, match="cancelled"):
            act(SYSTEM, job_id)


@pytest.mark.parametrize("how", ["lose", "requeue_stalled"])
def test_a_run_that_is_lost_while_it_should_pause_is_paused(jobs, store, how):
    job_id = create(jobs)
    claimed = store.claim(job_id, holder="w", lease_s=0)
    jobs.pause(SYSTEM, job_id)
    time.sleep(0.01)
    if how == "lose":
        assert store.lose(job_id, claimed.token, reason="killed") is False
    else:
        assert store.requeue_stalled() == []
    assert jobs.get(SYSTEM, job_id).status is JobStatus.PAUSED


def test_a_job_paused_for_want_of_disk_says_so_until_it_goes_on(database, jobs, store):
    job_id = create(jobs)
    claimed = store.claim(job_id, holder="w", lease_s=20)
    with database.begin() as session:
        error = JobError(code="disk_full", message="No room.")
        store.finish(session, job_id, claimed.token, JobStatus.PAUSED, error=error)
    assert jobs.get(SYSTEM, job_id).error["code"] == "disk_full"
    assert jobs.resume(SYSTEM, job_id).error is None


def test_only_attempts_in_a_row_without_a_new_checkpoint_are_limited(database, jobs, store):
    job_id = create(jobs)
    for step in range(1, 6):
        claimed = store.claim(job_id, holder="w", lease_s=20)
        stored = Stored(sha256=f"{step:064}", size_bytes=1)
        RunRecords(database).add_checkpoint(
            claimed, Note(), step=step, stored=stored, metrics={}, is_kept=lambda: True
        )
        assert store.lose(job_id, claimed.token, reason="killed") is True
    for is_left in (True, True, False):
        claimed = store.claim(job_id, holder="w", lease_s=20)
        assert store.lose(job_id, claimed.token, reason="killed") is is_left
    error = jobs.get(SYSTEM, job_id).error
    assert error["message"] == "Given up after 3 attempts without a new checkpoint: killed."


def test_jobs_are_taken_up_by_priority_then_by_age(jobs, store):
    low, first, second = create(jobs, priority=-1), create(jobs), create(jobs)
    high = create(jobs, priority=5)
    taken = [store.claim_next(holder="w", lease_s=20).id for _ in range(4)]
    assert taken == [high, first, second, low]


def test_of_one_tenant_no_more_jobs_run_than_may_and_others_are_not_held_up(database, jobs):
    store = JobStore(database, max_running_jobs=2)
    ours = [create(jobs) for _ in range(3)]
    theirs = create(jobs, principal=OTHER)
    taken = [store.claim_next(holder="w", lease_s=20) for _ in range(3)]
    assert [claimed.id for claimed in taken] == [*ours[:2], theirs]
    assert store.claim_next(holder="w", lease_s=20) is None
    assert store.claim(ours[2], holder="w", lease_s=20) is None
    store.give_back(ours[0], taken[0].token, reason="-")
    assert store.claim(ours[2], holder="w", lease_s=20) is not None


def test_claims_at_the_same_moment_do_not_pass_the_limit(database, jobs):
    for _ in range(8):
        create(jobs)
    won = []
    start = threading.Barrier(6)

    def claim():
        start.wait()
        won.append(JobStore(database, max_running_jobs=3).claim_next(holder="w", lease_s=20))

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 6
    assert len([claimed for claimed in won if claimed is not None]) <= 3


def test_no_more_jobs_wait_than_may_and_a_repeated_request_is_no_new_job(database, rung):
    jobs = JobService(database, rung.append, max_queued_jobs=2)
    create(jobs)
    known = create(jobs, idempotency_key="k")
    with pytest.raises(QuotaExceeded, match="2 jobs wait"):
        create(jobs)
    assert create(jobs, idempotency_key="k") == known
    create(jobs, principal=OTHER)
    jobs.cancel(SYSTEM, known)
    create(jobs)


def test_a_job_is_refused_while_there_is_little_room(database, rung, tmp_path):
    jobs = JobService(database, rung.append, disk=Disk(tmp_path / "not-there-yet", min_free_bytes=2**60))
    with pytest.raises(DiskFull, match="MiB free"):
        create(jobs)
    assert jobs.list(SYSTEM) == []
    create(JobService(database, rung.append, disk=Disk(tmp_path, min_free_bytes=1)))


def test_a_job_is_run_again_with_fields_changed_one_level_deep(jobs, rung):
    spec = {"train": {"a": 1, "adapter": {"method": "lora", "r": 8}}, "suffix": None, "files": ["x"]}
    first = jobs.create(SYSTEM, kind="fine_tune", spec=spec, priority=2, time_limit_s=9)
    changes = {"train": {"adapter": {"method": "full"}}, "suffix": "s"}
    second = jobs.rerun(SYSTEM, first.id, change_spec(first.spec, changes))
    assert second.spec == {"train": {"a": 1, "adapter": {"method": "full"}}, "suffix": "s", "files": ["x"]}
    assert (second.kind, second.rerun_of, second.priority) == ("fine_tune", first.id, 2)
    assert (second.time_limit_s, second.status) == (9, JobStatus.QUEUED)
    assert rung == [first.id, second.id]
    assert jobs.get(SYSTEM, first.id).spec == spec
    with pytest.raises(InvalidRequest, match="no 'sufix'"):
        change_spec(first.spec, {"sufix": "s"})
