"""Real trainings under `kill -9`: each ends with the bits that the uninterrupted one ends with.

Two points by default; `make crash` goes through all of them.
"""

import os
import random
import signal
import time

import pytest
from sqlalchemy import select

from app.db.session import Database
from app.db.tables import JobCheckpointRow, JobEventRow
from tests.app.supervisor.service_process import Service
from tests.e2e.training import Trainer, digits_zip

pytestmark = pytest.mark.slow

STEPS, EVERY = 48, 6
POINTS = 20
RUNS = range(POINTS if os.environ.get("ATHANOR_TEST_ALL_KILLS") else 2)
SPEC = {
    "dataset": "digits:1",
    "model": "lenet5",
    "adapter": {"method": "full"},
    "augmentation": ["random_crop"],
    "ema_decay": 0.9,
    "batch_size": 8,
    "max_steps": STEPS,
    "checkpoint_every_steps": EVERY,
    "threads": 1,
    "seed": 3,
}


def point(seed):
    """Whom to kill, and when: a phase of the job, or a step, and seconds after that."""
    chance = random.Random(seed)
    when = ("training", "training", "exporting", "checkpoint")[seed % 4]
    step = EVERY * chance.randint(1, STEPS // EVERY - 1) + (when == "training") * chance.randint(0, EVERY - 1)
    return chance.choice(["workers.child", "workers"]), when, step, chance.uniform(0.0, 0.05)


class World:
    """A service, a client of it, its database, a data set."""

    def __init__(self, folder):
        self.service = Service(folder / "data", LEASE_S=4, HEARTBEAT_S=1).start().wait_ready()
        self.trainer = Trainer(self.service.url)
        self.database = Database(self.service.settings().sqlalchemy_url)
        file_id = self.trainer.upload(digits_zip(each=25))
        made = self.trainer.client.post("/v1/datasets", json={"file_id": file_id, "name": "digits"})
        assert made.is_success, made.text
        deadline = time.monotonic() + 60
        while self.trainer.client.get("/v1/datasets/digits").json()["status"] != "ready":
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def close(self):
        self.database.close()
        self.trainer.client.close()
        self.service.end()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("kills"))
    yield world
    world.close()


def final_state(database, job_id):
    """Hash of the last checkpoint: weights, optimiser, average, best, everything."""
    with database.read() as session:
        query = select(JobCheckpointRow.step, JobCheckpointRow.sha256).where(
            JobCheckpointRow.job_id == job_id
        )
        step, sha256 = max(tuple(row) for row in session.execute(query))
    assert step == STEPS
    return sha256


@pytest.fixture(scope="module")
def undisturbed(world):
    job_id = world.trainer.create(**SPEC, suffix="undisturbed")
    assert world.trainer.until(job_id, "succeeded")["attempts"] == 1
    return final_state(world.database, job_id), world.trainer.artifact("undisturbed", "weights.safetensors")


def wait_for(trainer, job_id, when, step):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if when == "exporting":
            job = trainer.job(job_id)
            if job["phase"] == "exporting" or job["status"] == "succeeded":
                return
        elif any(row["step"] >= step for row in rows(trainer, job_id, when)):
            return
        time.sleep(0.01)
    raise AssertionError(f"{when} {step} did not come")


def rows(trainer, job_id, when):
    if when == "checkpoint":
        found = trainer.client.get(f"/v1/fine_tuning/jobs/{job_id}/checkpoints").json()["data"]
        return [{"step": row["step_number"]} for row in found]
    return trainer.client.get(f"/v1/jobs/{job_id}/metrics?limit=1000").json()["data"]


def kill(service, who):
    try:
        os.kill(service.pid_of(who), signal.SIGKILL)
    except (AssertionError, ProcessLookupError):
        return False
    return True


def test_the_points_cover_training_checkpoints_and_export():
    whens = [point(seed)[1] for seed in range(POINTS)]
    assert {when: whens.count(when) >= 5 for when in set(whens)} == {
        "training": True,
        "checkpoint": True,
        "exporting": True,
    }
    assert {point(seed)[0] for seed in range(POINTS)} == {"workers.child", "workers"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", RUNS)
def test_a_killed_training_ends_with_the_bits_of_an_undisturbed_one(world, undisturbed, seed):
    trainer = world.trainer
    who, when, step, after_s = point(seed)
    name = f"killed-{seed}"
    job_id = trainer.create(**SPEC, suffix=name)
    wait_for(trainer, job_id, when, step)
    time.sleep(after_s)
    had = rows(trainer, job_id, "checkpoint")
    was_killed = kill(world.service, who)
    killed_s = time.monotonic()
    while was_killed and (job := trainer.job(job_id))["attempts"] < 2 and job["status"] != "succeeded":
        assert time.monotonic() - killed_s < 30, "nobody took it up"
        time.sleep(0.05)
    job = trainer.until(job_id, "succeeded")
    assert job["attempts"] > 1 or when == "exporting"  # which may be over too soon
    assert job["fine_tuned_model"] == name
    artifact = trainer.artifact(name, "weights.safetensors")
    assert (final_state(world.database, job_id), artifact) == undisturbed
    if job["attempts"] > 1 and had:
        assert job["resumed_from_step"] >= max(row["step"] for row in had)
    measured = [row["step"] for row in rows(trainer, job_id, "training")]
    assert sorted(set(measured)) == measured
    assert measured[-1] == STEPS
    assert len(trainer.client.get(f"/v1/models/{name}/versions").json()["data"]) == 1
    with world.database.read() as session:
        query = select(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.message == "started")
        assert len(session.scalars(query).all()) == job["attempts"]
