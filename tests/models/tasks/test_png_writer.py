"""PNGs written in strips are read by others as the pixels that went in."""

import io

import numpy as np
import pytest
from PIL import Image

from models.tasks.png_writer import PngWriter
from tests.importing import PHOTOS

RANDOM = np.random.default_rng(5)
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def written(pixels, strips):
    file = io.BytesIO()
    writer = PngWriter(file, width=pixels.shape[1], height=pixels.shape[0], channels=pixels.shape[2])
    for strip in np.split(pixels, strips):
        writer.add(strip)
    writer.close()
    return file.getvalue()


@pytest.mark.parametrize("channels", MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (131, 57)])
def test_what_goes_in_comes_out(size, channels):
    pixels = RANDOM.integers(0, 256, (*size, channels), np.uint8)
    data = written(pixels, [size[0] // 3, size[0] // 2])
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.mode == MODES[channels]
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_a_photograph_takes_no_more_room_than_pillow_s():
    pixels = np.asarray(Image.open(PHOTOS / "chelsea.png").convert("RGB"))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)
    assert len(written(pixels, [100])) < 1.05 * file.tell()


@pytest.mark.parametrize(("rows", "problem"), [(9, "1 rows are missing"), (11, "1 rows more")])
def test_too_few_or_too_many_rows_are_noticed(rows, problem):
    with pytest.raises(ValueError, match=problem):
        written_short(rows)


def written_short(rows):
    writer = PngWriter(io.BytesIO(), width=4, height=10, channels=3)
    writer.add(np.zeros((rows, 4, 3), np.uint8))
    writer.close()
