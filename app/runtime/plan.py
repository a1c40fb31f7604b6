"""How many lanes, threads and inputs per batch serve a graph fastest here: measured once, then stored.

Small graphs scale by lanes (one thread each), large ones sometimes by threads; which, and from what
batch size on, differs per graph and machine. A short measurement at first load decides and the row in
`tunings` remembers, keyed by the model file's hash and the machine.
"""

import hashlib
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from app.runtime.session import OnnxSession, available_providers, runtime_name

_TRIAL_S = 0.25
"""Least time per candidate, seconds; a candidate runs each lane at least twice."""
_WORTH = 1.02
"""A larger batch must be this much faster to be taken: smaller ones answer sooner."""
_LONGEST_RUN_S = 0.4
"""Batches expected to run longer are not tried: waiting for them costs more than they could gain."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one version runs."""

    lanes: int
    """Runs at once."""
    threads: int
    """Intra-op threads of a run."""
    batch: int
    """Most inputs per run."""
    images_per_s: float = 0.0
    """What the measurement gave, without decoding."""

    def as_row(self) -> dict[str, object]:
        """JSON for the `tunings` table."""
        return asdict(self)


def serving_cores(limit: int) -> int:
    """Cores that serving may use; `limit` 0 means all this process may run on."""
    allowed = len(os.sched_getaffinity(0))
    return min(limit, allowed) if limit else allowed


def machine_key(cores: int) -> str:
    """Hash of what a measurement depends on: processor, cores, runtime and provider."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    facts = "\n".join([model, str(cores), runtime_name(), available_providers()[0]])
    return hashlib.sha256(facts.encode()).hexdigest()


def candidates(cores: int, max_batch: int | None) -> list[Plan]:
    """The grid that is tried: all cores as lanes of one thread, or as one lane of all threads."""
    shapes = [(cores, 1)] if cores == 1 else [(cores, 1), (1, cores)]
    sizes = [size for size in (1, 2, 4, 8) if max_batch is None or size <= max_batch]
    return [Plan(lanes=lanes, threads=threads, batch=size) for lanes, threads in shapes for size in sizes]


def measure_plan(path: Path, *, shape: tuple[int, int, int], cores: int, max_batch: int | None) -> Plan:
    """Try the grid on random pixels of `shape` (H, W, 3) and return the fastest plan."""
    best: Plan | None = None
    sessions: dict[int, OnnxSession] = {}
    try:
        for plan in candidates(cores, max_batch):
            if best is not None and plan.batch * plan.lanes / best.images_per_s > _LONGEST_RUN_S:
                continue
            session = sessions.get(plan.threads)
            if session is None:
                session = sessions[plan.threads] = OnnxSession(path, threads=plan.threads)
            pace = _images_per_s(session, plan, shape)
            if best is None or pace > best.images_per_s * (_WORTH if plan.batch > best.batch else 1.0):
                best = Plan(lanes=plan.lanes, threads=plan.threads, batch=plan.batch, images_per_s=pace)
    finally:
        for session in sessions.values():
            session.close()
    assert best is not None  # the grid is never empty
    return best


def _images_per_s(session: OnnxSession, plan: Plan, shape: tuple[int, int, int]) -> float:
    pixels = np.random.default_rng(0).integers(0, 256, (plan.batch, *shape), np.uint8)
    session.run(pixels, _nobody_stops)  # warm-up: the first run of a shape plans its memory
    counts = [0] * plan.lanes
    started_s = time.perf_counter()
    threads = [
        Thread(target=_lane, args=(session, pixels, counts, lane, started_s + _TRIAL_S))
        for lane in range(plan.lanes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) * plan.batch / (time.perf_counter() - started_s)


def _lane(
    session: OnnxSession, pixels: NDArray[np.uint8], counts: list[int], lane: int, until_s: float
) -> None:
    while counts[lane] < 2 or time.perf_counter() < until_s:
        session.run(pixels, _nobody_stops)
        counts[lane] += 1


def _nobody_stops(_: Callable[[], None]) -> bool:
    return True
