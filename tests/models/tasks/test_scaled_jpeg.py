"""JPEG decoded at a fraction of its size: never below what was asked, and near to the whole picture."""

from io import BytesIO

import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image

from models.tasks.images import ImageLimits, decode_image
from tests.corpus.flag import exif

LIMITS = ImageLimits()
PHOTOS = {
    "astronaut": skimage.data.astronaut,
    "chelsea": skimage.data.chelsea,
    "coffee": skimage.data.coffee,
    "china": lambda: sklearn.datasets.load_sample_image("china.jpg"),
    "flower": lambda: sklearn.datasets.load_sample_image("flower.jpg"),
}


def jpeg(pixels: NDArray[np.uint8], **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 3000), (17, 31), (255, 257), (512, 512), (513, 511), (600, 900)]
)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_scaled_decoding_is_never_below_what_was_asked(size: tuple[int, int], orientation: int) -> None:
    height, width = size
    data = jpeg(np.full((height, width, 3), 99, np.uint8), exif=exif(orientation))
    seen = (width, height) if orientation == 6 else (height, width)
    scaled = 0

    for asked in ((1, 1), (8, 300), (64, 64), (224, 224), (256, 256), (257, 256), (300, 450), (5000, 5000)):
        shape = decode_image(data, at_least=asked, limits=LIMITS).shape[:2]

        assert all(got >= min(want, whole) for got, want, whole in zip(shape, asked, seen, strict=True))
        scale = next(scale for scale in (1, 2, 4, 8) if shape == (-(-seen[0] // scale), -(-seen[1] // scale)))
        scaled += scale > 1

    assert scaled or max(size) < 64


def test_an_image_on_its_side_is_scaled_by_its_sides_as_displayed() -> None:
    data = jpeg(np.zeros((800, 400, 3), np.uint8), exif=exif(6))

    assert decode_image(data, at_least=(200, 400), limits=LIMITS).shape == (200, 400, 3)
    assert decode_image(data, at_least=(201, 400), limits=LIMITS).shape == (400, 800, 3)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_a_scaled_photo_is_near_the_whole_one_shrunk(name: str, subsampling: str) -> None:
    photo = PHOTOS[name]()
    photo = photo[: photo.shape[0] // 8 * 8, : photo.shape[1] // 8 * 8]
    data = jpeg(photo, subsampling=subsampling)
    whole = Image.fromarray(decode_image(data, limits=LIMITS))

    for scale in (2, 4, 8):
        size = photo.shape[0] // scale, photo.shape[1] // scale
        scaled = decode_image(data, at_least=size, limits=LIMITS)
        shrunk = np.asarray(whole.resize((size[1], size[0]), Image.Resampling.BOX))

        assert scaled.shape[:2] == size
        assert np.abs(scaled.astype(int) - shrunk).mean() < 2.5


@pytest.mark.parametrize("name", PHOTOS)
def test_a_whole_photo_is_what_pillow_decodes(name: str) -> None:
    data = jpeg(PHOTOS[name]())

    ours = decode_image(data, limits=LIMITS)
    pillows = np.asarray(Image.open(BytesIO(data)))

    assert np.abs(ours.astype(int) - pillows).max() <= 2
