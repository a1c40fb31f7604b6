"""A job's version and its success are one transaction under the fencing token."""

import threading

import pytest

from app.access.principal import SYSTEM
from app.db.tables import JobRow
from app.errors import UnknownModel
from app.jobs.states import JobStatus
from models.manifest import MODEL_FILE
from workers import heartbeat


def test_a_jobs_version_is_published_and_named_in_its_result(bench):
    job = bench.run("publish", name="tabby")
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert job.result == {"parameters": 1, "model": "tabby:1"}
    version = bench.registry.get_version(SYSTEM, "tabby", 1)
    assert version.manifest.labels == ("cat", "dog")
    [artifact] = [artifact for artifact in version.artifacts if artifact.name == MODEL_FILE]
    assert bench.objects.read(SYSTEM, artifact.sha256) == b"onnx"


def test_a_second_job_makes_the_next_version(bench):
    bench.run("publish", name="tabby")
    assert bench.run("publish", name="tabby").result["model"] == "tabby:2"


def test_a_refused_publication_is_the_jobs_error_and_leaves_no_model(bench):
    job = bench.run("publish", name="tabby", honest=False)
    assert (job.status, job.error["code"]) == (JobStatus.FAILED, "not_servable")
    with pytest.raises(UnknownModel):
        bench.registry.get_model(SYSTEM, "tabby")


def test_a_checkpoints_version_has_its_name_from_the_first_and_keeps_it(bench):
    assert bench.run("publish", name="tabby", checkpoint_step=120).status is JobStatus.SUCCEEDED
    assert bench.registry.get_model(SYSTEM, "tabby").aliases == {"default": 1, "ckpt-120": 1}
    late = bench.run("publish", name="tabby", checkpoint_step=120)
    assert (late.status, late.error["code"]) == (JobStatus.FAILED, "conflict")
    assert late.error["message"] == "tabby@ckpt-120 is tabby:1 already."
    assert list(bench.registry.get_model(SYSTEM, "tabby").versions) == [1]


@pytest.mark.parametrize("kind", ["publish", "publish_dataset"])
def test_what_is_cancelled_while_it_is_published_leaves_nothing(bench, monkeypatch, kind):
    service = bench.place.registry if kind == "publish" else bench.place.datasets
    job = bench.jobs.create(SYSTEM, kind=kind, spec={"name": "tabby", "task": "classification"})
    stage = service.stage

    def stage_and_cancel(*parcel):
        staged = stage(*parcel)
        bench.jobs.cancel(SYSTEM, job.id)
        return staged

    monkeypatch.setattr(service, "stage", stage_and_cancel)
    monkeypatch.setattr(heartbeat, "LISTEN_EVERY_S", 60)
    bench.runner.answer(job.id)
    assert bench.get(job.id).status is JobStatus.CANCELLED
    with pytest.raises(UnknownModel):
        bench.registry.get_model(SYSTEM, "tabby")
    assert bench.place.datasets.list_datasets(SYSTEM) == []


def test_a_run_whose_lease_was_lost_while_it_published_publishes_nothing(bench, monkeypatch):
    stage, staging, go_on = bench.registry.stage, threading.Event(), threading.Event()

    def slow_stage(*arguments):
        staging.set()
        assert go_on.wait(10)
        return stage(*arguments)

    monkeypatch.setattr(bench.registry, "stage", slow_stage)
    job_id, thread = bench.start("publish", name="tabby")
    assert staging.wait(20)
    with bench.database.begin() as session:  # another worker has taken the job over meanwhile
        session.get(JobRow, job_id).lease_token += 1
    go_on.set()
    thread.join(10)
    assert bench.get(job_id).status is JobStatus.RUNNING
    with pytest.raises(UnknownModel):
        bench.registry.get_model(SYSTEM, "tabby")
