"""`python -m benchmarks.fire [--jobs 1000] [--faults 20] [--min-open 50] [--workers 4] [--trainings 100]`.

Starts a PostgreSQL and a Redis from wheels and Athanor's own workers, and lets `battle.py` have at them. The
timeline is written to `results/DATE-COMMIT.jsonl`; its last line is the verdict.
"""

import argparse
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from app.db import migrate
from benchmarks.fire.battle import Battle, Plan, Timeline, flush
from benchmarks.fire.trainings import training_specs
from benchmarks.machine import machine_facts
from tests.crash.workshop import Workshop
from tests.servers import postgres_server, redis_server

HERE = Path(__file__).parent


def main() -> None:
    """Fight, and say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=20, help="of each kind")
    parser.add_argument("--min-open", type=int, default=50)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trainings", type=int, default=100, help="of the jobs, real trainings")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    facts = machine_facts("celery", "sqlalchemy", "torch")
    path = HERE / "results" / f"{datetime.now(UTC):%Y-%m-%d}-{facts['commit']}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with (
        path.open("w") as out,
        tempfile.TemporaryDirectory(prefix="athanor-fire") as folder,
        postgres_server() as postgres,
        redis_server() as redis_url,
    ):
        timeline = Timeline(out=out)
        timeline.tell("start", **facts, plan=vars(given))
        url = postgres.create_database("fire")
        migrate.upgrade(url)
        data_dir = Path(folder) / "data"
        workshop = Workshop(
            Path(folder),
            data_dir=data_dir,
            database_url=url,
            broker_url=redis_url,
            lease_s=6.0,
            heartbeat_s=1.0,
        )
        workshop.open(given.workers)
        shocks = {"redis_flush": partial(flush, redis_url), "postgres_crash": postgres.crash}
        try:
            plan = Plan(
                jobs=given.jobs,
                faults=given.faults,
                min_open=given.min_open,
                workers=given.workers,
                seed=given.seed,
                trainings=training_specs(workshop, given.trainings),
                timeout_s=6 * 3600,
            )
            verdict = Battle(plan, workshop, timeline, shocks).fight()
        finally:
            workshop.close()
    print(f"{path}: {verdict}")


if __name__ == "__main__":
    main()
