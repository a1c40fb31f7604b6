"""The queue of one engine, driven without threads: each test plays the lanes itself."""

import threading
import time

import pytest

from app.errors import DeadlineExceeded, Overloaded
from app.observability.metrics import Metrics
from app.runtime.batcher import Batcher, Member


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def resolved():
    return []


@pytest.fixture
def batcher(clock, metrics):
    return Batcher(capacity=8, lanes=1, metrics=metrics.for_model("net"), clock=clock)


@pytest.fixture
def offer(batcher, clock, resolved):
    def offer(*, seconds=10.0):
        member = Member(b"picture", deadline_s=clock.now_s + seconds, asked=1, resolved=resolved.append)
        batcher.offer(member)
        return member

    return offer


def counted(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, {"model": "net", **labels})


def test_a_batch_is_what_waits_up_to_the_limit(batcher, offer):
    members = [offer() for _ in range(5)]
    assert batcher.take(4).members == members[:4]
    assert batcher.take(4).members == members[4:]


def test_one_more_than_the_capacity_is_refused_at_once_with_an_honest_time(batcher, offer, metrics):
    batcher.completed(members=1, seconds=0.5)
    for _ in range(8):
        offer()
    with pytest.raises(Overloaded) as refusal:
        offer()
    assert refusal.value.retry_after_s == pytest.approx(9 * 0.5)
    assert len(batcher) == 8
    assert counted(metrics, "athanor_refusals_total", reason="overloaded") == 1


def test_a_deadline_that_cannot_be_met_is_refused_at_the_door(batcher, offer, clock):
    batcher.completed(members=1, seconds=0.5)
    for _ in range(4):
        offer()
    batcher.admit(clock.now_s + 3.0)
    with pytest.raises(DeadlineExceeded):
        batcher.admit(clock.now_s + 2.0)


def test_a_member_whose_deadline_passed_in_the_queue_is_told_so_and_takes_no_place(
    batcher, offer, clock, resolved
):
    late, alive = offer(seconds=1.0), offer(seconds=10.0)
    clock.now_s += 2.0
    assert batcher.take(4).members == [alive]
    assert resolved == [late]
    assert late.error.code == "deadline_exceeded"
    assert alive.error is None


def test_a_cancelled_member_frees_its_place_before_the_batch(batcher, offer, metrics):
    first, gone, last = offer(), offer(), offer()
    batcher.cancel(gone)
    assert len(batcher) == 2
    assert batcher.take(4).members == [first, last]
    assert counted(metrics, "athanor_cancelled_total", stage="queued") == 1


def test_a_run_is_stopped_only_when_its_last_member_has_gone(batcher, offer, metrics):
    one, two = offer(), offer()
    batch = batcher.take(4)
    stopped = []
    assert batch.running(lambda: stopped.append(True))
    batcher.cancel(one)
    assert not stopped
    batcher.cancel(two)
    assert stopped
    assert counted(metrics, "athanor_cancelled_total", stage="running") == 1
    assert counted(metrics, "athanor_cancelled_total", stage="terminated") == 1


def test_a_batch_that_everybody_left_before_its_run_does_not_run(batcher, offer):
    member = offer()
    batch = batcher.take(4)
    batcher.cancel(member)
    assert not batch.running(lambda: None)


def test_cancelling_twice_counts_once(batcher, offer, metrics):
    member, _ = offer(), offer()
    batcher.take(4)
    batcher.cancel(member)
    batcher.cancel(member)
    assert counted(metrics, "athanor_cancelled_total", stage="running") == 1


def test_a_settled_member_keeps_its_first_outcome(offer):
    member = offer()
    member.answer("cat")
    member.fail(Overloaded("too late"))
    assert (member.result, member.error) == ("cat", None)


def test_a_reserved_place_counts_until_it_is_released(batcher, offer):
    batcher.reserve()
    for _ in range(7):
        offer()
    assert batcher.is_full
    batcher.release()
    assert not batcher.is_full


def test_free_lanes_share_what_waits(offer, batcher):
    """Two lanes wait; four members come at once: each lane takes two, not one lane all four."""
    taken = []

    def lane():
        taken.append(len(batcher.take(4).members))

    lanes = [threading.Thread(target=lane) for _ in range(2)]
    for thread in lanes:
        thread.start()
    while len(batcher._gates) < 2:  # both are waiting
        time.sleep(0.001)
    gates, batcher._gates = batcher._gates, []  # nobody is woken before all four are there
    for _ in range(4):
        offer()
    for gate in gates:
        gate.release()
    for thread in lanes:
        thread.join(5)
    assert taken == [2, 2]


def test_a_closed_batcher_gives_out_what_waits_and_then_ends(batcher, offer):
    member = offer()
    batcher.close()
    assert batcher.take(4).members == [member]
    assert batcher.take(4) is None
    with pytest.raises(Overloaded):
        offer()
