"""Jobs on one side, faults on the other, and a judge.

    asker ──► jobs, asked for again with their key when the answer was lost
    faults: a worker killed · a run killed · messages delivered twice · what else this world can break
    judge: every job succeeded, once, with the right result, one version each, every step measured

A fault strikes only while enough jobs are open. What happens is written to a timeline as it happens.
"""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

import redis
from sqlalchemy import select

from app.access.principal import SYSTEM
from app.db.tables import JobRow
from app.errors import StorageUnavailable
from app.jobs.job import Job
from app.jobs.states import JobStatus
from app.queue import RUN_JOB, make_celery
from tests.crash.workshop import Workshop

Json = dict[str, Any]
Returned = TypeVar("Returned")
MODELS = 10
"""The jobs publish versions of this many models."""
_RETRY_S = 0.1


def flush(redis_url: str) -> None:
    """Every message is lost."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How hot it gets."""

    jobs: int
    faults: int
    """Of each kind."""
    min_open: int
    """Jobs that must be open when a fault strikes."""
    workers: int = 4
    seed: int = 0
    trainings: tuple[Json, ...] = ()
    """Specs of `fine_tune` jobs among them."""
    timeout_s: float = 3600.0


@dataclass(kw_only=True)
class Timeline:
    """One JSON line for each thing that happens."""

    out: TextIO
    started_s: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, event: str, **facts: object) -> None:
        """Write it down."""
        with self.lock:
            self.counts[event] += 1
            line = {"t": round(time.monotonic() - self.started_s, 3), "event": event, **facts}
            self.out.write(json.dumps(line) + "\n")
            self.out.flush()


class Battle:
    """`fight()` it once."""

    def __init__(
        self, plan: Plan, workshop: Workshop, timeline: Timeline, shocks: Mapping[str, Callable[[], None]]
    ) -> None:
        self._plan = plan
        self._workshop = workshop
        self._timeline = timeline
        self._strikes: dict[str, Callable[[], None]] = {
            "worker_kill": self._kill_worker,
            "run_kill": self._kill_run,
            "message_twice": self._ring_twice,
            **shocks,
        }
        self._chance = random.Random(plan.seed)
        self._specs = [self._spec(number) for number in range(plan.jobs)]
        self._ids: dict[int, str] = {}
        self._ended: dict[str, JobStatus] = {}

    def _spec(self, number: int) -> tuple[str, Json]:
        if number < len(self._plan.trainings):
            return "fine_tune", self._plan.trainings[number]
        steps = self._chance.randint(4, 12)
        spec = {"steps": steps, "step_s": 0.02, "checkpoint_every": 3, "seed": number}
        return "count", {**spec, "publish": f"fire-{number % MODELS}"}

    def fight(self) -> Json:
        """Ask, break, wait, judge; the workshop is open. The verdict; an AssertionError names the first thing
        that is wrong."""
        order = list(range(self._plan.jobs))
        self._chance.shuffle(order)
        asker = threading.Thread(target=lambda: [self._ask(number) for number in order])
        asker.start()
        self._break_things()
        asker.join()
        self._wait(lambda: len(self._ended) == self._plan.jobs)
        return self._judge()

    # -- jobs ----------------------------------------------------------------------------------------

    def _ask(self, number: int) -> None:
        kind, spec = self._specs[number]
        job = self._again(
            lambda: self._workshop.jobs.create(SYSTEM, kind=kind, spec=spec, idempotency_key=f"fire-{number}")
        )
        self._ids[number] = job.id
        self._timeline.tell("asked", job=number)

    def _again(self, do: Callable[[], Returned]) -> Returned:
        while True:
            try:
                return do()
            except StorageUnavailable:
                time.sleep(_RETRY_S)

    @property
    def _open(self) -> int:
        return len(self._ids) - len(self._ended)

    def _look(self) -> None:
        """Take note of jobs that have ended."""
        numbers = {job_id: number for number, job_id in list(self._ids.items())}
        for job_id, status, attempts in self._again(self._read_ended):
            if job_id in numbers and job_id not in self._ended:
                self._ended[job_id] = JobStatus(status)
                self._timeline.tell("ended", job=numbers[job_id], status=status, attempts=attempts)

    def _read_ended(self) -> list[tuple[str, str, int]]:
        ended = [status.value for status in JobStatus if status.has_ended]
        query = select(JobRow.id, JobRow.status, JobRow.attempts).where(JobRow.status.in_(ended))
        with self._workshop.database.read() as session:
            return [(row.id, row.status, row.attempts) for row in session.execute(query)]

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + self._plan.timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"{self._open} jobs are still open"
            self._look()
            time.sleep(0.2)

    # -- faults --------------------------------------------------------------------------------------

    def _break_things(self) -> None:
        """Strike at even distances, counted in jobs that have ended, while enough are open."""
        faults = [kind for kind in self._strikes for _ in range(self._plan.faults)]
        self._chance.shuffle(faults)
        self._wait(lambda: self._open >= self._plan.min_open)
        span = self._plan.jobs - 2 * self._plan.min_open
        for at, kind in enumerate(faults):
            due = at * span // len(faults)
            self._wait(lambda due=due: len(self._ended) >= due)
            assert self._open >= self._plan.min_open, f"{self._open} open: more jobs, or fewer faults"
            self._strike(kind)

    def _strike(self, kind: str) -> None:
        open_jobs = self._open
        self._strikes[kind]()
        self._timeline.tell(kind, open=open_jobs)

    def _kill_worker(self) -> None:
        self._workshop.kill_worker(self._chance.randrange(self._plan.workers))

    def _kill_run(self) -> None:
        """Wait until there is one."""
        self._wait(lambda: any(self._workshop.kill_child(at) for at in range(self._plan.workers)))

    def _ring_twice(self) -> None:
        """Messages of open jobs come once more, at once and to several workers."""
        celery = make_celery(self._workshop.settings)
        waiting = [job_id for job_id in self._ids.values() if job_id not in self._ended]
        for job_id in self._chance.sample(waiting, min(8, len(waiting))):
            for _ in range(2):
                celery.send_task(RUN_JOB, args=[job_id], ignore_result=True)
        celery.close()

    # -- the verdict ---------------------------------------------------------------------------------

    def _judge(self) -> Json:
        workshop, plan = self._workshop, self._plan
        jobs = {number: workshop.get(job_id) for number, job_id in self._ids.items()}
        assert len({job.id for job in jobs.values()}) == plan.jobs
        everything = sum(job.kind in ("count", "fine_tune") for job in _all_jobs(workshop))
        assert everything == plan.jobs, f"{everything} jobs for {plan.jobs} requests"
        for number, job in jobs.items():
            assert job.status is JobStatus.SUCCEEDED, f"job {number}: {job.status}, {job.error}"
            states = workshop.states(job.id)
            assert states.count("succeeded") == 1, f"job {number}: {states}"
            if job.kind == "count":
                self._judge_count(number, job)
            else:
                newest = workshop.jobs.checkpoints(SYSTEM, job.id)[0]
                assert newest.step == self._specs[number][1]["train"]["max_steps"], f"job {number}: {newest}"
        versions = [job.result["model"] for job in jobs.values() if job.result]
        assert len(versions) == len(set(versions)) == plan.jobs, "a job's version is missing or shared"
        assert _count_versions(workshop) == plan.jobs, "there are versions that no job stands for"
        faults = {kind: self._timeline.counts[kind] for kind in self._strikes}
        assert all(count >= plan.faults for count in faults.values()), faults
        verdict = {
            "jobs": plan.jobs,
            "trainings": len(plan.trainings),
            "succeeded": plan.jobs,
            "lost": 0,
            "doubled": 0,
            "faults": faults,
            "attempts": sum(job.attempts for job in jobs.values()),
            "resumed": sum("resumed_from_step" in job.facts for job in jobs.values()),
        }
        self._timeline.tell("verdict", **verdict)
        return verdict

    def _judge_count(self, number: int, job: Job) -> None:
        assert job.result is not None
        spec = self._specs[number][1]
        digest = ""
        for step in range(1, spec["steps"] + 1):
            digest = hashlib.sha256(f"{digest} {spec['seed']} {step}".encode()).hexdigest()
        assert job.result["digest"] == digest, f"job {number} counted wrongly"
        measured = [metrics.step for metrics in self._workshop.jobs.metrics(SYSTEM, job.id)]
        assert measured == list(range(1, spec["steps"] + 1)), f"job {number} measured {measured}"


def _all_jobs(workshop: Workshop) -> list[Job]:
    found: list[Job] = []
    while page := workshop.jobs.list(SYSTEM, limit=100, after=found[-1].id if found else None):
        found += page
    return found


def _count_versions(workshop: Workshop) -> int:
    return sum(len(model.versions) for model in workshop.registry.list_models(SYSTEM))
