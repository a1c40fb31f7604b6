"""Every schedule against its formula."""

import math

import pytest

from models.catalogue import CATALOGUE, Kind


def cosine_restarts(x):
    """Sevenths: one, two and four of them."""
    begin, length = (0, 1) if 7 * x < 1 else (1, 2) if 7 * x < 3 else (3, 4)
    return math.cos(math.pi / 2 * (7 * x - begin) / length) ** 2


FORMULAS = {
    "constant": lambda x: 1.0,
    "linear": lambda x: 1 - x,
    "cosine": lambda x: 0.5 + 0.5 * math.cos(math.pi * x),
    "cosine_restarts": cosine_restarts,
    "step": lambda x: 1.0 if x < 0.5 else 0.1 if x < 0.75 else 0.01,
    "exponential": lambda x: math.exp(x * math.log(0.01)),
    "polynomial": lambda x: (1 - x) * (1 - x),
}


def rates(method, total_steps, **parameters):
    row = CATALOGUE.get(Kind.SCHEDULE, method)
    rate = row.build()(row.parameters.model_validate(parameters), total_steps=total_steps)
    return [rate(step) for step in range(total_steps)]


def test_every_schedule_of_the_catalogue_has_a_formula_here():
    assert sorted([*FORMULAS, "one_cycle"]) == sorted(row.id for row in CATALOGUE.find(kind=Kind.SCHEDULE))
    assert len(FORMULAS) + 1 == 8


@pytest.mark.parametrize("method", FORMULAS)
@pytest.mark.parametrize("warm", [0, 1, 5])
def test_rises_in_a_line_then_follows_its_formula(method, warm):
    total = 45
    expected = [(step + 1) / (warm + 1) for step in range(warm)]
    expected += [FORMULAS[method](step / (total - warm)) for step in range(total - warm)]
    assert rates(method, total, warmup_steps=warm) == pytest.approx(expected)
    assert rates(method, total, warmup_share=warm / total) == pytest.approx(expected)


def test_one_cycle_goes_up_and_down_once():
    both = rates("one_cycle", 100)
    assert both[0] == pytest.approx(0.04)
    assert both[15] == pytest.approx(0.52)
    assert both[30] == 1.0
    assert both[65] == pytest.approx(0.5, abs=1e-5)
    assert 0 < both[99] < 0.001
    assert both[:31] == sorted(both[:31])
    assert both[30:] == sorted(both[30:], reverse=True)


@pytest.mark.parametrize(
    ("cycles", "growth", "begins"), [(4, 1, [0, 25, 50, 75]), (2, 3, [0, 25]), (1, 2, [0])]
)
def test_warm_restarts_begin_at_the_full_rate_again(cycles, growth, begins):
    shares = rates("cosine_restarts", 100, warmup_steps=0, cycles=cycles, growth=growth)
    assert [step for step, share in enumerate(shares) if share == 1.0] == begins
    rises = [step for step in range(1, 100) if shares[step] > shares[step - 1]]
    assert rises == begins[1:]


@pytest.mark.parametrize("method", ["linear", "cosine", "cosine_restarts", "polynomial"])
def test_falls_no_deeper_than_its_floor(method):
    assert min(rates(method, 1000, floor_share=0.2, warmup_steps=0)) == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("row", CATALOGUE.find(kind=Kind.SCHEDULE), ids=lambda row: row.id)
@pytest.mark.parametrize("total", [1, 2, 3, 17])
def test_any_number_of_steps_and_any_warm_up_has_a_step_at_the_full_rate(row, total):
    for warmup_steps in (0, 1, 100):
        shares = rates(row.id, total, warmup_steps=warmup_steps)
        assert max(shares) == 1.0
        assert min(shares) > 0
