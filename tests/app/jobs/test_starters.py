import pytest

from app.access.principal import SYSTEM
from app.jobs.job import JobError
from app.jobs.service import JobService
from app.jobs.starters import ask_for_starters
from app.jobs.states import JobStatus
from app.jobs.store import JobStore
from app.registry.service import Registry
from app.storage.objects import ObjectStore
from tests.registry_world import publish


@pytest.fixture
def start(settings, database):
    """What a start of the service asks for: [(name, job id)]."""
    settings = settings.model_copy(update={"starters": "lite, upscaler"})
    registry = Registry(database, ObjectStore.from_settings(settings))

    def ask():
        jobs = ask_for_starters(settings, JobService(database, lambda _: None), registry)
        return [(job.spec["name"], job.id) for job in jobs]

    ask.registry = registry
    return ask


def end(database, job_id, status, **outcome):
    store = JobStore(database)
    claimed = store.claim(job_id, holder="w", lease_s=20)
    with database.begin() as session:
        store.finish(session, job_id, claimed.token, status, **outcome)


def test_a_first_start_asks_for_each_starter_once(start, database):
    asked = start()
    assert [name for name, _ in asked] == ["lite", "upscaler"]
    assert start() == []
    job = JobService(database, lambda _: None).get(SYSTEM, asked[0][1])
    assert (job.kind, job.spec) == ("import", {"source": "starter:lite", "name": "lite"})


def test_a_failed_or_cancelled_import_is_tried_anew_at_the_next_start(start, database):
    (_, failed), (_, cancelled) = start()
    end(database, failed, JobStatus.FAILED, error=JobError(code="import_refused", message="no network"))
    JobService(database, lambda _: None).cancel(SYSTEM, cancelled)
    assert [name for name, _ in start()] == ["lite", "upscaler"]
    assert start() == []


def test_a_model_that_is_there_is_not_imported(start, tmp_path):
    publish(start.registry, SYSTEM, tmp_path / "files", name="lite")
    assert [name for name, _ in start()] == ["upscaler"]


def test_a_starter_that_was_deleted_stays_deleted(start, database, tmp_path):
    (_, job_id), _ = start()
    publish(start.registry, SYSTEM, tmp_path / "files", name="lite", job_id=job_id)
    end(database, job_id, JobStatus.SUCCEEDED)
    start.registry.delete_model(SYSTEM, "lite")
    assert start() == []
