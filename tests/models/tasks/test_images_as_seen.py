"""Every accepted format and mode shows the colours, and the way up, that a person sees."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from models.tasks.images import ImageLimits, decode_image, probe_image
from tests.corpus.flag import Sample
from tests.corpus.valid import valid_images

LIMITS = ImageLimits()
VALID = valid_images(seed=0)
EDGE = 4
"""Lossy formats blur the border between two colours: pixels this near to one are not compared."""


def differences(pixels: NDArray[np.uint8], sample: Sample) -> NDArray[np.int64]:
    """Largest difference per pixel from what should be seen, away from the quadrants' borders."""
    assert sample.seen is not None
    apart = np.abs(pixels.astype(np.int64) - sample.seen).max(-1)
    height, width = apart.shape
    if sample.tolerance <= 2 or min(height, width) < 4 * EDGE:
        return apart
    rows = np.abs(np.arange(height) - height / 2 + 0.5) > EDGE
    columns = np.abs(np.arange(width) - width / 2 + 0.5) > EDGE
    return apart[np.ix_(rows, columns)]


@pytest.mark.parametrize("sample", VALID, ids=lambda sample: sample.kind)
def test_the_picture_has_the_colours_and_the_size_a_person_sees(sample: Sample) -> None:
    pixels = decode_image(sample.data, limits=LIMITS)

    assert sample.seen is not None
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    assert pixels.shape == sample.seen.shape
    apart = differences(pixels, sample)
    assert apart.max() <= sample.tolerance, f"{(apart > sample.tolerance).mean():.0%} of the pixels are off"


@pytest.mark.parametrize("sample", VALID, ids=lambda sample: sample.kind)
def test_the_header_tells_the_size_that_decoding_gives(sample: Sample) -> None:
    facts = probe_image(sample.data, LIMITS)

    assert sample.seen is not None
    assert (facts.height, facts.width) == sample.seen.shape[:2]
    assert facts.format == sample.kind.split()[0]


def test_the_corpus_holds_every_format_and_all_orientations() -> None:
    kinds = [sample.kind for sample in VALID]

    formats = Counter(kind.split()[0] for kind in kinds)
    assert set(formats) == {"jpeg", "png", "webp", "bmp", "gif", "tiff"}
    assert len(kinds) == len(set(kinds)) >= 140
    for kind in ("jpeg", "png", "webp", "tiff"):
        assert {f"{kind} orientation {number}" for number in range(1, 9)} <= set(kinds)


def test_decoding_in_many_threads_gives_the_same_pixels() -> None:
    alone = [decode_image(sample.data, limits=LIMITS) for sample in VALID]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda sample: decode_image(sample.data, limits=LIMITS), VALID * 2))

    for before, after in zip(alone * 2, together, strict=True):
        np.testing.assert_array_equal(before, after)


def test_decoding_leaves_pillows_process_wide_settings_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES

    for sample in VALID:
        decode_image(sample.data, limits=LIMITS)

    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
