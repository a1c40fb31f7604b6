"""What every contestant does with a photograph, by Athanor's own functions: only serving differs.

Run as a program it measures the limit: so many threads, each with a session of its own, and no HTTP.
"""

import argparse
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.serving.limit import open_session
from models.manifest import Manifest, Task
from models.tasks.encoding import FORMATS, encode_picture
from models.tasks.image_facts import ImageLimits
from models.tasks.images import Picture, decode_image
from models.tasks.segmentation import SegmentationCodec, labelmap
from models.tasks.tiles import TileGrid, tiled

_THRESHOLD = 0.5
Work = Callable[[bytes], bytes]


def work_of(model: Path, *, threads: int) -> Work:
    """Photograph to PNG: a label map, or the picture enlarged. The manifest lies beside the model."""
    manifest = Manifest.model_validate_json(model.with_suffix(".json").read_bytes())
    session = open_session(model, threads=threads)
    name = session.get_inputs()[0].name

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {name: images})[0])

    return _segmenting(manifest, run) if manifest.task is Task.SEGMENTATION else _enlarging(manifest, run)


def _segmenting(manifest: Manifest, run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> Work:
    codec = SegmentationCodec(manifest, ImageLimits())

    def work(photo: bytes) -> bytes:
        pixels = decode_image(photo, limits=ImageLimits())
        (shares,) = codec.encode_batch(run(codec.decode(photo)[None]), [None])
        assert not isinstance(shares, ValueError)
        masks = codec.masks_of(shares, pixels.shape[:2])
        file = io.BytesIO()
        labelmap(pixels, masks, range(len(manifest.labels)), _THRESHOLD).save(file, "PNG", compress_level=3)
        return file.getvalue()

    return work


def _enlarging(manifest: Manifest, run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> Work:
    assert manifest.tiles is not None
    tiles = manifest.tiles

    def work(photo: bytes) -> bytes:
        pixels = decode_image(photo, limits=ImageLimits())
        grid = TileGrid(pixels.shape[0], pixels.shape[1], tiles)
        larger = np.concatenate(list(tiled(pixels, grid, run)))
        return encode_picture(Picture(larger, None, False), FORMATS["png"], quality=90)

    return work


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    """What an answer shows."""
    return np.asarray(Image.open(io.BytesIO(png)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--lanes", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=6)
    asked = parser.parse_args()
    photo, counts = asked.photo.read_bytes(), [0] * asked.lanes
    works = [work_of(asked.model, threads=asked.threads) for _ in range(asked.lanes)]
    for work in works:
        work(photo)
    until_s = time.perf_counter() + asked.seconds
    paces = [0.0] * asked.lanes

    def lane(index: int) -> None:
        began_s = time.perf_counter()
        while time.perf_counter() < until_s or not counts[index]:
            works[index](photo)
            counts[index] += 1
        paces[index] = counts[index] / (time.perf_counter() - began_s)

    threads = [threading.Thread(target=lane, args=(index,)) for index in range(asked.lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"images_per_s": sum(paces)}))


if __name__ == "__main__":
    main()
