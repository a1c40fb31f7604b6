"""What was measured over the steps, thinned so that a report stays small however long the run was."""

from collections.abc import Iterable, Mapping
from math import isfinite

import numpy as np
from pydantic import BaseModel, ConfigDict

POINTS = 400
"""Most points of a curve; more than a screen can show."""


class Curve(BaseModel):
    """One measured quantity. Steps ascend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[int, ...]
    values: tuple[float, ...]


def curves_of(rows: Iterable[tuple[int, Mapping[str, float]]], *, points: int = POINTS) -> dict[str, Curve]:
    """The curves of (step, values by name) rows, by name in the order they first come.

    Rows may come in any order; a step that comes again replaces what it said before. A curve of more than
    `points` points becomes the means of so many runs of neighbours, each at its last step. What is not
    finite is left out.
    """
    found: dict[str, dict[int, float]] = {}
    for step, values in rows:
        for name, value in values.items():
            if isfinite(value):
                found.setdefault(name, {})[step] = float(value)
    return {name: _thinned(by_step, points) for name, by_step in found.items()}


def _thinned(by_step: Mapping[int, float], points: int) -> Curve:
    steps = sorted(by_step)
    values = [by_step[step] for step in steps]
    if len(steps) > points:
        values = [float(part.mean()) for part in np.array_split(values, points)]
        steps = [int(part[-1]) for part in np.array_split(steps, points)]
    return Curve(steps=tuple(steps), values=tuple(values))
