"""A data set's pictures as a graph is shown them: whole, or in windows cut out of them.

A graph that makes pictures larger is shown what is made smaller first, unless the data set has small pictures
of its ratio: so that it is known what should come out.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import image_error
from models.data.pack import Item, Pack, Split
from models.manifest import Manifest, Task, TileFacts
from models.tasks.encoding import FORMATS, encode_picture
from models.tasks.images import ImageError, ImageLimits, Picture, decode_image
from models.tasks.restoration import smaller
from models.tasks.tiles import TileGrid

_WINDOW_SIDE = 96
"""Of what is cut out of a picture, pixels: more windows of more pictures say more than large ones."""
_MOST_OF_ONE = 16
"""Windows of one picture."""
_LEFT_OUT = 0.1
"""Share of the pictures, at most, unless those for training or those held out are all as small."""
_SEED = 20


class Shown(NamedTuple):
    """Of each: the encoded picture or window, its picture in the data set, and what should become of it."""

    samples: tuple[bytes, ...]
    items: tuple[Item, ...]
    large: tuple[NDArray[np.uint8], ...]
    """(h, w, 3); empty where nothing is made larger."""


class Gallery(Protocol):
    """Pictures of a data set, as a graph is shown them."""

    noun: str
    to_calibrate: int
    """Most that are shown for it."""
    to_choose: int
    output_bytes: int
    """Of what the graph gives for one."""

    def shown(self, split: Split, most: int) -> Shown:
        """At most so many of a split, evenly over it."""


class WholePictures:
    """For graphs of one size."""

    noun, to_calibrate, to_choose = "pictures", 128, 256

    def __init__(self, pack: Pack, manifest: Manifest) -> None:
        self._pack = pack
        self.output_bytes = 4 * prod(manifest.outputs[0].shape[1:])

    def shown(self, split: Split, most: int) -> Shown:
        """At most so many of a split, evenly over it."""
        items = spread(self._pack.of(split), most)
        return Shown(tuple(self._pack.read(item) for item in items), tuple(items), ())


class Windows:
    """For graphs that take windows: of one size, at places that chance has chosen once for all.

    As large as they may be if hardly a picture is to be left out for being too small.
    """

    noun, to_calibrate, to_choose = "windows of pictures", 64, 32
    """Fewer, since a network that enlarges may take seconds for each."""

    def __init__(
        self, pack: Pack, manifest: Manifest, limits: ImageLimits, *, before_each: Callable[[], None]
    ) -> None:
        """`before_each` is called before a picture is decoded, and may raise."""
        assert manifest.tiles is not None
        self._pack, self._tiles, self._limits = pack, manifest.tiles, limits
        self._before_each = before_each
        self._enlarges = manifest.task is Task.SUPER_RESOLUTION
        self._has_small = self._enlarges and pack.ratio == self._tiles.scale
        short = sorted(self._short_side(item) for item in pack.items)
        needed = (pack.of(Split.TRAIN), pack.of(Split.TEST) or pack.of(Split.VALIDATION))
        longest = [max(self._short_side(item) for item in items) for items in needed if items]
        self.side = min(_WINDOW_SIDE, self._tiles.side, short[int(_LEFT_OUT * len(short))], *longest)
        """Of a window without what is around it, pixels."""
        self.too_small = sum(side < self.side for side in short)
        """Pictures that are left out for it."""
        self.output_bytes = 4 * manifest.outputs[0].shape[1] * _given_pixels(self.side, self._tiles)

    def _short_side(self, item: Item) -> int:
        """Of what the graph is shown of it."""
        return min(item.width, item.height) // (self._tiles.scale if self._enlarges else 1)

    def shown(self, split: Split, most: int) -> Shown:
        """At most so many of a split, evenly over it."""
        items = [item for item in self._pack.of(split) if self._short_side(item) >= self.side]
        chosen = spread(items, most)
        if not chosen:
            return Shown((), (), ())
        count = min(_MOST_OF_ONE, most // len(chosen))
        pieces = [(piece, item) for item in chosen for piece in self._cut(item, count)]
        large = tuple(large for (_, large), _ in pieces) if self._enlarges else ()
        return Shown(tuple(_png(small) for (small, _), _ in pieces), tuple(item for _, item in pieces), large)

    def _cut(self, item: Item, count: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """(what is shown, what it should become), at up to `count` places of a picture, as many as fit beside
        each other."""
        self._before_each()
        picture = self._decoded(self._pack.read(item))
        small = self._decoded(self._pack.read_small(item)) if self._has_small else None
        scale = self._tiles.scale if self._enlarges else 1
        height, width = (side // scale for side in picture.shape[:2])
        rows, columns = height - self.side + 1, width - self.side + 1
        count = min(count, (height // self.side) * (width // self.side))
        chance = np.random.default_rng([_SEED, item.offset])
        pieces = []
        for place in chance.choice(rows * columns, count, replace=False).tolist():
            top, left = divmod(place, columns)
            large = _part(picture, top * scale, left * scale, self.side * scale)
            shown = _part(small, top, left, self.side) if small is not None else smaller(large, scale)
            pieces.append((shown, large))
        return pieces

    def _decoded(self, data: bytes) -> NDArray[np.uint8]:
        try:
            return decode_image(data, limits=self._limits)
        except ImageError as error:
            raise image_error(error) from error


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many, evenly over the whole length."""
    return [items[at] for at in places(len(items), most)]


def places(length: int, most: int) -> list[int]:
    """The same of indices."""
    if length <= most:
        return list(range(length))
    return [int(at) for at in np.linspace(0, length - 1, most)]


def _given_pixels(side: int, tiles: TileFacts) -> int:
    height, width = TileGrid(side, side, tiles).window_size
    return (height - 2 * tiles.margin) * (width - 2 * tiles.margin) * tiles.scale**2


def _part(picture: NDArray[np.uint8], top: int, left: int, side: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return encode_picture(Picture(pixels, None, False), FORMATS["png"], quality=100)
