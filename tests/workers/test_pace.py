import pytest

from workers.pace import LEAST_S, WINDOW_S, Pace


def test_what_is_left_follows_from_how_quickly_progress_grew():
    pace = Pace()
    assert pace.remaining_s(0.1, 100.0) is None
    assert pace.remaining_s(0.2, 110.0) == pytest.approx(80.0)
    assert pace.remaining_s(0.3, 120.0) == pytest.approx(70.0)


def test_nothing_is_said_too_early_or_while_nothing_moves():
    pace = Pace()
    pace.remaining_s(0.0, 0.0)
    assert pace.remaining_s(0.5, LEAST_S / 2) is None
    still = Pace()
    still.remaining_s(0.5, 0.0)
    assert still.remaining_s(0.5, 100.0) is None


def test_a_slow_beginning_is_forgotten():
    pace = Pace()
    for second in range(int(WINDOW_S)):
        pace.remaining_s(0.0, float(second))
    for second in range(100):
        left_s = pace.remaining_s(second / 200, WINDOW_S + second)
    assert left_s == pytest.approx(101.0)


def test_progress_that_goes_back_begins_anew():
    pace = Pace()
    pace.remaining_s(0.0, 0.0)
    assert pace.remaining_s(0.8, 10.0) == pytest.approx(2.5)
    assert pace.remaining_s(0.1, 20.0) is None
    assert pace.remaining_s(0.2, 30.0) == pytest.approx(80.0)
