"""A plan is chosen by what the graph does, not by what else the machine did while it was measured."""

import time

import pytest

from app.runtime import plan as plans
from app.runtime.plan import Plan, measure_plan
from tests.colour_models import SIDE, write_colour_model

LANES = {1: 600.0, 2: 640.0, 4: 660.0, 8: 560.0}
"""Two lanes of one thread, images per second by batch: MobileNetV3 on two cores, as once measured."""
THREADS = {1: 280.0, 2: 330.0, 4: 420.0, 8: 440.0}


@pytest.fixture
def graph(tmp_path):
    write_colour_model(tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


class Machine:
    """Measures as it is told; other work takes two thirds of the first trials."""

    def __init__(self, *, busy_trials, lanes=None, threads=None):
        self.trials = 0
        self._busy = busy_trials
        self._paces = {1: lanes or LANES, 2: threads or THREADS}

    def images_per_s(self, session, plan, shape):
        self.trials += 1
        is_busy = self.trials <= self._busy
        pace = self._paces[plan.threads][plan.batch]
        return (pace / 3, 0.6) if is_busy else (pace, 0.97)


def measured(graph, machine, monkeypatch, **options):
    monkeypatch.setattr(plans, "_images_per_s", machine.images_per_s)
    return measure_plan(graph, shape=(SIDE, SIDE, 3), cores=2, max_batch=None, **options)


@pytest.mark.parametrize("busy_trials", [0, 4, 8, 12, 20])
def test_other_work_at_the_beginning_does_not_decide(graph, monkeypatch, busy_trials):
    chosen = measured(graph, Machine(busy_trials=busy_trials), monkeypatch)
    assert (chosen.lanes, chosen.threads, chosen.batch, chosen.images_per_s) == (2, 1, 4, 660.0)


def test_a_machine_that_is_calm_is_asked_twice_and_a_busy_one_four_times(graph, monkeypatch):
    calm, busy = Machine(busy_trials=0), Machine(busy_trials=1000)
    measured(graph, calm, monkeypatch)
    measured(graph, busy, monkeypatch)
    assert (calm.trials, busy.trials) == (2 * 8, 4 * 8)


def test_lanes_decode_beside_each_other_which_threads_of_one_lane_cannot(graph, monkeypatch):
    """So of a graph that is a little quicker by threads, unless its inputs need no decoding."""
    paces = {"lanes": dict.fromkeys(LANES, 600.0), "threads": dict.fromkeys(THREADS, 640.0)}
    with_pictures = measured(graph, Machine(busy_trials=0, **paces), monkeypatch)
    with_windows = measured(graph, Machine(busy_trials=0, **paces), monkeypatch, decode_s=0.0)
    assert (with_pictures.lanes, with_pictures.threads) == (2, 1)
    assert (with_windows.lanes, with_windows.threads) == (1, 2)


def test_the_pace_with_decoding_is_that_of_lanes_that_do_one_after_the_other():
    assert Plan(lanes=2, threads=1, batch=4, images_per_s=500.0).served_per_s(0.00375) == pytest.approx(250.0)
    assert Plan(lanes=1, threads=2, batch=4, images_per_s=500.0).served_per_s(0.00175) == pytest.approx(250.0)


def test_each_batch_is_handed_over_once_however_many_inputs_it_has(graph, monkeypatch):
    """So lone inputs that run a fifth faster than batches do not serve as fast."""
    alone = {"lanes": {1: 720.0, 2: 600.0, 4: 600.0, 8: 500.0}}
    chosen = measured(graph, Machine(busy_trials=0, **alone), monkeypatch)
    assert chosen.batch == 4


def test_of_batches_that_take_long_the_smallest_that_is_nearly_as_good_is_taken(graph, monkeypatch):
    """Whoever comes meanwhile waits for the whole of it."""
    slow = {"lanes": {1: 23.1, 2: 23.1, 4: 25.3, 8: 25.5}, "threads": {1: 23.0, 2: 18.7, 4: 17.6, 8: 19.3}}
    chosen = measured(graph, Machine(busy_trials=0, **slow), monkeypatch)
    assert (chosen.lanes, chosen.batch) == (2, 1)


def test_the_pace_is_that_of_the_median_run(graph, monkeypatch):
    runs = 0

    def seconds(session, pixels):
        nonlocal runs
        runs += 1
        time.sleep(0.005)
        return 0.5 if runs == 1 else 0.01

    monkeypatch.setattr(plans, "_seconds", seconds)
    lane = Plan(lanes=1, threads=1, batch=2)
    session = plans.OnnxSession(graph, threads=1)
    pace, _ = plans._images_per_s(session, lane, (SIDE, SIDE, 3))
    session.close()
    assert pace == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("gains", "lone_threads"),
    [([1.3], 2), ([1.0, 1.3], 2), ([1.0, 1.05], 0)],
    ids=["at once", "later", "never"],
)
def test_whether_lone_inputs_get_all_cores_is_asked_again_before_it_is_denied(
    graph, monkeypatch, gains, lone_threads
):
    told = iter(gains)
    monkeypatch.setattr(plans._Trials, "lone_gain", lambda self, threads, cores: next(told))
    assert measured(graph, Machine(busy_trials=0), monkeypatch).lone_threads == lone_threads
    assert list(told) == []


def test_every_plan_that_was_tried_is_told_once(graph, monkeypatch):
    told = []
    measured(graph, Machine(busy_trials=9), monkeypatch, tell=told.append)
    assert len(told) == 8
    assert {(plan.threads, plan.batch): plan.images_per_s for plan in told} == {
        (threads, batch): pace
        for threads, paces in ((1, LANES), (2, THREADS))
        for batch, pace in paces.items()
    }
