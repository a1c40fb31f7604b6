"""Whether a score of 80 % is right four times in five: reliability diagram and histogram of the scores."""

from collections.abc import Sequence
from math import sqrt

from models.evaluate.classification import CalibrationBin
from models.evaluate.markup import Markup, joined, tag
from models.evaluate.quantities import percent, pictures

_WIDTH, _HEIGHT = 360, 352
_LEFT, _RIGHT, _TOP = 44, 10, 10
_SIDE = _WIDTH - _LEFT - _RIGHT - 40
"""Of the square, pixels."""
_HISTOGRAM = 40


def reliability_plot(bins: Sequence[CalibrationBin]) -> Markup:
    """Bars: how many of a bin were right. Ticks: how sure it was. They meet where scores can be believed."""
    bottom, most = _TOP + _SIDE, max(each.count for each in bins)
    return tag(
        "svg",
        tag("title", "Reliability: share of right answers by confidence"),
        _frame(bottom),
        *(_bar(each, bottom, each.count / most) for each in bins if each.count),
        tag("line", x1=_LEFT, x2=_LEFT + _SIDE, y1=bottom, y2=_TOP, class_="diagonal"),
        *_histogram(bins, bottom),
        tag("text", "how", x=_LEFT - 6, y=bottom + 50, class_="end"),
        tag("text", "often", x=_LEFT - 6, y=bottom + 62, class_="end"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
    )


def _frame(bottom: int) -> Markup:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        along = share * _SIDE
        parts += [
            tag("line", x1=_LEFT, x2=_LEFT + _SIDE, y1=bottom - along, y2=bottom - along, class_="grid"),
            tag("text", f"{share:.0%}", x=_LEFT - 6, y=bottom - along + 3.5, class_="end"),
            tag("text", f"{share:.0%}", x=_LEFT + along, y=bottom + 16, class_="mid"),
        ]
    return joined(*parts)


def _bar(each: CalibrationBin, bottom: int, weight: float) -> Markup:
    assert each.accuracy is not None
    assert each.confidence is not None
    left, right = _LEFT + each.low * _SIDE, _LEFT + each.high * _SIDE
    height, sure = each.accuracy * _SIDE, bottom - each.confidence * _SIDE
    said = (
        f"Said with {percent(each.low)} to {percent(each.high)}: {pictures(each.count)},"
        f" {percent(each.accuracy)} right at {percent(each.confidence)} on average"
    )
    return tag(
        "g",
        tag("title", said),
        tag(
            "rect",
            x=left + 1,
            y=bottom - height,
            width=right - left - 2,
            height=height,
            fill_opacity=0.2 + 0.7 * sqrt(weight),
            class_="right",
        ),
        tag("line", x1=left + 1, x2=right - 1, y1=sure, y2=sure, class_="sure"),
    )


def _histogram(bins: Sequence[CalibrationBin], bottom: int) -> list[Markup]:
    most = max(each.count for each in bins)
    base = bottom + 26 + _HISTOGRAM
    bars = []
    for each in bins:
        height = each.count / most * _HISTOGRAM
        left, right = _LEFT + each.low * _SIDE, _LEFT + each.high * _SIDE
        bars.append(
            tag("rect", x=left + 1, y=base - height, width=right - left - 2, height=height, class_="quiet")
        )
    return bars
