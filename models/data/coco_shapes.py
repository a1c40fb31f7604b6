"""What an annotation of COCO covers: polygons and run lengths, as pixels.

A pixel belongs to a polygon when its centre lies inside; where an outline crosses itself, every second area
is inside. All polygons of an annotation are one shape together. Run lengths go down the columns, the first
for pixels that are not covered; as text they are COCO's own: five bits a character, from the fourth on as
differences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_CROSSINGS: Final = 1 << 24
"""Of a polygon's edges with rows of pixels, each of which is a number in memory."""
_STRAY_SHARE, _STRAY_PIXELS = 0.02, 2.0
"""How far outside the picture a polygon may go, of a side and at least: tools round."""
_SHOWN_CHARACTERS = 100
_FIRST_CHARACTER, _LAST_CHARACTER = 48, 111


class ShapeError(ValueError):
    """It is no shape of this picture; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of one annotation, checked against its picture."""

    polygons: tuple[NDArray[np.float64], ...] = ()
    """Each (points, 2): x and y in pixels, 0 at the outer edge of the first."""
    runs: NDArray[np.int64] | None = None
    """Pixels, not covered and covered by turns."""

    @property
    def area(self) -> float:
        """Pixels that it covers, about: of polygons that lie over each other the sum."""
        if self.runs is not None:
            return float(self.runs[1::2].sum())
        return sum(_area(points) for points in self.polygons)

    def paint(self, mask: NDArray[np.uint8], level: int) -> None:
        """Give its pixels of a mask (height, width) a level."""
        if self.runs is not None:
            is_covered = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
            mask[is_covered.reshape(mask.shape, order="F")] = level
        for points in self.polygons:
            _paint_polygon(mask, points, level)


def read_shape(segmentation: object, width: int, height: int) -> Shape:
    """The `segmentation` of an annotation on a picture of this size. Raises ShapeError."""
    if isinstance(segmentation, dict):
        return Shape(runs=_runs(segmentation, width, height))
    if not isinstance(segmentation, list) or not segmentation:
        raise ShapeError("has no segmentation", "Export segmentation, not boxes alone.")
    given = [segmentation] if isinstance(segmentation[0], (int, float)) else segmentation
    return Shape(polygons=tuple(_polygon(one, width, height) for one in given))


def _polygon(given: object, width: int, height: int) -> NDArray[np.float64]:
    hint = "A polygon is a list of x and y by turns, of three points and more."
    if not isinstance(given, list):
        raise ShapeError("has a polygon that is no list", hint)
    if len(given) % 2 or len(given) < 6:
        raise ShapeError(f"has a polygon of {len(given)} numbers", hint)
    try:
        numbers = np.array(given, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ShapeError("has a polygon with something else than numbers", hint) from error
    if numbers.ndim > 1:
        raise ShapeError("has a polygon of lists", hint)
    if np.isnan(numbers).any():  # null
        raise ShapeError("has a polygon with something else than numbers", hint)
    points = numbers.reshape(-1, 2)
    if np.abs(np.diff(points[:, 1].clip(0, height))).sum() > MAX_CROSSINGS:
        raise ShapeError("has an outline that runs up and down without end", "Simplify it.")
    size = np.array([width, height], np.float64)
    lowest, highest = points.min(axis=0), points.max(axis=0)
    if (lowest >= 0).all() and (highest <= size).all():
        return points
    stray = np.maximum(_STRAY_PIXELS, _STRAY_SHARE * size)
    is_outside = ((points < -stray) | (points > size + stray)).any(axis=1)
    if is_outside.any():
        x, y = points[is_outside][0]
        raise ShapeError(
            f"has the point ({x:g}, {y:g}) outside its picture of {width} x {height}",
            "Points are in pixels of the picture, not in shares of it, nor of a larger copy.",
        )
    clipped: NDArray[np.float64] = points.clip(0, size)
    return clipped


def _runs(given: dict[str, Any], width: int, height: int) -> NDArray[np.int64]:
    size, counts = given.get("size"), given.get("counts")
    if size != [height, width]:
        hint = "`size` is [height, width]."
        raise ShapeError(
            f"has run lengths of the size {brief(size)}, its picture is {width} x {height}", hint
        )
    hint = "Run lengths are a list, or COCO's text, that covers the picture exactly."
    counts, most = _from_text(counts, hint) if isinstance(counts, str) else counts, width * height
    if not isinstance(counts, list) or not all(type(one) is int and 0 <= one <= most for one in counts):
        raise ShapeError("has run lengths that are no counts of pixels", hint)
    if sum(counts) != most:
        raise ShapeError(f"has run lengths of {sum(counts)} pixels, not {most}", hint)
    return np.array(counts, np.int64)


def _from_text(text: str, hint: str) -> list[int]:
    """Numbers of five bits a character, the lowest first; the sixth says that there are more, the highest of
    the last one is the sign."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - _FIRST_CHARACTER
        if not 0 <= code <= _LAST_CHARACTER - _FIRST_CHARACTER or shift > 60:
            raise ShapeError(f"has run lengths with the character {character!r}", hint)
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ShapeError("has run lengths that are cut short", hint)
    return counts


def _area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _paint_polygon(mask: NDArray[np.uint8], points: NDArray[np.float64], level: int) -> None:
    """Each edge toggles, in every row whose middle it crosses, the pixels from the crossing on."""
    left, top = np.floor(points.min(axis=0)).astype(int)
    right, bottom = np.ceil(points.max(axis=0)).astype(int)
    width, height = right - left, bottom - top
    if not (width and height):
        return
    begin = points - (left, top)
    end = np.roll(begin, -1, axis=0)
    is_up = begin[:, 1] > end[:, 1]
    begin[is_up], end[is_up] = end[is_up], begin[is_up]
    first, last = np.ceil(begin[:, 1] - 0.5).astype(int), np.ceil(end[:, 1] - 0.5).astype(int)
    counts = last - first
    edges = np.repeat(np.arange(len(points)), counts)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    slope = _slopes(begin, end)[edges]
    crossings = begin[edges, 0] + (rows + 0.5 - begin[edges, 1]) * slope
    columns = np.ceil(crossings - 0.5).astype(int).clip(0, width)
    toggles = np.bincount(rows * (width + 1) + columns, minlength=height * (width + 1))
    is_inside = np.cumsum(toggles.reshape(height, width + 1)[:, :width], axis=1) % 2 == 1
    mask[top:bottom, left:right][is_inside] = level


def _slopes(begin: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """x by y of each edge; level ones cross nothing."""
    across, down = (end - begin).T
    slopes: NDArray[np.float64] = np.divide(across, down, out=np.zeros_like(across), where=down > 0)
    return slopes


def painted(order: Sequence[tuple[Shape, int]], width: int, height: int) -> NDArray[np.uint8]:
    """(height, width): shapes painted one over the other, on level 0."""
    mask = np.zeros((height, width), np.uint8)
    for shape, level in order:
        shape.paint(mask, level)
    return mask


def brief(value: object) -> str:
    """A value of somebody else's as a message may show it."""
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
