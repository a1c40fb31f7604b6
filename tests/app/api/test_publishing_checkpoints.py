"""Which checkpoints may be published, under what name, and that asking twice is asking once."""

import pytest
from starlette.testclient import TestClient

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.session import Database
from app.jobs.job import JobError
from app.jobs.states import JobStatus
from app.main import create_app
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.fine_tuning_world import furnish, publish_base
from tests.job_world import Hand

JOBS = "/v1/fine_tuning/jobs"
FAILURE = JobError(code="training_diverged", message="It is not a number.")


class World:
    """A gateway, and hands that do what workers would."""

    def __init__(self, folder, client, settings):
        self.folder, self.client = folder, client
        self.database = Database(settings.sqlalchemy_url)
        self.registry = Registry(self.database, ObjectStore.from_settings(settings))

    def training(self, *, steps=(10, 20, 30), ends=JobStatus.FAILED, **request):
        """Id of a training that has left checkpoints and ended."""
        body = {"model": "base@beta", "training_file": "colours", **request}
        job_id = self.client.post(JOBS, json=body).json()["id"]
        hand = Hand(self.database, job_id)
        hand.note(phase="training", facts={"dataset": "colours:2"})
        for step in steps:
            hand.checkpoint(step, train_loss=1 / step)
        if ends is not None:
            hand.end(ends, error=FAILURE if ends is JobStatus.FAILED else None)
        return job_id

    def ask(self, job_id, which):
        return self.client.post(f"{JOBS}/{job_id}/checkpoints/{which}/publish")

    def do(self, job):
        """Run a publication."""
        hand = Hand(self.database, job["id"])
        name, step = job["spec"]["name"], job["spec"]["step"]
        made = publish_base(self.registry, self.folder / job["id"], name=name, weights=job["id"].encode())
        self.registry.mark_checkpoint(SYSTEM, made, step=step)
        hand.end(result={"model": str(made)})
        return str(made)

    def aliases(self, name):
        return dict(self.registry.get_model(SYSTEM, name).aliases)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    settings = Settings(data_dir=folder / "data", default_classifier="", starters="", _env_file=None)
    migrate.upgrade(settings.sqlalchemy_url)
    furnish(settings, folder)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        world = World(folder, client, settings)
        yield world
        world.database.close()


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def test_the_publication_is_a_job_on_the_frozen_base_and_data(world):
    job_id = world.training(suffix="frozen")
    answer = world.ask(job_id, "ckpt-20")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["kind"], job["status"]) == ("job", "publish_checkpoint", "queued")
    assert (job["spec"]["job_id"], job["spec"]["step"], job["spec"]["name"]) == (job_id, 20, "frozen")
    assert (job["spec"]["train"]["model"], job["spec"]["dataset"]) == ("base:2", "colours:2")
    assert world.client.delete("/v1/models/base/versions/2").status_code == 409
    world.do(job)


def test_asked_for_again_it_is_the_same_job_and_after_a_failure_a_new_one(world):
    job_id = world.training(suffix="again", ends=JobStatus.CANCELLED)
    first = world.ask(job_id, "ckpt-30").json()
    checkpoint = world.client.get(f"{JOBS}/{job_id}/checkpoints").json()["data"][0]
    assert world.ask(job_id, checkpoint["id"]).json()["id"] == first["id"]
    Hand(world.database, first["id"]).end(JobStatus.FAILED, error=FAILURE)
    second = world.ask(job_id, "ckpt-30").json()
    assert second["id"] != first["id"]
    assert world.do(second) == "again:1"
    assert world.ask(job_id, "ckpt-30").json()["id"] == second["id"]
    assert world.aliases("again") == {"default": 1, "ckpt-30": 1}


def test_a_version_that_was_deleted_is_published_anew_and_a_lost_alias_is_given_back(world):
    job_id = world.training(suffix="deleted")
    assert world.do(world.ask(job_id, "ckpt-10").json()) == "deleted:1"
    done = world.ask(job_id, "ckpt-20").json()
    assert world.do(done) == "deleted:2"
    world.registry.delete_alias(SYSTEM, "deleted", "ckpt-20")
    assert world.ask(job_id, "ckpt-20").json()["id"] == done["id"]
    assert world.aliases("deleted") == {"default": 1, "ckpt-10": 1, "ckpt-20": 2}
    world.registry.delete_alias(SYSTEM, "deleted", "ckpt-20")
    world.registry.delete_version(SYSTEM, "deleted", 2)
    anew = world.ask(job_id, "ckpt-20").json()
    assert anew["id"] != done["id"]
    assert world.do(anew) == "deleted:3"


def test_a_name_that_another_jobs_checkpoint_has_is_refused_until_it_is_free(world):
    first = world.training(suffix="shared")
    assert world.do(world.ask(first, "ckpt-10").json()) == "shared:1"
    second = world.training(output_model="shared")
    error = error_of(world.ask(second, "ckpt-10"), 409)
    assert (error["code"], error["param"]) == ("conflict", "checkpoint_id")
    assert error["message"] == "shared@ckpt-10 is shared:1 already."
    assert world.client.delete("/v1/models/shared/aliases/ckpt-10").is_success
    assert world.do(world.ask(second, "ckpt-10").json()) == "shared:2"
    assert world.aliases("shared") == {"default": 1, "ckpt-10": 2}


@pytest.mark.parametrize("act", [None, "pause"])
def test_a_job_that_has_not_ended_is_refused_with_what_to_do(world, act):
    job_id = world.training(
        suffix=f"active-{act or 'running'}", ends=None if act is None else JobStatus.PAUSED
    )
    error = error_of(world.ask(job_id, "ckpt-30"), 409)
    assert (error["code"], error["param"]) == ("conflict", "job_id")
    assert f"POST {JOBS}/{job_id}/cancel" in error["hint"]
    queued = world.client.post(JOBS, json={"model": "base", "training_file": "colours"}).json()["id"]
    assert error_of(world.ask(queued, "ckpt-30"), 409)["code"] == "conflict"
    world.client.post(f"{JOBS}/{queued}/cancel")


def test_what_is_kept_no_longer_is_not_found_and_the_hint_names_what_is(world):
    job_id = world.training(suffix="expired", steps=(10, 20, 30, 40))
    for which in ("ckpt-10", "ckpt-0", "20", "ckpt_nobody"):
        error = error_of(world.ask(job_id, which), 404)
        assert (error["code"], error["param"]) == ("not_found", "checkpoint_id")
        assert error["hint"] == "It keeps ckpt-40, ckpt-30, ckpt-20."
    none = world.training(steps=())
    assert error_of(world.ask(none, "ckpt-10"), 404)["hint"] == "It keeps none."
    assert error_of(world.ask("job_nobody", "ckpt-10"), 404)["param"] == "job_id"


def test_only_publication_makes_such_a_name(world):
    for alias in ("ckpt-7", "ckpt-10"):
        answer = world.client.put(f"/v1/models/base/aliases/{alias}", json={"version": 1})
        assert error_of(answer, 400)["param"] == "alias"


@pytest.mark.parametrize("name", ["base@ckpt-7", "nobody@ckpt-7"])
def test_before_it_is_published_its_name_says_how_that_is_done(world, name):
    error = error_of(world.client.post(f"/v1/classification?model={name}", content=b"x"), 404)
    assert (error["code"], error["message"]) == ("unknown_version", f"There is no {name}.")
    assert "athanor jobs publish-checkpoint JOB ckpt-7" in error["hint"]
