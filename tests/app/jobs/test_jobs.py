"""The job tables through their two doors, on SQLite and PostgreSQL alike."""

import threading
import time

import pytest

from app.access.principal import SYSTEM, Principal
from app.errors import Conflict, JobNotCancellable, NotFound
from app.jobs.job import Asked, JobError, Note
from app.jobs.records import RunRecords
from app.jobs.service import JobService
from app.jobs.states import JobStatus
from app.jobs.store import Cancelled, JobStore, LeaseLost

SPEC = {"source": "starter:x"}


@pytest.fixture
def rung():
    return []


@pytest.fixture
def jobs(database, rung):
    return JobService(database, rung.append)


@pytest.fixture
def store(database):
    return JobStore(database)


def moves(jobs, job_id):
    return [event.data["to"] for event in jobs.events(SYSTEM, job_id) if event.kind == "state"]


def finish(database, store, claimed, status=JobStatus.SUCCEEDED, **outcome):
    with database.begin() as session:
        store.finish(session, claimed.id, claimed.token, status, **outcome)


def test_a_new_job_is_queued_and_rung_for_after_its_commit(jobs, rung):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    assert rung == [job.id]
    assert jobs.get(SYSTEM, job.id) == job
    assert (job.status, job.spec, job.attempts) == (JobStatus.QUEUED, SPEC, 0)
    assert abs(job.created_at - time.time()) < 5
    assert moves(jobs, job.id) == ["queued"]


def test_a_job_runs_and_succeeds_with_an_event_per_move(database, jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    claimed = store.claim(job.id, holder="w1", lease_s=20)
    assert (claimed.kind, claimed.spec, claimed.attempt) == ("import", SPEC, 1)
    records = RunRecords(database)
    records.write(job.id, claimed.token, Note(progress=0.5, phase="fetching"))
    records.write(job.id, claimed.token, Note(progress=0.6, phase="fetching", messages=("halfway",)))
    assert (jobs.get(SYSTEM, job.id).progress, jobs.get(SYSTEM, job.id).phase) == (0.6, "fetching")
    finish(database, store, claimed, result={"model": "x:1"})
    done = jobs.get(SYSTEM, job.id)
    assert (done.status, done.result, done.progress) == (JobStatus.SUCCEEDED, {"model": "x:1"}, 1.0)
    assert done.created_at <= done.started_at <= done.finished_at
    assert moves(jobs, job.id) == ["queued", "running", "succeeded"]
    told = [(e.kind, e.message) for e in jobs.events(SYSTEM, job.id) if e.kind != "state"]
    assert told == [("progress", "fetching"), ("message", "halfway")]


def test_of_many_claimers_exactly_one_wins(database, jobs):
    job_ids = [jobs.create(SYSTEM, kind="import", spec=SPEC).id for _ in range(4)]
    won = []

    def claim_all(holder):
        store = JobStore(database)
        won.extend(store.claim(job_id, holder=holder, lease_s=20) for job_id in job_ids)

    threads = [threading.Thread(target=claim_all, args=(f"w{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 24
    assert sorted(claimed.id for claimed in won if claimed) == sorted(job_ids)


def test_many_takers_of_the_next_job_get_each_job_once(database, jobs):
    job_ids = [jobs.create(SYSTEM, kind="import", spec=SPEC).id for _ in range(12)]
    taken = []

    def take():
        store = JobStore(database)
        misses = 0
        while misses < 3:  # on PostgreSQL two may look at the same row, and one of them then gets none
            claimed = store.claim_next(holder="w", lease_s=20)
            misses = 0 if claimed else misses + 1
            taken.extend([claimed.id] if claimed else [])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(job_ids)


def test_the_next_job_is_the_one_that_waited_longest(jobs, store):
    first, second = (jobs.create(SYSTEM, kind="import", spec=SPEC).id for _ in range(2))
    assert store.claim_next(holder="w", lease_s=20).id == first
    assert store.claim_next(holder="w", lease_s=20).id == second
    assert store.claim_next(holder="w", lease_s=20) is None


def test_an_expired_lease_is_taken_over_and_the_old_run_can_write_nothing(database, jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    old = store.claim(job.id, holder="w1", lease_s=0.05)
    time.sleep(0.1)
    assert store.requeue_stalled() == [job.id]
    assert store.requeue_stalled() == []
    new = store.claim(job.id, holder="w2", lease_s=20)
    assert new.token == old.token + 1
    for write in (
        lambda: store.heartbeat(job.id, old.token, lease_s=20),
        lambda: RunRecords(database).write(job.id, old.token, Note(progress=0.9)),
        lambda: store.give_back(job.id, old.token, reason="worker stopped"),
        lambda: store.lose(job.id, old.token, reason="killed"),
        lambda: finish(database, store, old),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert jobs.get(SYSTEM, job.id).progress == 0.0
    finish(database, store, new)
    assert moves(jobs, job.id) == ["queued", "running", "queued", "running", "succeeded"]


def test_what_a_lost_run_wrote_beside_its_end_is_rolled_back(database, jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    old = store.claim(job.id, holder="w1", lease_s=0)
    time.sleep(0.01)
    store.requeue_stalled()
    with pytest.raises(LeaseLost), database.begin() as session:
        other = jobs_row(session, job.id)
        other.spec = {"published": True}
        session.flush()
        store.finish(session, job.id, old.token, JobStatus.SUCCEEDED)
    assert jobs.get(SYSTEM, job.id).spec == SPEC


def jobs_row(session, job_id):
    from app.db.tables import JobRow

    return session.get(JobRow, job_id)


def test_a_heartbeat_keeps_the_lease(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    claimed = store.claim(job.id, holder="w1", lease_s=0.1)
    assert store.heartbeat(job.id, claimed.token, lease_s=30) is None
    time.sleep(0.15)
    assert store.requeue_stalled() == []


def test_a_job_that_loses_every_run_fails_with_the_reason(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    for attempt in (1, 2, 3):
        claimed = store.claim(job.id, holder="w1", lease_s=20)
        assert claimed.attempt == attempt
        assert store.lose(job.id, claimed.token, reason="the child was killed by signal 9") is (attempt < 3)
    failed = jobs.get(SYSTEM, job.id)
    assert failed.status is JobStatus.FAILED
    assert failed.error["code"] == "child_died"
    assert failed.error["message"] == "Given up after 3 attempts: the child was killed by signal 9."


def test_a_job_whose_workers_all_fall_silent_fails(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    for _ in range(3):
        store.claim(job.id, holder="w1", lease_s=0)
        time.sleep(0.01)
        store.requeue_stalled()
    assert jobs.get(SYSTEM, job.id).error["code"] == "worker_lost"


def test_a_job_given_back_waits_again_and_the_attempt_does_not_count(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    for _ in range(5):
        claimed = store.claim(job.id, holder="w1", lease_s=20)
        store.give_back(job.id, claimed.token, reason="worker stopped")
    assert jobs.get(SYSTEM, job.id).status is JobStatus.QUEUED
    assert store.claim(job.id, holder="w1", lease_s=20).attempt == 1


def test_cancelling_a_queued_job_ends_it_at_once(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    assert jobs.cancel(SYSTEM, job.id).status is JobStatus.CANCELLED
    assert store.claim(job.id, holder="w1", lease_s=20) is None
    assert jobs.cancel(SYSTEM, job.id).status is JobStatus.CANCELLED


def test_cancelling_a_running_job_leaves_word_for_its_worker(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    claimed = store.claim(job.id, holder="w1", lease_s=20)
    for _ in range(2):
        cancelled = jobs.cancel(SYSTEM, job.id)
        assert (cancelled.status, cancelled.cancel_requested) == (JobStatus.RUNNING, True)
    assert store.heartbeat(job.id, claimed.token, lease_s=20) is Asked.CANCEL
    words = [event for event in jobs.events(SYSTEM, job.id) if event.kind == "message"]
    assert [event.message for event in words] == ["cancellation asked for"]


def test_a_cancelled_job_whose_worker_dies_does_not_run_again(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    store.claim(job.id, holder="w1", lease_s=0)
    jobs.cancel(SYSTEM, job.id)
    time.sleep(0.01)
    assert store.requeue_stalled() == []
    assert jobs.get(SYSTEM, job.id).status is JobStatus.CANCELLED


def test_what_was_cancelled_does_not_succeed_but_may_fail(database, jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    claimed = store.claim(job.id, holder="w1", lease_s=20)
    jobs.cancel(SYSTEM, job.id)
    assert store.asked(job.id, claimed.token) is Asked.CANCEL
    for status in (JobStatus.SUCCEEDED, JobStatus.PAUSED):
        with pytest.raises(Cancelled):
            finish(database, store, claimed, status)
    with pytest.raises(Cancelled), database.begin() as session:
        store.check(session, job.id, claimed.token)
    assert jobs.get(SYSTEM, job.id).status is JobStatus.RUNNING
    finish(database, store, claimed, JobStatus.FAILED, error=JobError(code="import_refused", message="no"))
    assert jobs.get(SYSTEM, job.id).status is JobStatus.FAILED


def test_a_cancelled_job_that_its_worker_gives_back_is_not_queued_again(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    claimed = store.claim(job.id, holder="w1", lease_s=20)
    jobs.pause(SYSTEM, job.id)
    jobs.cancel(SYSTEM, job.id)
    assert store.give_back(job.id, claimed.token, reason="its worker stopped") is JobStatus.CANCELLED
    with pytest.raises(LeaseLost):
        store.asked(job.id, claimed.token)


def test_an_ended_job_cannot_be_cancelled(database, jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    claimed = store.claim(job.id, holder="w1", lease_s=20)
    finish(database, store, claimed, JobStatus.FAILED, error=JobError(code="import_refused", message="no"))
    with pytest.raises(JobNotCancellable, match="already failed"):
        jobs.cancel(SYSTEM, job.id)


def test_the_same_key_and_spec_is_the_same_job_and_rings_once(jobs, rung):
    first = jobs.create(SYSTEM, kind="import", spec=SPEC, idempotency_key="k")
    again = jobs.create(SYSTEM, kind="import", spec=dict(SPEC), idempotency_key="k")
    assert again.id == first.id
    assert rung == [first.id]
    with pytest.raises(Conflict, match=first.id):
        jobs.create(SYSTEM, kind="import", spec={"source": "starter:y"}, idempotency_key="k")
    other = jobs.create(Principal(tenant_id="b"), kind="import", spec=SPEC, idempotency_key="k")
    assert other.id != first.id


def test_posts_with_one_key_at_the_same_moment_make_one_job(jobs):
    made = []
    start = threading.Barrier(6)

    def post():
        start.wait()
        made.append(jobs.create(SYSTEM, kind="import", spec=SPEC, idempotency_key="k").id)

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert len(set(made)) == 1


def test_a_key_may_be_used_anew_after_a_day(database, jobs):
    first = jobs.create(SYSTEM, kind="import", spec=SPEC, idempotency_key="k")
    with database.begin() as session:
        jobs_row(session, first.id).created_at -= 24 * 3600 + 1
    second = jobs.create(SYSTEM, kind="import", spec={"source": "starter:y"}, idempotency_key="k")
    assert second.id != first.id


def test_another_tenant_sees_nothing(jobs):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    stranger = Principal(tenant_id="b")
    assert jobs.list(stranger) == []
    for look in (jobs.get, jobs.events, jobs.cancel):
        with pytest.raises(NotFound):
            look(stranger, job.id)
    assert jobs.get(SYSTEM, job.id).status is JobStatus.QUEUED


def test_lists_are_newest_first_and_can_be_paged_and_filtered(jobs, store):
    made = []
    for _ in range(5):
        made.append(jobs.create(SYSTEM, kind="import", spec=SPEC).id)
        time.sleep(0.002)  # ids made in one millisecond sort at random
    store.claim(made[0], holder="w", lease_s=20)
    page = jobs.list(SYSTEM, limit=2)
    assert [job.id for job in page] == [made[4], made[3]]
    assert [job.id for job in jobs.list(SYSTEM, after=page[-1].id)] == [made[2], made[1], made[0]]
    assert [job.id for job in jobs.list(SYSTEM, status=JobStatus.RUNNING)] == [made[0]]
    assert jobs.list(SYSTEM, kind="export") == []
    events = jobs.events(SYSTEM, made[0])
    assert jobs.events(SYSTEM, made[0], after=events[0].id) == events[1:]


def test_only_jobs_that_have_waited_unheard_are_rung_for_again_and_by_one_worker(jobs, store):
    job = jobs.create(SYSTEM, kind="import", spec=SPEC)
    assert store.queued_unrung(older_than_s=30) == []
    time.sleep(0.06)
    assert store.queued_unrung(older_than_s=0.05) == [job.id]
    assert store.queued_unrung(older_than_s=0.05) == []
