"""The segmentation codec: shares from logits, masks of the picture's size, pictures made of them."""

import numpy as np
import pytest
from PIL import Image

from models.manifest import Manifest, MaskFacts, Preprocessing, Task
from models.tasks.images import ImageLimits
from models.tasks.segmentation import SegmentationCodec, cutout, labelmap, overlay

SIDE = 16
GREY = np.full((30, 60, 3), 100, np.uint8)


def codec(labels=("a", "b"), *, activation="softmax", is_stretched=False, fit="squash"):
    manifest = Manifest(
        task=Task.SEGMENTATION,
        inputs=(),
        outputs=(),
        preprocessing=Preprocessing(height=SIDE, width=SIDE, fit=fit),
        labels=labels,
        masks=MaskFacts(activation=activation, is_stretched=is_stretched),
    )
    return SegmentationCodec(manifest, ImageLimits())


def halves(low=-4.0, high=4.0):
    """Logits of two labels: the first on the left half, the second on the right."""
    logits = np.full((1, 2, SIDE, SIDE), low, np.float32)
    logits[0, 0, :, : SIDE // 2] = high
    logits[0, 1, :, SIDE // 2 :] = high
    return logits


def masks_of(made, logits, size=(30, 60)):
    return made.masks_of(made.encode_batch(logits, [None])[0], size)


def test_soft_max_shares_sum_to_one_and_sigmoid_shares_stand_alone():
    logits = np.random.default_rng(0).normal(size=(2, 2, SIDE, SIDE)).astype(np.float32) * 50
    exclusive = codec().encode_batch(logits, [None, None])
    alone = codec(activation="sigmoid").encode_batch(logits, [None, None])
    for row in range(2):
        np.testing.assert_allclose(exclusive[row].sum(axis=0), 1, atol=1e-6)
        np.testing.assert_allclose(alone[row], 1 / (1 + np.exp(-logits[row].astype(np.float64))), atol=1e-6)
        assert exclusive[row].dtype == alone[row].dtype == np.float32


def test_stretched_shares_reach_from_0_to_1():
    logits = np.linspace(-1, 1, SIDE * SIDE, dtype=np.float32).reshape(1, 1, SIDE, SIDE)
    shares = codec(("a",), activation="sigmoid", is_stretched=True).encode_batch(logits, [None])[0]
    assert (float(shares.min()), float(shares.max())) == (0.0, 1.0)


def test_a_row_that_is_not_finite_spoils_no_other():
    logits = np.concatenate([halves(), halves()])
    logits[0, 0, 3, 3] = np.nan
    bad, good = codec().encode_batch(logits, [None, None])
    assert isinstance(bad, ValueError)
    assert good.shape == (2, SIDE, SIDE)


@pytest.mark.parametrize("shape", [(1, 3, SIDE, SIDE), (1, 2)])
def test_other_shapes_than_the_labels_ask_for_are_refused(shape):
    (answer,) = codec().encode_batch(np.zeros(shape, np.float32), [None])
    assert "for 2 labels" in str(answer)


@pytest.mark.parametrize("size", [(30, 60), (16, 16), (7, 501), (1, 1), (1000, 3)])
def test_masks_have_the_picture_s_size_and_their_edge_in_its_middle(size):
    left, right = masks_of(codec(), halves(), size).segments([0, 1], 0.5) if size[1] > 1 else (None, None)
    if left is None:
        assert masks_of(codec(), halves(), size).share(0).shape == size
        return
    assert left.mask.shape == right.mask.shape == size
    assert (left.mask ^ right.mask).mean() > 0.99
    edge = left.mask.sum(axis=1)
    assert np.abs(edge - size[1] / 2).max() <= max(1, size[1] / SIDE / 2)
    assert left.mask[:, 0].all()
    assert right.mask[:, -1].all()


def test_what_was_padded_around_a_picture_is_no_part_of_its_masks():
    logits = np.full((1, 2, SIDE, SIDE), -4, np.float32)
    logits[0, 1, :, :] = 4  # the second label everywhere: above and below the picture too
    logits[0, 1, 4:12, :] = -4
    logits[0, 0, 4:12, :] = 4  # 60 x 30 in a square: eight rows in the middle
    (only,) = masks_of(codec(fit="pad"), logits).segments([0, 1], 0.5)
    assert only.label == "a"
    assert only.mask.all()


def test_labels_that_are_nowhere_are_left_out_and_scores_are_means():
    logits = halves(high=2.0)
    logits[0, 1] = -9
    (one,) = masks_of(codec(activation="sigmoid"), logits).segments([0, 1], 0.5)
    assert one.label == "a"
    assert 0.5 < one.score < 0.9
    assert list(masks_of(codec(activation="sigmoid"), logits).segments([0, 1], 0.95)) == []


def test_a_label_map_holds_one_plus_the_index_and_a_palette():
    image = labelmap(GREY, masks_of(codec(), halves()), [0, 1], 0.5)
    assert image.mode == "P"
    assert image.size == (60, 30)
    values = np.asarray(image)
    assert set(np.unique(values)) <= {0, 1, 2}
    assert (values[:, 2], values[:, -2]) == (pytest.approx(1), pytest.approx(2))
    assert image.convert("RGB").getpixel((2, 2)) != image.convert("RGB").getpixel((58, 2))


def test_only_chosen_labels_are_drawn():
    values = np.asarray(labelmap(GREY, masks_of(codec(), halves()), [1], 0.5))
    assert (values[:, 2] == 0).all()
    assert (values[:, -2] == 2).all()


def test_many_labels_make_a_map_of_sixteen_bits():
    labels = tuple(f"l{index}" for index in range(300))
    logits = np.full((1, 300, SIDE, SIDE), -4, np.float32)
    logits[0, 299] = 4
    image = labelmap(GREY, masks_of(codec(labels, activation="sigmoid"), logits), range(300), 0.5)
    assert image.mode == "I;16"
    assert np.asarray(image)[3, 3] == 300


def test_an_overlay_tints_where_a_label_is_and_nothing_else():
    pixels = np.asarray(overlay(GREY, masks_of(codec(), halves()), [1], 0.5))
    assert pixels.shape == GREY.shape
    assert (pixels[:, 0] == 100).all()
    assert (pixels[:, -1] != 100).any()


def test_a_cutout_keeps_the_colours_and_clears_the_rest_softly():
    image = cutout(GREY, masks_of(codec(), halves()), [0], 0.5)
    assert image.mode == "RGBA"
    pixels = np.asarray(image)
    assert (pixels[..., :3] == 100).all()
    assert (pixels[:, 0, 3] == 255).all()
    assert (pixels[:, -1, 3] == 0).all()
    assert 0 < pixels[10, 30, 3] < 255


def test_memory_goes_by_the_picture_and_not_by_the_labels():
    import tracemalloc

    labels = tuple(f"l{index}" for index in range(64))
    logits = np.random.default_rng(0).normal(size=(1, 64, SIDE, SIDE)).astype(np.float32)
    masks = masks_of(codec(labels), logits, (1000, 1000))
    tracemalloc.start()
    labelmap(np.zeros((1000, 1000, 3), np.uint8), masks, range(64), 0.1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 2**20
    assert isinstance(Image.fromarray(masks.share(0)), Image.Image)
