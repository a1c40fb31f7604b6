"""Marks of masks against their definitions, counted pixel by pixel."""

import numpy as np
import pytest

from models.evaluate.mask_pictures import beside_each_other
from models.evaluate.masks import MaskTally
from models.tasks.images import ImageLimits, decode_image

IGNORED = 255


def tallied(said, wanted, labels):
    tally = MaskTally(labels)
    tally.add(np.asarray(said, np.uint8), np.asarray(wanted, np.uint8))
    return tally


def marks(said, wanted, labels):
    names = [f"{at}.png" for at in range(len(wanted))]
    return tallied(said, wanted, labels).evaluation([f"label {at}" for at in range(labels)], names)


def by_hand(said, wanted, levels):
    """Sets of pixels, and their shares."""
    counts = wanted != IGNORED
    facts = {}
    for level in levels:
        is_so, is_said = (wanted == level) & counts, (said == level) & counts
        both, either = (is_so & is_said).sum(), (is_so | is_said).sum()
        facts[level] = (
            both / is_so.sum() if is_so.any() else None,
            both / either if either else None,
            2 * both / (is_so.sum() + is_said.sum()) if either else None,
        )
    return facts


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_marks_are_their_definitions(labels):
    chance = np.random.default_rng(labels)
    levels = max(2, labels)
    wanted = chance.integers(0, levels, (3, 8, 9), dtype=np.uint8)
    said = np.where(chance.random(wanted.shape) < 0.6, wanted, chance.integers(0, levels, wanted.shape))
    wanted[chance.random(wanted.shape) < 0.1] = IGNORED
    found = marks(said, wanted, labels)
    counts = wanted != IGNORED
    of_labels = [1] if labels == 1 else range(labels)
    facts = by_hand(said, wanted, of_labels)
    for scores, level in zip(found.classes, of_labels, strict=True):
        assert (scores.pixel_accuracy, scores.iou, scores.dice) == pytest.approx(facts[level])
        assert scores.pixels == (wanted == level).sum()
        assert scores.predicted == ((said == level) & counts).sum()
        assert scores.pictures == (wanted == level).any(axis=(1, 2)).sum()
    accuracies, ious, dices = zip(*facts.values(), strict=True)
    assert found.pixel_accuracy == pytest.approx((said == wanted)[counts].mean())
    assert found.mean_pixel_accuracy == pytest.approx(np.mean(accuracies))
    assert found.mean_iou == pytest.approx(np.mean(ious))
    assert found.mean_dice == pytest.approx(np.mean(dices))
    shares = {level: (wanted == level).sum() / counts.sum() for level in range(levels)}
    all_ious = by_hand(said, wanted, range(levels))
    weighted = sum(shares[level] * all_ious[level][1] for level in range(levels))
    assert found.frequency_weighted_iou == pytest.approx(weighted)
    assert found.pixels == counts.sum()
    assert sum(pixels for _, _, pixels in found.confusion) == counts.sum()


def test_a_label_that_is_nowhere_has_no_marks_and_lowers_no_mean():
    found = marks([[[0, 1]]], [[[0, 1]]], 3)
    assert found.classes[2].iou is None
    assert (found.mean_iou, found.mean_dice, found.mean_pixel_accuracy) == (1.0, 1.0, 1.0)


def test_a_label_that_is_only_said_counts_as_wrong():
    assert marks([[[0, 2]]], [[[0, 0]]], 3).mean_iou == pytest.approx((0.5 + 0.0) / 2)


def test_pictures_are_ordered_by_how_wrong_they_are():
    wanted = np.ones((4, 1, 4), np.uint8)
    said = np.array([[[1, 1, 0, 0]], [[1, 1, 1, 1]], [[0, 0, 0, 0]], [[1, 1, 1, 0]]], np.uint8)
    found = marks(said, wanted, 1)
    assert [(one.index, one.name, one.mean_iou) for one in found.worst] == [
        (2, "2.png", 0.0),
        (0, "0.png", 0.5),
        (3, "3.png", 0.75),
        (1, "1.png", 1.0),
    ]
    assert [one.index for one in found.best] == [1, 3, 0, 2]


def test_the_baseline_is_the_best_answer_that_never_looks():
    wanted = np.array([[[0, 0, 0, 1]]], np.uint8)
    assert marks(wanted, wanted, 2).baseline.label == "label 0"
    assert marks(wanted, wanted, 2).baseline.mean_iou == pytest.approx(0.75 / 2)
    assert marks(wanted, wanted, 1).baseline.mean_iou == 0.25


def test_batches_add_up():
    chance = np.random.default_rng(0)
    said, wanted = (chance.integers(0, 3, (6, 4, 4), dtype=np.uint8) for _ in range(2))
    tally = MaskTally(3)
    for start in (0, 2, 5):
        stop = {0: 2, 2: 5, 5: 6}[start]
        tally.add(said[start:stop], wanted[start:stop])
    names = [str(at) for at in range(6)]
    assert tally.evaluation("abc", names) == tallied(said, wanted, 3).evaluation("abc", names)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="above 1"):
        tallied([[[2]]], [[[0]]], 2)
    with pytest.raises(ValueError, match="1 pictures, 0 names"):
        tallied([[[1]]], [[[0]]], 2).evaluation("ab", [])
    with pytest.raises(ValueError, match="0 pictures"):
        MaskTally(2).evaluation("ab", [])


def test_a_sheet_shows_the_picture_its_mask_and_the_answer():
    pixels = np.full((40, 60, 3), 200, np.uint8)
    wanted, said = np.zeros((2, 40, 60), np.uint8)
    wanted[:, :30] = 1
    sheet = decode_image(beside_each_other(pixels, wanted, said), limits=ImageLimits())
    assert sheet.shape == (40, 3 * 60 + 8, 3)
    plain, tinted = sheet[20, 10].astype(int), sheet[20, 64 + 10].astype(int)
    assert abs(plain - 200).max() < 6
    assert tinted[1] < 150 < tinted[0]
    assert abs(sheet[20, 64 + 50].astype(int) - 200).max() < 6
    assert abs(sheet[20, 128 + 10].astype(int) - 200).max() < 6
