"""How long runs of two graphs take, in one process and in turns, so that a slow moment of the machine
meets both.
"""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from models.export.served import ServedSession
from models.manifest import Pace

_ROUNDS = 15
_LEAST_ROUNDS = 5
_ENOUGH_S = 8.0
"""Of one number of threads and one batch; slow graphs get fewer rounds."""


def measure_paces(
    graphs: tuple[Path, Path],
    *,
    shape: tuple[int, int, int],
    cores: int,
    batches: Collection[int],
    before_each: Callable[[], None],
) -> tuple[Pace, ...]:
    """Medians of both, (before, after), with one thread and with all cores, for each batch.

    `shape`: (H, W, 3); the pixels are random. `before_each` is called before runs, and may raise.
    """
    paces = []
    random = np.random.default_rng(0)
    for threads in sorted({1, cores}):
        sessions = [ServedSession(graph, threads=threads) for graph in graphs]
        for batch in sorted(set(batches)):
            pixels = random.integers(0, 256, (batch, *shape), np.uint8)
            before_s, after_s = _in_turns(sessions, pixels, before_each)
            paces.append(
                Pace(
                    threads=threads,
                    batch=batch,
                    before_ms=round(before_s * 1e3, 3),
                    after_ms=round(after_s * 1e3, 3),
                )
            )
    return tuple(paces)


def gain(paces: Collection[Pace]) -> float:
    """How many times as many pictures per second, each graph where it gives the most: runs of one thread
    side by side on all cores, or one run on all cores.
    """
    cores = max(pace.threads for pace in paces)
    before_s = min(pace.before_ms / pace.batch / (cores // pace.threads) for pace in paces)
    after_s = min(pace.after_ms / pace.batch / (cores // pace.threads) for pace in paces)
    return before_s / after_s


def _in_turns(
    sessions: list[ServedSession], pixels: NDArray[np.uint8], before_each: Callable[[], None]
) -> list[float]:
    """Median seconds of each. Who goes first changes from round to round."""
    for session in sessions:
        before_each()
        session.run(pixels)  # the first run of a shape plans its memory
    seconds: list[list[float]] = [[] for _ in sessions]
    ends_s = time.perf_counter() + _ENOUGH_S
    for turn in range(_ROUNDS):
        if turn >= _LEAST_ROUNDS and time.perf_counter() > ends_s:
            break
        order = range(len(sessions))
        for index in order if turn % 2 else reversed(order):
            before_each()
            started_s = time.perf_counter()
            sessions[index].run(pixels)
            seconds[index].append(time.perf_counter() - started_s)
    return [median(each) for each in seconds]
