"""Curves over steps, as SVG that is drawn one to one on a phone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor, log10

from models.evaluate.markup import Markup, joined, tag
from models.evaluate.quantities import decimal

WIDTH, HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 26
_COLOURS = 4
"""Classes s0 … s3 of the style sheet."""
_MANY_POINTS = 60
"""From here on a curve is drawn faint, with its running mean over it."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve of a plot."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    is_noisy: bool = True


class Scale:
    """From values to pixels, with round numbers at both ends and between them."""

    def __init__(self, low: float, high: float, start_px: float, end_px: float, *, count: int = 4) -> None:
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            low, high = low - (abs(low) / 10 or 0.5), high + (abs(high) / 10 or 0.5)
        raw = (high - low) / count
        magnitude = 10.0 ** floor(log10(raw))
        step = next(each * magnitude for each in (1, 2, 2.5, 5, 10) if each * magnitude >= raw * 0.999)
        first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
        self.ticks = [place * step for place in range(first, last + 1)]
        self._low, self._high = self.ticks[0], self.ticks[-1]
        self._start_px, self._end_px = start_px, end_px

    def __call__(self, value: float) -> float:
        """Where the value is, pixels."""
        share = (value - self._low) / (self._high - self._low)
        return self._start_px + share * (self._end_px - self._start_px)


def line_plot(title: str, series: Sequence[Series], *, best_step: int | None = None) -> Markup:
    """A figure with its legend; `best_step` gets a mark. Every series has a point at least."""
    values = [value for each in series for value in each.values]
    low, high = min(values), max(values)
    if 0 <= low < 0.4 * high:
        low = 0.0
    across = Scale(0, max(each.steps[-1] for each in series), _LEFT, WIDTH - _RIGHT)
    up = Scale(low, high, HEIGHT - _BOTTOM, _TOP)
    drawing = tag(
        "svg",
        tag("title", f"{title} over steps"),
        _axes(across, up),
        _mark(across, best_step),
        *(_curve(each, across, up, colour % _COLOURS) for colour, each in enumerate(series)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )
    legend = [
        tag(
            "span",
            tag("i", class_=f"key k{colour % _COLOURS}"),
            f"{each.name} ",
            tag("b", decimal(each.values[-1])),
        )
        for colour, each in enumerate(series)
    ]
    return tag(
        "figure",
        tag("figcaption", tag("h3", title), tag("p", *legend, class_="legend")),
        drawing,
        class_="card",
    )


def tick(value: float) -> str:
    """A number at an axis: 0.05, 400, 12k, 1e-4."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    if 1e-12 < abs(value) < 0.01:
        digits, _, power = f"{value:.3e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{round(value, 12):.4g}"


def _axes(across: Scale, up: Scale) -> Markup:
    parts = []
    for value in up.ticks:
        y = up(value)
        parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", tick(value), x=_LEFT - 6, y=y + 3.5, class_="end"))
    for value in across.ticks:
        parts.append(tag("text", tick(value), x=across(value), y=HEIGHT - 8, class_="mid"))
    return joined(*parts)


def _mark(across: Scale, step: int | None) -> Markup:
    if step is None:
        return Markup()
    x = across(step)
    is_right = x > (WIDTH + _LEFT) / 2
    return joined(
        tag("line", x1=x, x2=x, y1=_TOP, y2=HEIGHT - _BOTTOM, class_="mark"),
        tag("text", "best", x=x + (-5 if is_right else 5), y=_TOP + 9, class_="end" if is_right else None),
    )


def _curve(series: Series, across: Scale, up: Scale, colour: int) -> Markup:
    if len(series.steps) == 1:
        dot = {"cx": across(series.steps[0]), "cy": up(series.values[0])}
        return tag("circle", r=3, class_=f"f{colour}", **dot)
    if len(series.steps) < _MANY_POINTS or not series.is_noisy:
        return _path(series.steps, series.values, across, up, f"curve s{colour}")
    means = _running_means(series.values, len(series.values) // _MANY_POINTS + 2)
    return joined(
        _path(series.steps, series.values, across, up, f"curve faint s{colour}"),
        _path(series.steps, means, across, up, f"curve s{colour}"),
    )


def _running_means(values: Sequence[float], reach: int) -> list[float]:
    """Mean of each value and its neighbours up to `reach` away on both sides, so that it does not lag."""
    sums = [0.0, *accumulate(values)]
    places = ((max(at - reach, 0), min(at + reach + 1, len(values))) for at in range(len(values)))
    return [(sums[end] - sums[start]) / (end - start) for start, end in places]


def _path(steps: Sequence[int], values: Sequence[float], across: Scale, up: Scale, class_: str) -> Markup:
    points = (f"{across(x):.1f} {up(y):.1f}" for x, y in zip(steps, values, strict=True))
    return tag("path", d=f"M{'L'.join(points)}", class_=class_)
