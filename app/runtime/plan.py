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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError, OutOfMemory
from app.registry.snapshot import ServingOptions
from app.runtime.providers import ON_CPU, Providers
from app.runtime.session import OnnxSession, runtime_name

_TRIAL_S = 0.12
"""Time per candidate and pass, seconds. Each lane runs at least once a pass."""
_SHORT_TRIAL_S = 0.02
_ENOUGH_RUNS = 100
"""By each lane: of graphs so small that it has made them by then, a short trial says enough."""
_PASSES = 2
"""The better of two passes counts: a machine that is shared has slow moments."""
_AS_GOOD = 0.97
_SHORT_RUN_S = 0.05
_WORTH_A_COPY = 1.1
"""A session of all cores for lone inputs must be this much faster, for it holds the weights again."""
_LARGEST_SECOND_COPY_BYTES = 512 * 2**20
_LONE_RUNS = 7
_LEAST_LONE_RUNS = 2
_LONE_TRIAL_S = 0.5
"""Of runs that take long a few say enough: once comparing has taken this long, seconds, it ends."""
_METHOD = "2"
"""Raised when plans are made differently, so that stored ones are measured again."""
MOST_ON_GPU = 64
"""Inputs per run that are tried there at most."""
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
    lone_threads: int = 0
    """Intra-op threads of a second session, for an input that has the machine to itself; 0: there is none."""
    images_per_s: float = 0.0
    """What the measurement gave, without decoding."""

    def run_s(self, inputs: int = 1) -> float:
        """Seconds that one run of so many full inputs takes while all lanes run; 0: nobody has measured."""
        return inputs * self.lanes / self.images_per_s if self.images_per_s else 0.0

    def within(self, longest_run_s: float) -> "Plan":
        """The same with no larger batches than run in that time, though at least of one."""
        if not self.run_s(self.batch) > longest_run_s:
            return self
        return replace(self, batch=max(1, int(longest_run_s / self.run_s())))

    def as_set(self, options: ServingOptions) -> "Plan":
        """The same, but for what somebody has set. The pace is taken to go with the cores in use."""
        lanes, threads = options.instances or self.lanes, options.threads or self.threads
        share = min(1.0, lanes * threads / (self.lanes * self.threads))
        return replace(
            self,
            lanes=lanes,
            threads=threads,
            batch=options.max_batch or self.batch,
            lone_threads=0 if options.threads else self.lone_threads,
            images_per_s=self.images_per_s * share,
        )

    def as_row(self) -> dict[str, object]:
        """JSON for the `tunings` table."""
        return asdict(self)


def serving_cores(limit: int) -> int:
    """Cores that serving may use; `limit` 0 means all this process may run on."""
    allowed = len(os.sched_getaffinity(0))
    return min(limit, allowed) if limit else allowed


def machine_key(cores: int, providers: Providers = ON_CPU) -> str:
    """Hash of what a measurement depends on: processor, cores, runtime and provider."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    facts = "\n".join([model, str(cores), runtime_name(), providers.first, _METHOD])
    return hashlib.sha256(facts.encode()).hexdigest()


def candidates(cores: int, max_batch: int | None, *, is_accelerated: bool = False) -> list[Plan]:
    """The grid that is tried: all cores as lanes of one thread, or as one lane of all threads.

    With a GPU one lane, or two, of which one decodes while the other computes.
    """
    on_cpu = [(cores, 1)] if cores == 1 else [(cores, 1), (1, cores)]
    shapes = [(1, 1), (2, 1)] if is_accelerated else on_cpu
    grid = (1, 4, 16, 32, MOST_ON_GPU) if is_accelerated else (1, 2, 4, 8)
    sizes = [size for size in grid if max_batch is None or size <= max_batch]
    return [Plan(lanes=lanes, threads=threads, batch=size) for lanes, threads in shapes for size in sizes]


def _tell_nobody(plan: Plan) -> None:
    """Nobody wants to know."""


def measure_plan(
    path: Path,
    *,
    shape: tuple[int, int, int],
    cores: int,
    max_batch: int | None,
    tell: Callable[[Plan], None] = _tell_nobody,
    providers: Providers = ON_CPU,
) -> Plan:
    """Try the grid on random pixels of `shape` (H, W, 3) and return the plan that serves best. `tell` hears
    of each that was tried.

    Raises:
        NotServable, InferenceFailed: the graph does not load, or cannot run.
        OutOfMemory: not even one input at a time.

    """
    sessions: dict[int, OnnxSession] = {}
    measured: list[Plan] = []
    try:
        for plan in candidates(cores, max_batch, is_accelerated=providers.is_accelerated):
            best = max((each.images_per_s for each in measured), default=0.0)
            if best and plan.batch * plan.lanes / best > _LONGEST_RUN_S:
                continue
            session = sessions.get(plan.threads)
            if session is None:
                session = sessions[plan.threads] = OnnxSession(
                    path, threads=plan.threads, providers=providers
                )
            try:
                pace = max(_images_per_s(session, plan, shape) for _ in range(_PASSES))
            except OutOfMemory:
                if not measured:
                    raise
                continue  # a smaller batch, or fewer at once, will do
            measured.append(replace(plan, images_per_s=pace))
            tell(measured[-1])
        chosen = _choose(measured)
        held_twice = not providers.is_accelerated and _may_be_held_twice(path, cores)
        wide = OnnxSession(path, threads=cores, spins=True) if held_twice else None
        if wide is not None and chosen.threads < cores:
            sessions[-1] = wide
            gain = _lone_gain(sessions[chosen.threads], wide, shape)
            return replace(chosen, lone_threads=cores if gain >= _WORTH_A_COPY else 0)
        return chosen
    finally:
        for session in sessions.values():
            session.close()


def _choose(measured: list[Plan]) -> Plan:
    """Of the plans as good as the fastest, the largest batch while runs stay short, else the smallest.

    Each hand-over between the event loop and a lane costs the same for one image as for eight.
    """
    fastest = max(plan.images_per_s for plan in measured)
    good = [plan for plan in measured if plan.images_per_s >= fastest * _AS_GOOD]
    short = [plan for plan in good if plan.batch * plan.lanes / plan.images_per_s <= _SHORT_RUN_S]
    if short:
        return max(short, key=lambda plan: plan.batch)
    return min(good, key=lambda plan: plan.batch)


def _may_be_held_twice(path: Path, cores: int) -> bool:
    return cores > 1 and path.stat().st_size <= _LARGEST_SECOND_COPY_BYTES


def _lone_gain(narrow: OnnxSession, wide: OnnxSession, shape: tuple[int, int, int]) -> float:
    """How many times faster one image runs on `wide`, when nothing else runs."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    seconds: dict[OnnxSession, list[float]] = {narrow: [], wide: []}
    for turn in range(_LONE_RUNS):
        if turn >= _LEAST_LONE_RUNS and sum(map(sum, seconds.values())) > _LONE_TRIAL_S:
            break
        for session in (narrow, wide):
            started_s = time.perf_counter()
            session.run(pixels, _nobody_stops)
            seconds[session].append(time.perf_counter() - started_s)
    return median(seconds[narrow]) / median(seconds[wide])


def _images_per_s(session: OnnxSession, plan: Plan, shape: tuple[int, int, int]) -> float:
    pixels = np.random.default_rng(0).integers(0, 256, (plan.batch, *shape), np.uint8)
    session.run(pixels, _nobody_stops)  # warm-up: the first run of a shape plans its memory
    counts = [0] * plan.lanes
    failures: list[AppError] = []
    started_s = time.perf_counter()

    def run_lane(lane: int) -> None:
        try:
            _lane(session, pixels, counts, lane, started_s)
        except AppError as error:
            failures.append(error)

    threads = [Thread(target=run_lane, args=(lane,)) for lane in range(plan.lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) * plan.batch / (time.perf_counter() - started_s)


def _lane(
    session: OnnxSession, pixels: NDArray[np.uint8], counts: list[int], lane: int, started_s: float
) -> None:
    while not counts[lane] or not _is_enough(counts, time.perf_counter() - started_s):
        session.run(pixels, _nobody_stops)
        counts[lane] += 1


def _is_enough(counts: list[int], seconds: float) -> bool:
    return seconds > (_SHORT_TRIAL_S if min(counts) >= _ENOUGH_RUNS else _TRIAL_S)


def _nobody_stops(_: Callable[[], None]) -> bool:
    return True
