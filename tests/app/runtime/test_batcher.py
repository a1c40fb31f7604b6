"""The queue of one engine, driven without threads: each test plays the lanes itself."""

import threading
import time

import pytest

from app.errors import DeadlineExceeded, Overloaded
from app.observability.metrics import Metrics
from app.runtime.batcher import Batcher, Member
from app.runtime.fair_queue import FairQueue


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
    with pytest.raises(Overloaded):
        offer()
    batcher.release()
    offer()
    with pytest.raises(Overloaded):
        offer()


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


@pytest.fixture
def offer_window(batcher, clock, resolved):
    def offer_window(side, *, full=64):
        member = Member(b"", deadline_s=clock.now_s + 10, asked=None, resolved=resolved.append)
        member.shape = (side, side, 3)
        member.cost = side**2 / full**2
        batcher.offer(member)
        return member

    return offer_window


def test_a_batch_has_windows_of_one_size_and_the_others_keep_their_order(batcher, offer_window):
    first, other, second, last = (offer_window(side) for side in (64, 32, 64, 16))
    assert batcher.take(4).members == [first, second]
    assert batcher.take(4).members == [other]
    assert batcher.take(4).members == [last]


def test_small_windows_count_by_their_pixels(batcher, offer_window):
    small = [offer_window(32) for _ in range(8)]
    batch = batcher.take(1)
    assert batch.members == small[:4]
    assert {member.batch_limit for member in batch.members} == {4}
    assert batcher.take(1).members == small[4:]
    large = [offer_window(64) for _ in range(2)]
    assert batcher.take(1).members == large[:1]


def test_a_window_larger_than_the_limit_runs_alone(batcher, offer_window):
    huge, next_ = offer_window(128), offer_window(128)
    assert batcher.take(1).members == [huge]
    assert batcher.take(1).members == [next_]


@pytest.fixture
def offer_for(batcher, clock, resolved):
    def offer_for(caller, cost=1.0):
        member = Member(b"", deadline_s=clock.now_s + 10, asked=None, resolved=resolved.append)
        member.caller, member.cost, member.shape = caller, cost, (cost,)
        batcher.offer(member)
        return member

    return offer_for


def test_callers_take_turns_however_many_members_one_has_sent(batcher, offer_for):
    many = [offer_for("many") for _ in range(6)]
    few = [offer_for("few") for _ in range(2)]
    taken = [batcher.take(1).members[0] for _ in range(8)]
    assert taken[:4] in ([many[0], few[0], many[1], few[1]], [many[0], few[0], few[1], many[1]])
    assert taken[4:] == many[2:]


def test_turns_are_of_time_and_not_of_members(batcher, offer_for):
    for _ in range(4):
        offer_for("large", cost=1.0)
        offer_for("small", cost=0.25)
    taken = []
    while len(taken) < 5:
        taken += [member.caller for member in batcher.take(1).members]
    assert taken.count("small") == 4


def test_time_that_was_not_used_is_not_saved_up(batcher, offer_for):
    offer_for("rare")
    batcher.take(1)
    for _ in range(6):
        offer_for("steady")
        batcher.take(1)
    waiting = [offer_for("steady") for _ in range(3)]
    back = [offer_for("rare") for _ in range(3)]
    taken = [batcher.take(1).members[0] for _ in range(4)]
    assert set(taken) == {*waiting[:2], *back[:2]}


def test_who_floods_the_queue_is_refused_and_another_still_finds_a_place(batcher, offer_for, clock):
    for _ in range(8):
        offer_for("flood")
    with pytest.raises(Overloaded):
        offer_for("flood")
    for _ in range(4):
        offer_for("other")
    with pytest.raises(Overloaded):
        offer_for("other")
    batcher.completed(members=1, seconds=1.0)
    assert batcher.expected_wait_s("third") < batcher.expected_wait_s("flood")


def test_what_callers_had_is_not_remembered_for_ever():
    queue = FairQueue()

    def come(caller):
        member = Member(b"", deadline_s=0, asked=None, resolved=lambda _: None)
        member.caller = caller
        queue.append(member)

    for _ in range(4000):
        come("always there")
    for number in range(2000):
        come(f"caller-{number}")
        queue.charge(queue.pop().caller, 0.001)
        queue.charge(queue.pop().caller, 0.001)
    assert queue.callers_with(set()) == 1
    assert len(queue._had_s) < 500
