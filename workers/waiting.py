"""How the threads of a job's child wait for each other: spinning on free cores, asleep on crowded ones.

Torch divides a step among OpenMP's threads, which meet hundreds of times a step. Those that are there first
spin, which on free cores is nearly twice as fast as sleeping (`benchmarks/waiting`). On a core that others
use too, the one that is waited for does not get to run while another spins: a step is then ten times slower.

libgomp decides anew at each meeting, and does not spin when it manages more threads than there are cores. So
while others use the cores, a few idle threads here own teams of OpenMP threads, which are idle too. Into how
many parts torch divides a step stays as it was, and so do its bits.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import psutil

_EVERY_S = 0.5
_CROWDED = 0.35
"""Cores that others use, beyond those that the child leaves free, from which on sleeping is faster."""
_ELEMENTS = 1 << 18
"""Of a tensor that is large enough for torch to divide."""


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """Seconds that have passed, that this process's cores were idle, and that it used itself."""

    wall_s: float
    idle_s: float
    own_s: float

    @classmethod
    def read(cls, cores: frozenset[int]) -> Self:
        """Of now."""
        times = psutil.cpu_times(percpu=True)
        return cls(
            wall_s=time.monotonic(),
            idle_s=sum(each.idle + each.iowait for core, each in enumerate(times) if core in cores),
            own_s=time.process_time(),
        )


class Waiting:
    """A context manager that watches the cores, and lets OpenMP's threads sleep while others use them."""

    def __init__(
        self,
        *,
        cores: frozenset[int] | None = None,
        read: Callable[[frozenset[int]], Clocks] = Clocks.read,
        every_s: float = _EVERY_S,
    ) -> None:
        """`cores`: those that this process may use, unless told otherwise."""
        self._cores = frozenset(os.sched_getaffinity(0)) if cores is None else cores
        self._read = read
        self._every_s = every_s
        self._is_over = threading.Event()
        self._leave = threading.Event()
        self._idlers: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._watch, name="waiting", daemon=True)

    @property
    def is_asleep(self) -> bool:
        """Do they sleep?"""
        return bool(self._idlers)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._spin()

    def _watch(self) -> None:
        before = self._read(self._cores)
        while not self._is_over.wait(self._every_s):
            now = self._read(self._cores)
            self._heed(self._others(before, now))
            before = now

    def _others(self, before: Clocks, now: Clocks) -> float:
        """Cores that were used by others, the host of a virtual machine too."""
        passed_s = now.wall_s - before.wall_s
        used_s = len(self._cores) * passed_s - (now.idle_s - before.idle_s)
        return (used_s - (now.own_s - before.own_s)) / passed_s

    def _heed(self, others: float) -> None:
        if "torch" not in sys.modules:  # nobody waits
            return
        threads = _torch_threads() if others > _CROWDED else 1
        free = len(self._cores) - threads
        if threads > 1 and others > free + _CROWDED:
            self._sleep(1 + free // (threads - 1))
        else:
            self._spin()

    def _sleep(self, teams: int) -> None:
        while len(self._idlers) < teams:
            idler = threading.Thread(target=self._idle, args=(self._leave,), name="idler", daemon=True)
            idler.start()
            self._idlers.append(idler)

    def _spin(self) -> None:
        self._leave.set()
        self._leave = threading.Event()
        self._idlers.clear()

    @staticmethod
    def _idle(leave: threading.Event) -> None:
        """Own a team until told to leave."""
        import torch  # noqa: PLC0415 - it is there

        torch.ones(_ELEMENTS).add_(1)
        leave.wait()


def _torch_threads() -> int:
    """Into how many parts torch divides work. A new thread asks: one that asked before keeps its answer."""
    told: list[int] = []

    def ask() -> None:
        import torch  # noqa: PLC0415 - it is there; and waits until it is whole

        told.append(torch.get_num_threads())

    thread = threading.Thread(target=ask, name="asks torch", daemon=True)
    thread.start()
    thread.join()
    return told[0]
