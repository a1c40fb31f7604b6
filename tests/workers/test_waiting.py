import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from workers.waiting import Clocks, Waiting

CORES = frozenset({0, 1})


def cores_used_by_others(number: float) -> Callable[[frozenset[int]], Clocks]:
    ticks = itertools.count()

    def read(cores: frozenset[int]) -> Clocks:
        wall_s = float(next(ticks))
        return Clocks(wall_s=wall_s, idle_s=wall_s * (len(cores) - number), own_s=0.0)

    return read


@contextmanager
def waiting(others: float, *, cores: frozenset[int] = CORES) -> Iterator[Waiting]:
    with Waiting(cores=cores, read=cores_used_by_others(others), every_s=0.01) as watched:
        yield watched


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def becomes_asleep(watched: Waiting) -> bool:
    until_s = time.monotonic() + 5
    while not watched.is_asleep and time.monotonic() < until_s:
        time.sleep(0.01)
    return watched.is_asleep


def stays_awake(watched: Waiting) -> bool:
    time.sleep(0.2)
    return not watched.is_asleep


def test_threads_sleep_while_others_use_the_cores():
    with waiting(1.0) as watched:
        assert becomes_asleep(watched)
    assert not watched.is_asleep


@pytest.mark.parametrize(
    ("others", "cores"),
    [
        pytest.param(0.0, CORES, id="idle"),
        pytest.param(0.2, CORES, id="a little beside"),
        pytest.param(1.0, frozenset(range(4)), id="cores are left"),
    ],
)
def test_threads_spin_while_their_cores_are_free(others, cores):
    with waiting(others, cores=cores) as watched:
        assert stays_awake(watched)


def test_one_thread_waits_for_nobody_until_there_are_more():
    torch.set_num_threads(1)
    with waiting(2.0) as watched:
        assert stays_awake(watched)
        torch.set_num_threads(2)
        assert becomes_asleep(watched)


def test_more_teams_are_owned_where_more_cores_are_left():
    with waiting(5.0, cores=frozenset(range(5))) as watched:  # 2 threads and 4 more exceed 5 cores
        assert becomes_asleep(watched)
        time.sleep(0.2)
        assert sum(thread.name == "idler" for thread in threading.enumerate()) == 4


def test_sleepers_leave_no_threads_behind():
    process = psutil.Process()
    torch.ones(1 << 18).add_(1)  # the team of this thread
    before = process.num_threads()
    for _ in range(5):
        with waiting(1.0) as watched:
            assert becomes_asleep(watched)
    until_s = time.monotonic() + 5
    while process.num_threads() > before and time.monotonic() < until_s:
        time.sleep(0.05)
    assert process.num_threads() <= before


def test_how_threads_wait_does_not_change_bits():
    assert trained_bits() == trained_bits(asleep=True)


def trained_bits(*, asleep: bool = False) -> bytes:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 30 * 30, 5))
    optimizer = torch.optim.AdamW(network.parameters())
    images, targets = torch.randn(16, 3, 32, 32), torch.arange(16) % 5
    with waiting(1.0 if asleep else 0.0) as watched:
        assert becomes_asleep(watched) if asleep else stays_awake(watched)
        for _ in range(5):
            cross_entropy(network(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    return b"".join(one.detach().numpy().tobytes() for one in network.parameters())


def test_a_process_that_keeps_the_cores_busy_is_seen():
    """With the system's own clocks: the processes beside need all cores."""
    with contended(), Waiting(every_s=0.2) as watched:
        torch.set_num_threads(max(2, psutil.cpu_count() or 2))
        assert becomes_asleep(watched)


@contextmanager
def contended() -> Iterator[None]:
    busy = [psutil.Popen(["python3", "-c", "while True: pass"]) for _ in range(psutil.cpu_count() or 2)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
