"""What the codecs of all graphs share that take pictures in windows."""

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest, TileFacts
from models.tasks.image_facts import ImageError, ImageLimits
from models.tasks.images import decode_image
from models.tasks.tiles import TileGrid


class WindowCodec:
    """Knows how pictures are cut; windows are cut and put together by whoever runs the graph. Thread-safe."""

    def __init__(self, manifest: Manifest, limits: ImageLimits) -> None:
        if manifest.tiles is None:
            raise ValueError("the manifest does not say how its tiles are cut")
        self.tiles: TileFacts = manifest.tiles
        self.limits = limits

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """The one window of a small picture, (h, w, 3), as a reference's sample. Raises ImageError."""
        pixels = decode_image(data, limits=self.limits)
        grid = TileGrid(pixels.shape[0], pixels.shape[1], self.tiles)
        if grid.rows * grid.columns > 1:
            hint = f"Use samples of at most {self.tiles.side} x {self.tiles.side} pixels."
            raise ImageError("image_too_large", "The sample needs more than one window.", hint=hint)
        return grid.window(pixels, 0, 0)
