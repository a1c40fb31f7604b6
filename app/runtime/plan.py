"""How many lanes, threads and inputs per batch serve a graph fastest here: measured once, then stored.

Small graphs scale by lanes (one thread each), large ones sometimes by threads; which, and from what
batch size on, differs per graph and machine. A short measurement at first load decides and the row in
`tunings` remembers, keyed by the model file's hash and the machine.

    passes over the grid, lanes and threads in turns ─► the best of each ─► and decoding, ─► the plan
      └ again, if other work took processor time                            hand-over

A first load often falls into a start, when other processes are busy: a plan that was measured against them
would be kept for good.
"""

import hashlib
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError, OutOfMemory
from app.registry.snapshot import ServingOptions
from app.runtime.providers import ON_CPU, Providers
from app.runtime.session import OnnxSession, runtime_name
from models.manifest import Manifest

_TRIAL_S = 0.12
"""Time per candidate and pass, seconds. Each lane runs at least once a pass."""
_SHORT_TRIAL_S = 0.02
_ENOUGH_RUNS = 100
"""By each lane: of graphs so small that it has made them by then, a short trial says enough."""
_PASSES = 2
"""At least. The better one counts: a machine that is shared has slow moments."""
_MOST_PASSES = 4
"""Until one was calm."""
_CALM = 0.9
"""Share of their cores that lanes of one thread get when nothing else runs."""
_DECODE_S = 0.002
"""What it takes a lane to decode a photograph of 512 x 512 pixels, about."""
_HAND_OVER_S = 0.001
"""What a batch costs besides, however many inputs it has: lanes and the event loop are woken, and have their
caches full of something else. About, and rather less than this: docs/costs.md."""
_AS_GOOD = 0.95
"""Of the fastest: two trials of one plan differ by as much, and more."""
_AS_GOOD_FOR_LESS = 0.9
"""Of the fastest, where all such runs are long: whoever comes meanwhile waits for a whole batch."""
_SHORT_RUN_S = 0.05
_WORTH_A_COPY = 1.1
"""A session of all cores for lone inputs must be this much faster, for it holds the weights again."""
_LARGEST_SECOND_COPY_BYTES = 512 * 2**20
_LONE_TRIES = 2
"""All cores are to be free for it: if they were not, it looks worth less than it is."""
_LONE_RUNS = 15
_LEAST_LONE_RUNS = 2
_LONE_TRIAL_S = 0.5
"""Of runs that take long a few say enough: once comparing has taken this long, seconds, it ends."""
_METHOD = "5"
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

    def served_per_s(self, decode_s: float) -> float:
        """Inputs per second where a lane takes a batch, decodes its pictures, one after the other, and runs
        it."""
        return self.lanes / (self.run_s() + decode_s + _HAND_OVER_S / self.batch)

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


def full_shape(manifest: Manifest) -> tuple[int, int, int]:
    """(H, W, 3) of one input, or of the largest window."""
    return manifest.preprocessing.height, manifest.preprocessing.width, 3


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
    """The grid that is tried: all cores as lanes of one thread, or as one lane of all threads, in turns.

    With a GPU one lane, or two, of which one decodes while the other computes.
    """
    on_cpu = [(cores, 1)] if cores == 1 else [(cores, 1), (1, cores)]
    shapes = [(1, 1), (2, 1)] if is_accelerated else on_cpu
    grid = (1, 4, 16, 32, MOST_ON_GPU) if is_accelerated else (1, 2, 4, 8)
    sizes = [size for size in grid if max_batch is None or size <= max_batch]
    return [Plan(lanes=lanes, threads=threads, batch=size) for size in sizes for lanes, threads in shapes]


def _tell_nobody(plan: Plan) -> None:
    """Nobody wants to know."""


def measure_plan(
    path: Path,
    *,
    shape: tuple[int, int, int],
    cores: int,
    max_batch: int | None,
    decode_s: float = _DECODE_S,
    tell: Callable[[Plan], None] = _tell_nobody,
    providers: Providers = ON_CPU,
) -> Plan:
    """Try the grid on random pixels of `shape` (H, W, 3) and return the plan that serves best, where a lane
    takes `decode_s` for the picture of each input. `tell` hears of each plan that was tried.

    Raises:
        NotServable, InferenceFailed: the graph does not load, or cannot run.
        OutOfMemory: not even one input at a time.

    """
    trials = _Trials(path, shape, providers)
    try:
        plans = candidates(cores, max_batch, is_accelerated=providers.is_accelerated)
        was_calm = False
        for turn in range(_MOST_PASSES):
            was_calm |= trials.is_calm_pass(plans)
            if was_calm and turn + 1 >= _PASSES:
                break
        for plan in trials.measured:
            tell(plan)
        chosen = _choose(trials.measured, decode_s)
        held_twice = not providers.is_accelerated and _may_be_held_twice(path, cores)
        if held_twice and chosen.threads < cores:
            gains = (trials.lone_gain(chosen.threads, cores) for _ in range(_LONE_TRIES))
            is_worth_it = any(gain >= _WORTH_A_COPY for gain in gains)
            return replace(chosen, lone_threads=cores if is_worth_it else 0)
        return chosen
    finally:
        trials.close()


def measure_for(
    manifest: Manifest,
    path: Path,
    *,
    cores: int,
    tell: Callable[[Plan], None] = _tell_nobody,
    providers: Providers = ON_CPU,
) -> Plan:
    """`measure_plan` for the inputs that a manifest states; windows have been decoded when they come."""
    return measure_plan(
        path,
        shape=full_shape(manifest),
        cores=cores,
        max_batch=manifest.max_batch,
        decode_s=_DECODE_S if manifest.tiles is None else 0.0,
        tell=tell,
        providers=providers,
    )


class _Trials:
    """Sessions of one graph by their threads, and the best that was measured of each plan."""

    def __init__(self, path: Path, shape: tuple[int, int, int], providers: Providers) -> None:
        self._path, self._shape, self._providers = path, shape, providers
        self._sessions: dict[int, OnnxSession] = {}
        self._best: dict[Plan, float] = {}
        self._too_large: set[Plan] = set()

    @property
    def measured(self) -> list[Plan]:
        """Every plan that was tried, with its pace."""
        return [replace(plan, images_per_s=pace) for plan, pace in self._best.items()]

    def is_calm_pass(self, plans: Sequence[Plan]) -> bool:
        """Try each plan once. False: other work took processor time meanwhile.

        Raises as `measure_plan` does.
        """
        is_calm = True
        for plan in plans:
            best = max(self._best.values(), default=0.0)
            if plan in self._too_large or (best and plan.batch * plan.lanes / best > _LONGEST_RUN_S):
                continue
            try:
                pace, share = _images_per_s(self._session(plan.threads), plan, self._shape)
            except OutOfMemory:
                if not self._best:
                    raise
                self._too_large.add(plan)  # a smaller batch, or fewer at once, will do
                continue
            self._best[plan] = max(pace, self._best.get(plan, 0.0))
            # Of more threads some wait for others; on a GPU the processor waits.
            if plan.threads == 1 and plan.lanes > 1 and not self._providers.is_accelerated:
                is_calm &= share >= _CALM
        return is_calm

    def lone_gain(self, threads: int, cores: int) -> float:
        """How many times faster one image runs on all cores, when nothing else runs: the median of runs in
        turns."""
        narrow, wide = self._session(threads), OnnxSession(self._path, threads=cores, spins=True)
        pixels = np.random.default_rng(0).integers(0, 256, (1, *self._shape), np.uint8)
        gains: list[float] = []
        until_s = time.perf_counter() + _LONE_TRIAL_S
        try:
            while len(gains) < _LONE_RUNS and (
                len(gains) < _LEAST_LONE_RUNS or time.perf_counter() < until_s
            ):
                gains.append(_seconds(narrow, pixels) / _seconds(wide, pixels))
        finally:
            wide.close()
        return median(gains)

    def close(self) -> None:
        """Give the memory back."""
        for session in self._sessions.values():
            session.close()

    def _session(self, threads: int) -> OnnxSession:
        if threads not in self._sessions:
            self._sessions[threads] = OnnxSession(self._path, threads=threads, providers=self._providers)
        return self._sessions[threads]


def _choose(measured: list[Plan], decode_s: float) -> Plan:
    """Of the plans with short runs that serve about as fast as the fastest of all, the largest batch. If
    there are none, the smallest batch of the plans that are a tenth slower at most.
    """
    paces = {plan: plan.served_per_s(decode_s) for plan in measured}
    fastest = max(paces.values())
    short = [plan for plan in measured if plan.run_s(plan.batch) <= _SHORT_RUN_S]
    if good := [plan for plan in short if paces[plan] >= fastest * _AS_GOOD]:
        return max(good, key=lambda plan: (plan.batch, paces[plan]))
    good = [plan for plan in measured if paces[plan] >= fastest * _AS_GOOD_FOR_LESS]
    return min(good, key=lambda plan: (plan.batch, -paces[plan]))


def _may_be_held_twice(path: Path, cores: int) -> bool:
    return cores > 1 and path.stat().st_size <= _LARGEST_SECOND_COPY_BYTES


def _seconds(session: OnnxSession, pixels: NDArray[np.uint8]) -> float:
    started_s = time.perf_counter()
    session.run(pixels, _nobody_stops)
    return time.perf_counter() - started_s


def _images_per_s(session: OnnxSession, plan: Plan, shape: tuple[int, int, int]) -> tuple[float, float]:
    """The pace by the median run, and the share of their time in which lanes computed; 1 where the trial was
    short: then they wait for each other's Python."""
    pixels = np.random.default_rng(0).integers(0, 256, (plan.batch, *shape), np.uint8)
    session.run(pixels, _nobody_stops)  # warm-up: the first run of a shape plans its memory
    runs: list[list[float]] = [[] for _ in range(plan.lanes)]
    shares: list[float] = []
    failures: list[AppError] = []
    started_s = time.perf_counter()

    def run_lane(lane: int) -> None:
        try:
            shares.append(_lane(session, pixels, runs, lane, started_s))
        except AppError as error:
            failures.append(error)

    threads = [Thread(target=run_lane, args=(lane,)) for lane in range(plan.lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    pace = plan.lanes * plan.batch / median(chain.from_iterable(runs))
    return pace, 1.0 if min(map(len, runs)) >= _ENOUGH_RUNS else min(shares)


def _lane(
    session: OnnxSession, pixels: NDArray[np.uint8], runs: list[list[float]], lane: int, started_s: float
) -> float:
    """Run until it is enough, noting the seconds of each run; the share of that time that this thread
    computed."""
    own = runs[lane]
    begun_s, used_s = time.perf_counter(), time.thread_time()
    while not own or not _is_enough(runs, time.perf_counter() - started_s):
        own.append(_seconds(session, pixels))
    return (time.thread_time() - used_s) / (time.perf_counter() - begun_s)


def _is_enough(runs: list[list[float]], seconds: float) -> bool:
    return seconds > (_SHORT_TRIAL_S if min(map(len, runs)) >= _ENOUGH_RUNS else _TRIAL_S)


def _nobody_stops(_: Callable[[], None]) -> bool:
    return True
