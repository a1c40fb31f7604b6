"""The job store under fire, in small. `make fire` does it with a thousand jobs."""

import json

from app.db import migrate
from benchmarks.fire.battle import KINDS, Battle, Plan, Timeline
from tests.crash.workshop import Workshop
from tests.servers import postgres_server


def test_every_job_succeeds_once_while_everything_around_it_fails(tmp_path, redis_url):
    plan = Plan(jobs=16, faults=1, min_open=4, workers=2, timeout_s=240)
    timeline = tmp_path / "timeline.jsonl"
    with postgres_server() as postgres, timeline.open("w") as out:  # its own: it is crashed
        url = postgres.create_database("fire")
        migrate.upgrade(url)
        workshop = Workshop(
            tmp_path, data_dir=tmp_path / "data", database_url=url, broker_url=redis_url, lease_s=3.0
        )
        workshop.open(plan.workers)
        try:
            verdict = Battle(plan, workshop, postgres, redis_url, Timeline(out=out)).fight()
        finally:
            workshop.close()
    assert (verdict["succeeded"], verdict["lost"], verdict["doubled"]) == (16, 0, 0)
    told = [json.loads(line) for line in timeline.read_text().splitlines()]
    assert all(line["open"] >= 4 for line in told if line["event"] in KINDS)
    assert {line["event"] for line in told} >= set(KINDS)
