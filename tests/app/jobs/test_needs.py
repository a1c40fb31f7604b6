"""Nothing goes that a job waits for, and no job is queued for what is gone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.access.principal import SYSTEM, Principal
from app.datasets.service import DatasetService
from app.db.session import Database
from app.errors import Conflict, UnknownModel
from app.files.service import FileService
from app.jobs.service import JobService
from app.jobs.states import JobStatus
from app.registry.service import Registry
from tests.fine_tuning_world import upload
from tests.job_world import Hand
from tests.packs import publish_pack
from tests.registry_world import publish

BOB = Principal(tenant_id="bob")
RACES = 5


@pytest.fixture
def registry(database, objects):
    return Registry(database, objects)


@pytest.fixture
def line(registry, tmp_path):
    """Versions 1 to 3 of a model; `default` is the first."""

    def publish_line(name="base"):
        for number in range(1, 4):
            publish(registry, SYSTEM, tmp_path / "staging", name=name, model=f"{name}{number}".encode())

    return publish_line


def train(jobs, model="lenet5", encoder=None, **spec):
    told = {"train": {"model": model, "encoder": encoder}, **spec}
    return jobs.create(SYSTEM, kind="fine_tune", spec=told)


def delete(registry, reference):
    name, _, number = reference.partition(":")
    if number:
        registry.delete_version(SYSTEM, name, int(number))
    else:
        registry.delete_model(SYSTEM, name)


@pytest.mark.parametrize(
    ("spec", "kept", "free"),
    [
        ({"model": "base:2"}, ["base", "base:2"], ["base:3", "base-2"]),
        ({"model": "base-2:3"}, ["base-2", "base-2:3"], ["base-2:2", "base:2", "base"]),
        ({"model": "unet_resnet34", "encoder": "base:2"}, ["base", "base:2"], ["base:3", "base-2"]),
        ({"model": "base@default"}, ["base", "base:2", "base:3"], ["base-2"]),
        ({"output_model": "base"}, ["base"], ["base:2", "base:3", "base-2"]),
        ({"model": "lenet5"}, [], ["lenet5:2", "lenet5"]),  # the architecture, not the model of this name
    ],
)
def test_a_model_that_an_unfinished_job_needs_is_not_deleted(registry, jobs, line, *, spec, kept, free):
    for name in ("base", "base-2", "lenet5"):
        line(name)
    job = train(jobs, **spec)
    for reference in kept:
        with pytest.raises(Conflict, match=f"^The job {job.id} needs {reference}.$") as refused:
            delete(registry, reference)
        assert f"/v1/jobs/{job.id}/cancel" in refused.value.hint
    for reference in free:
        delete(registry, reference)
    jobs.cancel(SYSTEM, job.id)
    for reference in kept[::-1]:
        delete(registry, reference)


def test_a_job_needs_its_base_until_it_has_ended(database, registry, jobs, line):
    line()
    job = train(jobs, "base:2")

    def is_kept():
        try:
            registry.delete_version(SYSTEM, "base", 2)
        except Conflict:
            return True
        return False

    jobs.pause(SYSTEM, job.id)
    assert is_kept()
    jobs.resume(SYSTEM, job.id)
    assert is_kept()
    hand = Hand(database, job.id)
    assert is_kept()
    hand.end(JobStatus.FAILED)
    assert not is_kept()


def test_of_many_jobs_three_are_named(registry, jobs, line):
    line()
    ids = [train(jobs, "base:2", output_model="base").id for _ in range(5)]
    with pytest.raises(Conflict) as refused:
        registry.delete_version(SYSTEM, "base", 2)
    assert refused.value.message == f"The jobs {', '.join(ids[:3])} and 2 more need base:2."


def test_a_data_set_stays_while_the_training_that_made_it_goes_on(database, objects, jobs, tmp_path):
    datasets = DatasetService(database, objects)
    job = train(jobs)
    publish_pack(datasets, SYSTEM, tmp_path, name="made", job_id=job.id)
    publish_pack(datasets, SYSTEM, tmp_path, name="made", seed=2)
    datasets.delete_version(SYSTEM, "made", 2)
    for act in (lambda: datasets.delete_version(SYSTEM, "made", 1), lambda: datasets.delete(SYSTEM, "made")):
        with pytest.raises(Conflict, match=job.id):
            act()
    jobs.cancel(SYSTEM, job.id)
    datasets.delete(SYSTEM, "made")


@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        ({"train": {"model": "base:9"}}, "base:9"),
        ({"train": {"model": "other:1"}}, "other:1"),
        ({"output_model": "other"}, "other"),
        ({"dataset": "colours:9"}, "colours:9"),
        ({"training_file": "file_gone"}, "file_gone"),
        ({"validation_file": "file_gone"}, "file_gone"),
        ({"file_ids": ["FILE", "file_gone"]}, "file_gone"),
        ({"source": "file:file_gone"}, "file_gone"),
        ({"source": "file:FILE", "reference": "file_gone"}, "file_gone"),
    ],
)
def test_no_job_is_queued_for_what_is_not_there(
    database, objects, settings, line, tmp_path, *, spec, missing
):
    line()
    publish_pack(DatasetService(database, objects), SYSTEM, tmp_path, name="colours")
    file_id = upload(FileService(database, objects, settings), b"data", filename="data.zip")
    rung = []
    jobs = JobService(database, rung.append)

    def named(value):
        if isinstance(value, list):
            return [named(each) for each in value]
        return value.replace("FILE", file_id) if isinstance(value, str) else value

    spec = {key: named(value) for key, value in spec.items()}
    with pytest.raises(Conflict, match=f"^The job needs {missing}, which is not there.$"):
        jobs.create(SYSTEM, kind="fine_tune", spec=spec)
    assert (jobs.list(SYSTEM), rung) == ([], [])
    whole = {"train": {"model": "base:1"}, "dataset": "colours:1", "training_file": file_id}
    assert rung == [jobs.create(SYSTEM, kind="fine_tune", spec=whole).id]
    with pytest.raises(Conflict):
        jobs.create(BOB, kind="fine_tune", spec=whole)


def test_a_request_that_comes_again_gets_its_job_though_what_it_needed_is_gone(registry, jobs, line):
    line()
    spec = {"train": {"model": "base:2"}}
    first = jobs.create(SYSTEM, kind="fine_tune", spec=spec, idempotency_key="k")
    jobs.cancel(SYSTEM, first.id)
    registry.delete_model(SYSTEM, "base")
    assert jobs.create(SYSTEM, kind="fine_tune", spec=spec, idempotency_key="k").id == first.id


def test_a_base_is_either_deleted_or_trained_on(database_url, objects, registry, line):
    """Contenders with a connection each, as processes have them."""
    databases = [Database(database_url) for _ in range(4)]
    queued, deleted = 0, 0
    for race in range(RACES):
        name = f"base{race}"
        line(name)
        barrier = threading.Barrier(len(databases))

        def act(contender, name=name, barrier=barrier):
            barrier.wait()
            try:
                if contender % 2:
                    train(JobService(databases[contender], lambda _: None), f"{name}:1")
                else:
                    Registry(databases[contender], objects).delete_model(SYSTEM, name)
            except (Conflict, UnknownModel):
                return False
            return True

        with ThreadPoolExecutor(len(databases)) as threads:
            done = list(threads.map(act, range(len(databases))))
        is_there = name in {model.name for model in registry.list_models(SYSTEM)}
        assert done in ([False, True, False, True], [True, False, False, False], [False, False, True, False])
        assert is_there == done[1]
        queued, deleted = queued + done[1], deleted + (not done[1])
    assert queued + deleted == RACES
    for database in databases:
        database.close()
