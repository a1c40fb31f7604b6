import time

import pytest

from app.access.principal import SYSTEM
from app.db.tables import JobRow
from app.jobs.service import JobService
from app.jobs.states import JobStatus
from app.jobs.store import JobStore
from workers.reaper import UNHEARD_AFTER_S, Reaper


@pytest.fixture
def queued(database):
    """A job that nobody has heard of for a while."""
    job = JobService(database, lambda _: None).create(SYSTEM, kind="probe", spec={})
    with database.begin() as session:
        session.get(JobRow, job.id).rung_at -= UNHEARD_AFTER_S + 1
    return job.id


def test_an_idle_workers_reaper_rings_again_for_a_job_that_nobody_heard_of(database, queued):
    rung = []
    reaper = Reaper(JobStore(database), rung.append, is_idle=lambda: True)
    reaper.look()
    reaper.look()
    assert rung == [queued]


def test_a_busy_worker_does_not_ring_for_what_it_will_take_up_itself(database, queued):
    rung = []
    Reaper(JobStore(database), rung.append, is_idle=lambda: False).look()
    assert rung == []


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_stalled_run_is_queued_and_rung_for_whether_or_not_the_worker_is_busy(database, is_idle):
    jobs, store, rung = JobService(database, lambda _: None), JobStore(database), []
    job = jobs.create(SYSTEM, kind="probe", spec={})
    store.claim(job.id, holder="gone", lease_s=0)
    time.sleep(0.01)
    Reaper(store, rung.append, is_idle=lambda: is_idle).look()
    assert rung == [job.id]
    assert jobs.get(SYSTEM, job.id).status is JobStatus.QUEUED


def test_it_tidies_at_its_first_look_and_then_seldom(database):
    tidied = []
    reaper = Reaper(JobStore(database), print, is_idle=lambda: True, tidy=lambda: tidied.append(1))
    reaper.look()
    reaper.look()
    assert tidied == [1]


def test_it_looks_again_and_again_until_it_is_stopped(database):
    jobs, rung = JobService(database, lambda _: None), []
    store = JobStore(database)
    reaper = Reaper(store, rung.append, is_idle=lambda: True, every_s=0.05)
    reaper.start()
    job = jobs.create(SYSTEM, kind="probe", spec={})
    store.claim(job.id, holder="gone", lease_s=0)
    deadline_s = time.monotonic() + 5
    while not rung and time.monotonic() < deadline_s:
        time.sleep(0.02)
    reaper.stop()
    assert rung == [job.id]
    store.claim(job.id, holder="gone", lease_s=0)
    time.sleep(0.2)
    assert rung == [job.id]
