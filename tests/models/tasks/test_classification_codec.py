"""The classification codec: tensors as `Preprocessing` says, and scores that are right and stable."""

from io import BytesIO
from math import exp

import numpy as np
import pytest
import simplejpeg
import skimage.data
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image

from models.manifest import Manifest, Preprocessing, Task
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageError, ImageLimits
from tests.corpus.flag import BLUE, GREEN, RED, SAND, exif, flag, saved
from tests.corpus.malformed import malformed_images
from tests.corpus.valid import SEEN_BY_ORIENTATION, valid_images


def codec(labels: tuple[str, ...] = ("a", "b", "c"), **preprocessing: object) -> ClassificationCodec:
    how = Preprocessing.model_validate({"height": 224, "width": 224, **preprocessing})
    manifest = Manifest(task=Task.CLASSIFICATION, inputs=(), outputs=(), preprocessing=how, labels=labels)
    return ClassificationCodec(manifest, ImageLimits())


def jpeg(pixels: NDArray[np.uint8], **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def the_slow_way(photo: Image.Image, size: int, crop: float) -> NDArray[np.int64]:
    """The whole photo, decoded at full size, and its central square resampled in one exact step."""
    side = min(photo.size) * crop
    box = (
        (photo.width - side) / 2,
        (photo.height - side) / 2,
        (photo.width + side) / 2,
        (photo.height + side) / 2,
    )
    return np.asarray(photo.resize((size, size), Image.Resampling.BICUBIC, box=box)).astype(np.int64)


PHOTOS = {
    "astronaut": skimage.data.astronaut,
    "chelsea": skimage.data.chelsea,
    "coffee": skimage.data.coffee,
    "china": lambda: sklearn.datasets.load_sample_image("china.jpg"),
    "flower": lambda: sklearn.datasets.load_sample_image("flower.jpg"),
}


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(
    ("size", "crop", "apart"),
    # The small ones are cut from a scaled decode to the nearest pixel: up to half a pixel aside.
    [(224, 0.875, 2), (288, 1.0, 2), (160, 0.875, 3.5), (96, 0.9, 7)],
)
def test_a_photo_becomes_the_tensor_that_full_decoding_and_an_exact_resize_give(
    name: str, size: int, crop: float, apart: float
) -> None:
    data = jpeg(PHOTOS[name]())

    tensor = codec(height=size, width=size, crop=crop).decode(data)
    exact = the_slow_way(Image.open(BytesIO(data)), size, crop)

    assert tensor.shape == (size, size, 3)
    assert np.abs(tensor - exact).mean() < apart
    # The fast DCT darkens red and blue by about one level.
    assert np.abs(tensor.mean(axis=(0, 1)) - exact.mean(axis=(0, 1))).max() < 2


def test_the_common_case_is_cut_out_of_a_half_size_decode_without_resampling() -> None:
    data = jpeg(skimage.data.astronaut())
    half = simplejpeg.decode_jpeg(
        data, fastdct=True, fastupsample=True, min_height=256, min_width=256, min_factor=1
    )

    np.testing.assert_array_equal(codec().decode(data), half[16:240, 16:240])


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (224, 224), (37, 300), (300, 37), (448, 900)])
def test_every_fit_and_interpolation_fills_the_tensor_from_any_size(
    fit: str, interpolation: str, size: tuple[int, int]
) -> None:
    tensor = codec(height=32, width=48, fit=fit, interpolation=interpolation).decode(
        saved(Image.new("RGB", size, (200, 150, 100)), "PNG")
    )

    assert tensor.shape == (32, 48, 3)
    np.testing.assert_array_equal(tensor[15:17, 23:25].reshape(-1, 3), [(200, 150, 100)] * 4)


def test_pad_leaves_black_margins_around_the_whole_picture() -> None:
    tensor = codec(height=60, width=60, fit="pad").decode(saved(Image.new("RGB", (30, 10), "white"), "PNG"))

    np.testing.assert_array_equal(tensor[20:40], np.full((20, 60, 3), 255))
    assert not tensor[:20].any()
    assert not tensor[40:].any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_was_turned_lies_in_padding_where_the_same_one_lies_that_was_not(
    orientation: int,
) -> None:
    pads = codec(height=33, width=33, fit="pad")
    turned = saved(Image.new("RGB", (66, 40), "white"), "PNG", exif=exif(orientation))
    seen = Image.new("RGB", (66, 40) if orientation < 5 else (40, 66), "white")  # margins of 6 and 7 pixels

    np.testing.assert_array_equal(pads.decode(turned), pads.decode(saved(seen, "PNG")))


def test_squash_keeps_the_corners_and_crop_cuts_them_off() -> None:
    marked = np.full((100, 200, 3), 255, np.uint8)
    marked[:, :40] = 0
    data = saved(Image.fromarray(marked), "PNG")

    assert codec(height=50, width=50, fit="squash").decode(data)[25, 4].tolist() == [0, 0, 0]
    assert codec(height=50, width=50, fit="crop").decode(data).min() > 250


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_tensor_is_upright_for_every_orientation(orientation: int, kind: str) -> None:
    data = saved(flag(), kind, exif=exif(orientation))

    tensor = codec(height=32, width=48, crop=1.0).decode(data)

    corners = [tensor[row, column].astype(int) for row in (4, 27) for column in (4, 43)]
    named = dict(zip("rgbs", (RED, GREEN, BLUE, SAND), strict=True))
    seen = [min(named, key=lambda name: np.abs(corner - named[name]).sum()) for corner in corners]
    wanted = [next(n for n, c in named.items() if c == colour) for colour in SEEN_BY_ORIENTATION[orientation]]
    assert seen == wanted


def test_a_row_of_a_batch_is_filled_in_place_with_the_same_pixels() -> None:
    data = jpeg(skimage.data.coffee())
    batch = np.zeros((3, 224, 224, 3), np.uint8)

    returned = codec().decode(data, out=batch[1])

    assert np.shares_memory(returned, batch)
    np.testing.assert_array_equal(batch[1], codec().decode(data))
    assert not batch[0].any()
    assert not batch[2].any()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_bytes_are_refused_and_every_valid_format_is_taken() -> None:
    small = codec(height=32, width=32)
    refused = 0

    for sample in valid_images(seed=1):
        assert small.decode(sample.data).shape == (32, 32, 3)
    for sample in malformed_images(seed=1, count=150):
        try:
            assert small.decode(sample.data).shape == (32, 32, 3)
        except ImageError:
            refused += 1

    assert 50 < refused < 150


def test_scores_are_the_softmax_of_the_highest_logits_in_order() -> None:
    predictions = codec().encode(np.array([1, 3, 2], np.float32), 2)

    whole = exp(1) + exp(3) + exp(2)
    assert [prediction["label"] for prediction in predictions] == ["b", "c"]
    assert [prediction["score"] for prediction in predictions] == pytest.approx(
        [exp(3) / whole, exp(2) / whole]
    )
    assert all(type(prediction["score"]) is float for prediction in predictions)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4, 3e38])
def test_softmax_is_stable_for_extreme_logits(shift: float) -> None:
    low, zero, one = codec().encode(np.array([-100, 0, 1], np.float32), 3)[::-1]
    assert (low["label"], zero["label"], one["label"]) == ("a", "b", "c")
    assert one["score"] == pytest.approx(exp(1) / (1 + exp(1)))
    assert 0 < low["score"] < 1e-43

    predictions = codec().encode(np.array([shift, shift, shift], np.float32), 3)
    assert [prediction["score"] for prediction in predictions] == pytest.approx([1 / 3] * 3)


def test_equal_logits_come_in_index_order_also_at_the_border() -> None:
    labels = tuple(str(index) for index in range(1000))
    logits = np.zeros(1000, np.float32)
    logits[[700, 20]] = 1

    predictions = codec(labels).encode(logits, 5)

    assert [prediction["label"] for prediction in predictions] == ["20", "700", "0", "1", "2"]


@pytest.mark.parametrize("labels", [1, 7, 40, 41, 328, 1000, 1003])
def test_of_however_many_labels_the_likeliest_are_named(labels: int) -> None:
    """Also where they are neighbours, at either end, and equal."""
    random = np.random.default_rng(labels)
    logits = random.normal(size=(6, labels)).astype(np.float32)
    logits[1].sort()
    logits[2] = logits[1, ::-1]
    logits[3] = random.integers(0, 3, labels)
    logits[4] = -np.inf
    logits[4, -1] = 0
    logits[5] = logits[0].round(1)
    top_ks = [5, 1, 3, 2, 4, 5]
    names = tuple(map(str, range(labels)))

    rows = codec(names).encode_batch(logits, top_ks)

    for row, numbers, top_k in zip(rows, logits, top_ks, strict=True):
        best = sorted(range(labels), key=lambda index: (-numbers[index], index))[:top_k]
        assert [prediction["label"] for prediction in row] == [str(index) for index in best]


def test_top_k_beyond_the_labels_gives_all_of_them() -> None:
    predictions = codec().encode(np.array([0, 0, 0], np.float32), 10)

    assert predictions == [{"label": label, "score": pytest.approx(1 / 3)} for label in "abc"]


def test_a_masked_logit_scores_zero_and_broken_ones_are_an_error() -> None:
    assert codec().encode(np.array([-np.inf, 0, 0], np.float32), 3)[-1] == {"label": "a", "score": 0.0}
    for broken in ([np.nan, 0, 0], [np.inf, 0, 0], [0, 0]):
        with pytest.raises(ValueError, match="logits"):
            codec().encode(np.array(broken, np.float32), 1)


def test_small_and_scaled_images_are_cheap_and_large_ones_are_not() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3)).astype(np.uint8)
    photo = jpeg(skimage.data.astronaut())
    whole = codec(interpolation="nearest")

    assert codec().open(photo).is_cheap
    assert codec().open(saved(Image.new("RGB", (256, 256)), "PNG")).is_cheap
    assert not codec().open(jpeg(noise)).is_cheap
    assert not codec().open(saved(Image.new("RGB", (2000, 1500)), "PNG")).is_cheap
    blank = jpeg(np.zeros((1500, 2000, 3), np.uint8))
    assert codec().open(blank).is_cheap
    assert not whole.open(jpeg(np.zeros((3000, 2000, 3), np.uint8))).is_cheap


def test_a_batch_is_encoded_row_by_row_and_a_row_without_numbers_spoils_no_other() -> None:
    logits = np.array([[0, 1, 2], [np.nan, 0, 0], [2, 2, 0], [np.inf, 0, 0]], np.float32)
    three = codec(labels=("a", "b", "c"))

    rows = three.encode_batch(logits, [1, 1, 3, 2])

    assert rows[0] == three.encode(logits[0], 1)
    assert rows[2] == three.encode(logits[2], 3)
    assert [prediction["label"] for prediction in rows[2]] == ["a", "b", "c"]
    assert isinstance(rows[1], ValueError)
    assert isinstance(rows[3], ValueError)
