"""Learning rates as functions of the step alone, as shares of the highest. Torch-free.

steps 0 .. w - 1    warm-up: (step + 1) / (w + 1), so that step w is the first at the full rate
steps w .. T - 1    the fall, as a function of (step - w) / (T - w): the last step still moves a little
"""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from math import cos, pi

from models.catalogue import Parameters
from models.catalogue import schedules as told

Rate = Callable[[int], float]


def build_constant(parameters: Parameters, *, total_steps: int) -> Rate:
    """The full rate throughout."""
    return _warmed(parameters, total_steps, lambda _: 1.0)


def build_linear(parameters: Parameters, *, total_steps: int) -> Rate:
    """floor + (1 - floor) (1 - x)"""
    assert isinstance(parameters, told.Falling)
    floor = parameters.floor_share
    return _warmed(parameters, total_steps, lambda x: floor + (1 - floor) * (1 - x))


def build_cosine(parameters: Parameters, *, total_steps: int) -> Rate:
    """floor + (1 - floor) (1 + cos πx) / 2"""
    assert isinstance(parameters, told.Falling)
    floor = parameters.floor_share
    return _warmed(parameters, total_steps, lambda x: floor + (1 - floor) * (1 + cos(pi * x)) / 2)


def build_cosine_restarts(parameters: Parameters, *, total_steps: int) -> Rate:
    """floor + (1 - floor) (1 + cos πz) / 2, z from 0 to 1 in each of the cycles.

    Cycle i = 0 .. n - 1 takes growth^i / Σ_j growth^j of the steps after the warm-up, so that the last ends
    with the training.
    """
    assert isinstance(parameters, told.Restarting)
    floor = parameters.floor_share
    lengths = [parameters.growth**cycle for cycle in range(parameters.cycles)]
    # Quotients of integers, as x is: a step at a border falls into the cycle that begins there.
    borders = [border / sum(lengths) for border in accumulate(lengths, initial=0)]

    def fall(x: float) -> float:
        cycle = bisect_right(borders, x) - 1
        z = (x - borders[cycle]) / (borders[cycle + 1] - borders[cycle])
        return floor + (1 - floor) * (1 + cos(pi * z)) / 2

    return _warmed(parameters, total_steps, fall)


def build_polynomial(parameters: Parameters, *, total_steps: int) -> Rate:
    """floor + (1 - floor) (1 - x)^power"""
    assert isinstance(parameters, told.Polynomial)
    floor, power = parameters.floor_share, parameters.power
    return _warmed(parameters, total_steps, lambda x: floor + (1 - floor) * float((1 - x) ** power))


def build_step(parameters: Parameters, *, total_steps: int) -> Rate:
    """factor^(number of places passed)"""
    assert isinstance(parameters, told.Stepwise)
    places, factor = sorted(parameters.at_shares), parameters.factor
    return _warmed(parameters, total_steps, lambda x: float(factor ** bisect_right(places, x)))


def build_exponential(parameters: Parameters, *, total_steps: int) -> Rate:
    """final^x"""
    assert isinstance(parameters, told.Exponential)
    final = parameters.final_share
    return _warmed(parameters, total_steps, lambda x: float(final**x))


def build_one_cycle(parameters: Parameters, *, total_steps: int) -> Rate:
    """start → 1 → final, each way half a cosine."""
    assert isinstance(parameters, told.OneCycle)
    warm = _warmup_steps(parameters, total_steps)
    start, final = parameters.start_share, parameters.final_share

    def rate(step: int) -> float:
        if step < warm:
            return start + (1 - start) * (1 - cos(pi * step / warm)) / 2
        return final + (1 - final) * (1 + cos(pi * (step - warm) / (total_steps - warm))) / 2

    return rate


def _warmed(parameters: Parameters, total_steps: int, fall: Callable[[float], float]) -> Rate:
    assert isinstance(parameters, told.Warmed)
    warm = _warmup_steps(parameters, total_steps)

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return fall((step - warm) / (total_steps - warm))

    return rate


def _warmup_steps(parameters: told.Warmed, total_steps: int) -> int:
    """At least one step is left for the full rate."""
    wanted = parameters.warmup_steps
    if wanted is None:
        wanted = round(parameters.warmup_share * total_steps)
    return max(0, min(wanted, total_steps - 1))
