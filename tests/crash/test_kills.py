"""`kill -9` at seeded points: every job succeeds, once, and comes to what an uninterrupted run comes to.

Eight points by default; `make crash` goes through all of them.
"""

import hashlib
import os
import random
import time

import pytest

from app.access.principal import SYSTEM

pytestmark = pytest.mark.slow

STEPS, EVERY = 20, 5
POINTS_COUNT = 20
RUNS = range(POINTS_COUNT if os.environ.get("ATHANOR_TEST_ALL_KILLS") else 8)


def expected_digest(seed):
    """What counting comes to when nobody interrupts it."""
    digest = ""
    for step in range(1, STEPS + 1):
        digest = hashlib.sha256(f"{digest} {seed} {step}".encode()).hexdigest()
    return digest


def seeded_point(seed):
    """Who is killed, when its log says what, how long after that."""
    chance = random.Random(seed)
    where = ("step", "checkpoint", "publishing", "start")[seed % 4]
    said = {
        "step": f"step {chance.randint(2, STEPS)} of attempt 1",
        "checkpoint": f"half of checkpoint {EVERY * chance.randint(1, STEPS // EVERY)}",
        "publishing": "publishing",
        "start": "step 1 of attempt 1",
    }[where]
    return chance.choice(["child", "worker"]), said, chance.uniform(0.0, 0.03)


POINTS = [seeded_point(seed) for seed in range(POINTS_COUNT)]


@pytest.fixture(scope="module")
def workshop(make_lasting_workshop):
    return make_lasting_workshop().open()


def test_the_seeded_points_cover_what_they_should():
    assert len(POINTS) == POINTS_COUNT
    for word in ("step", "half of checkpoint", "publishing"):
        assert sum(word in said for _, said, _ in POINTS) >= 5
    assert {who for who, _, _ in POINTS} == {"child", "worker"}


def kill(workshop, name, seed):
    """Have a job killed at its point: its id and the checkpoints it had; None where it was done before."""
    who, said, after_s = POINTS[seed]
    job_id = workshop.count(steps=STEPS, step_s=0.02, checkpoint_every=EVERY, seed=seed, publish=name)
    workshop.wait_logged(job_id, said)
    time.sleep(after_s)
    checkpoints = [event.data["step"] for event in workshop.events(job_id, "checkpoint")]
    is_killed = workshop.kill_child() if who == "child" else workshop.kill_worker()
    killed_s = time.monotonic()
    workshop.wait(lambda: workshop.get(job_id).attempts > 1 or workshop.get(job_id).status.has_ended)
    assert time.monotonic() - killed_s < 30
    return (job_id, checkpoints) if is_killed and workshop.get(job_id).attempts > 1 else None


@pytest.mark.parametrize("seed", RUNS)
def test_killed_at_a_seeded_point_a_job_succeeds_once_and_loses_no_more_than_an_interval(workshop, seed):
    names = (f"run-{seed}-{tried}" for tried in range(5))
    name, (job_id, checkpoints) = next((name, got) for name in names if (got := kill(workshop, name, seed)))
    job = workshop.wait_status(job_id)
    assert job.result["digest"] == expected_digest(seed)
    assert job.result["model"] == f"{name}:1"
    assert list(workshop.registry.get_model(SYSTEM, name).versions) == [1]
    assert job.facts.get("resumed_from_step", 0) >= max(checkpoints, default=0)
    taken = workshop.steps_taken(job_id)
    assert set(taken) == set(range(1, STEPS + 1))
    assert sum(taken.values()) <= STEPS + EVERY
    measured = [metrics.step for metrics in workshop.jobs.metrics(SYSTEM, job_id)]
    assert measured == list(range(1, STEPS + 1))
