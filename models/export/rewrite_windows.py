"""What is particular about a stranger's graph that takes windows. Runs in the child of `adopt`.

Any size goes in, and what comes out tells how much larger the result is, and of which border it has none.
"""

import numpy as np
from onnx import ModelProto

from models.export.adopt import Wishes
from models.export.inspect_onnx import Input, Refused
from models.export.served import ServedGraphError, ServedSession

_STEP = 16
"""By how much two windows differ whose results are compared, pixels."""
_LARGEST_SCALE = 8
_BRIGHTEST = 4.0


def check_free(found: Input) -> None:
    """Refuse a graph that takes windows of one size only."""
    if found.height is not None or found.width is not None:
        raise Refused(
            f"The graph takes {found.height} x {found.width} pixels only; windows have many sizes.",
            hint="Export it with height and width free, or do without `tiles`.",
        )


def measure(served: ModelProto, wishes: Wishes) -> tuple[int, int]:
    """Scale and margin, from the sizes of the results of windows of several sizes. Raises Refused."""
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
    return _settled(sizes, shapes, wishes)


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
