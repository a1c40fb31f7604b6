"""What is particular about a stranger's graph that takes windows. Runs in the child of `adopt`.

Any size goes in, and what comes out tells how much larger the result is, of which border it has none, and how
far into a window the graph sees that the picture ends there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from models.export.adopt import Wishes
from models.export.inspect_onnx import Input, Refused
from models.export.served import ServedGraphError, ServedSession
from models.manifest import CONTEXT_PART

_STEP = 16
"""By how much two windows differ whose results are compared, pixels."""
_LARGEST_SCALE = 8
_BRIGHTEST = 4.0
_SAME = 1e-4
"""Results that differ by less, relative to the largest, are the same."""
_SHIFTS = 1, 5
"""By how much the place of a window within a larger one misses a multiple of 16, down and across: a graph
that halves its input sees another grid there, and no part of its result is the same."""


class Windows(NamedTuple):
    """What a graph makes of windows."""

    scale: int
    """Pixels of the result for each of the window, along each side."""
    margin: int
    """Pixels at each side of a window for which it makes no result."""
    reach: int | None
    """Pixels at each side of a window whose results would be others if the picture went on; None if they
    are more than an eighth of the window, or nobody knows."""


def check_free(found: Input) -> None:
    """Refuse a graph that takes windows of one size only."""
    if found.height is not None or found.width is not None:
        raise Refused(
            f"The graph takes {found.height} x {found.width} pixels only; windows have many sizes.",
            hint="Export it with height and width free, or do without `tiles`.",
        )


def measure(served: ModelProto, wishes: Wishes) -> Windows:
    """Scale and margin from the sizes of the results of windows of several sizes, and the reach from the
    results of a window and of a larger one around it. Raises Refused."""
    session = ServedSession(served.SerializeToString())
    side = wishes.preprocessing.height
    sizes = [(side, side), (side - _STEP, side), (side, side - 2 * _STEP)]
    if min(map(min, sizes)) < _STEP:
        raise Refused(f"Windows of {side} pixels are too small to see what the graph does.", hint="Give 64.")
    random = np.random.default_rng(1)
    shapes = []
    for height, width in sizes:
        window = random.integers(0, 256, (1, height, width, 3), np.uint8)
        try:
            result = session.run(window)
        except ServedGraphError as error:
            raise Refused(
                f"A window of {height} x {width} pixels cannot be run: {error}",
                hint="Export it so that any multiple of 16 pixels will do.",
            ) from error
        shapes.append(result.shape[2:])
    if wishes.has_pictures and float(np.abs(result).max()) > _BRIGHTEST:
        raise Refused(
            "The pictures that the graph makes go far beyond 0..1.",
            hint="Export it so that white is 1; give std 255 if it takes pictures in 0..1 too.",
        )
    scale, margin = _settled(sizes, shapes, wishes)
    deepest = min(side, wishes.preprocessing.width) // CONTEXT_PART
    try:
        return Windows(scale, margin, None if margin else _reach(session, deepest, scale))
    except (ServedGraphError, MemoryError):  # it takes no windows of these sizes
        return Windows(scale, margin, None)


def _reach(session: ServedSession, deepest: int, scale: int) -> int | None:
    """See `Windows`; None if it is more than `deepest`."""
    around = -(-deepest // _STEP) * _STEP
    side, whole = 2 * (around + _STEP), 4 * around + 3 * _STEP
    down, across = (slice(around + shift, around + shift + side) for shift in _SHIFTS)
    found = 0
    for picture in _pictures(whole):
        alone = session.run(np.ascontiguousarray(picture[:, down, across]))[0]
        rows, columns = (slice(part.start * scale, part.stop * scale) for part in (down, across))
        within = session.run(picture)[0, :, rows, columns]
        if within.shape != alone.shape:
            return None
        differs = ~(np.abs(alone - within).max(axis=0) <= _SAME * np.abs(within).max())
        from_edge = np.minimum(np.arange(side * scale), np.arange(side * scale)[::-1]) // scale
        depths = np.minimum(from_edge[:, None], from_edge)[differs]
        found = max(found, 1 + int(depths.max(initial=-1)))
    return found if found <= deepest else None


def _pictures(side: int) -> list[NDArray[np.uint8]]:
    """Fine and coarse noise, (1, side, side, 3)."""
    random = np.random.default_rng(2)
    coarse = random.integers(0, 256, (1, side // _STEP, side // _STEP, 3), np.uint8)
    fine = random.integers(0, 256, (1, side, side, 3), np.uint8)
    return [fine, coarse.repeat(_STEP, axis=1).repeat(_STEP, axis=2)]


def _settled(sizes: list[tuple[int, int]], shapes: list[tuple[int, ...]], wishes: Wishes) -> tuple[int, int]:
    (side, _), given = sizes[0], shapes[0]
    scale = (given[0] - shapes[1][0]) / _STEP
    margin = (side - given[0] / scale) / 2 if scale else -1.0
    wanted = [tuple(scale * (pixels - 2 * margin) for pixels in size) for size in sizes]
    is_whole = scale == int(scale) and margin == int(margin) and 1 <= scale <= _LARGEST_SCALE and margin >= 0
    if not is_whole or wanted != [tuple(map(float, shape)) for shape in shapes]:
        listed = ", ".join(
            f"{list(size)} to {list(shape)}" for size, shape in zip(sizes, shapes, strict=True)
        )
        raise Refused(
            f"The results' sizes follow no whole scale: {listed}.",
            hint=f"Results must be 1 to {_LARGEST_SCALE} times the window, less a margin.",
        )
    if wishes.has_maps and scale != 1:
        raise Refused(
            f"The maps are {scale:g} times the window; masks have the picture's size.",
            hint="Export it with maps as large as its input.",
        )
    return int(scale), int(margin)
