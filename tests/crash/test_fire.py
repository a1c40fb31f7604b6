"""The job store under fire, in small, on both kinds of world. `make fire` does it with a thousand jobs."""

import json
import shutil
from functools import partial

import pytest

from app.db import migrate
from benchmarks.fire.battle import Battle, Plan, Timeline, flush
from tests.crash.workshop import Workshop
from tests.servers import postgres_server

pytestmark = pytest.mark.slow

PLAN = Plan(jobs=16, faults=1, min_open=4, workers=2, timeout_s=240)


@pytest.fixture
def deployed(tmp_path, redis_url):
    """PostgreSQL of its own, as it is crashed, and Redis; and how they fail."""
    with postgres_server() as postgres:
        url = postgres.create_database("fire")
        migrate.upgrade(url)
        shocks = {"redis_flush": partial(flush, redis_url), "postgres_crash": postgres.crash}
        yield {"database_url": url, "broker_url": redis_url}, shocks


@pytest.fixture
def embedded(tmp_path, sqlite_url):
    """SQLite and folders; and how they fail."""
    broker = tmp_path / "data" / "broker"
    yield {"database_url": sqlite_url}, {"broker_deleted": partial(shutil.rmtree, broker, ignore_errors=True)}


@pytest.mark.parametrize("world", ["deployed", "embedded"])
def test_every_job_succeeds_once_while_everything_around_it_fails(world, tmp_path, request):
    settings, shocks = request.getfixturevalue(world)
    workshop = Workshop(tmp_path, data_dir=tmp_path / "data", lease_s=3.0, **settings)
    told = tmp_path / "timeline.jsonl"
    workshop.open(PLAN.workers)
    try:
        with told.open("w") as out:
            verdict = Battle(PLAN, workshop, Timeline(out=out), shocks).fight()
    finally:
        workshop.close()
    assert (verdict["succeeded"], verdict["lost"], verdict["doubled"]) == (PLAN.jobs, 0, 0)
    kinds = {"worker_kill", "run_kill", "message_twice", *shocks}
    struck = [line for line in map(json.loads, told.read_text().splitlines()) if line["event"] in kinds]
    assert {line["event"] for line in struck} == kinds
    assert all(line["open"] >= PLAN.min_open for line in struck)
