import hashlib
from collections import Counter

import pytest

from models.data.pack import Pack, Split
from models.data.splits import Shares, Unsplit, assign_splits
from models.data.validate import DataRefused, DatasetOptions, make_pack
from tests.models.data.pictures import folders, png, write_zip

TENTHS = Shares(validation=0.1, test=0.1)


def images(label, count, given=None, start=0):
    return [
        Unsplit(label, hashlib.sha256(f"{label}:{n}".encode()).hexdigest(), given)
        for n in range(start, start + count)
    ]


def counts(unsplit, splits):
    return Counter((image.label, split) for image, split in zip(unsplit, splits, strict=True))


def test_every_label_is_dealt_out_by_the_shares():
    unsplit = images(0, 100) + images(1, 50) + images(2, 1000)
    counted = counts(unsplit, assign_splits(unsplit, TENTHS, seed=0))
    for label, total in ((0, 100), (1, 50), (2, 1000)):
        assert counted[label, Split.VALIDATION] == counted[label, Split.TEST] == total // 10
        assert counted[label, Split.TRAIN] == total - 2 * (total // 10)


@pytest.mark.parametrize(
    ("count", "expected"), [(2, (1, 1, 0)), (3, (2, 1, 0)), (5, (3, 1, 1)), (9, (7, 1, 1))]
)
def test_small_labels_keep_one_image_for_training_first_and_for_validation_next(count, expected):
    unsplit = images(0, count)
    counted = counts(unsplit, assign_splits(unsplit, TENTHS, seed=0))
    assert tuple(counted[0, split] for split in Split) == expected


@pytest.mark.parametrize("shares", [Shares(0.6, 0.39), Shares(0.0, 0.99), Shares(0.99, 0.0)])
def test_large_shares_leave_something_for_training(shares):
    for count in range(2, 12):
        unsplit = images(0, count)
        assert counts(unsplit, assign_splits(unsplit, shares, seed=0))[0, Split.TRAIN] >= 1


def test_a_share_of_zero_leaves_a_split_empty():
    unsplit = images(0, 100)
    counted = counts(unsplit, assign_splits(unsplit, Shares(0.1, 0.0), seed=0))
    assert counted == {(0, Split.TRAIN): 90, (0, Split.VALIDATION): 10}


def test_the_seed_decides_and_the_order_of_the_images_does_not():
    unsplit = images(0, 100) + images(1, 100)
    first = dict(zip(unsplit, assign_splits(unsplit, TENTHS, seed=7), strict=True))
    backwards = unsplit[::-1]
    assert dict(zip(backwards, assign_splits(backwards, TENTHS, seed=7), strict=True)) == first
    other = dict(zip(unsplit, assign_splits(unsplit, TENTHS, seed=8), strict=True))
    assert sum(other[image] is not split for image, split in first.items()) > 20


def test_the_split_of_these_images_is_the_same_in_every_release():
    unsplit = images(0, 20)
    splits = assign_splits(unsplit, TENTHS, seed=0)
    held_out = {
        split: [at for at, one in enumerate(splits) if one is split]
        for split in (Split.VALIDATION, Split.TEST)
    }
    assert held_out == {Split.VALIDATION: [0, 4], Split.TEST: [13, 14]}


def test_given_splits_are_kept():
    given = images(0, 20, Split.TRAIN) + images(0, 5, Split.VALIDATION, 20) + images(0, 5, Split.TEST, 25)
    assert assign_splits(given, TENTHS, seed=0) == [image.given for image in given]


def test_a_test_split_without_one_for_validation_has_it_taken_from_training():
    given = images(0, 50, Split.TRAIN) + images(0, 10, Split.TEST, 50)
    splits = assign_splits(given, TENTHS, seed=0)
    assert Counter(splits[:50]) == {Split.TRAIN: 44, Split.VALIDATION: 6}
    assert splits[50:] == [Split.TEST] * 10


def test_images_that_are_all_for_training_are_dealt_out():
    given = images(0, 50, Split.TRAIN)
    assert Counter(assign_splits(given, TENTHS, seed=0)) == {
        Split.TRAIN: 40,
        Split.VALIDATION: 5,
        Split.TEST: 5,
    }


def test_added_images_fill_what_the_shares_want_of_all():
    added = images(0, 20)
    settled = {(0, Split.TRAIN): 76, (0, Split.VALIDATION): 2, (0, Split.TEST): 2}
    assert Counter(assign_splits(added, TENTHS, seed=0, settled=settled)) == {
        Split.TRAIN: 4,
        Split.VALIDATION: 8,
        Split.TEST: 8,
    }


def test_splits_are_stored_with_the_images_and_share_no_bytes(tmp_path):
    path = write_zip(tmp_path / "pets.zip", folders("cats", "dogs", per_class=30))
    report = make_pack([path], tmp_path / "out.pack", options=DatasetOptions(seed=3))
    pack = Pack(tmp_path / "out.pack")
    assert report.counts == {
        Split.TRAIN: {"cats": 24, "dogs": 24},
        Split.VALIDATION: {"cats": 3, "dogs": 3},
        Split.TEST: {"cats": 3, "dogs": 3},
    }
    hashes = [{item.sha256 for item in pack.of(split)} for split in Split]
    assert not hashes[0] & hashes[1] | hashes[0] & hashes[2] | hashes[1] & hashes[2]
    assert (report.seed, report.validation_share, report.test_share) == (3, 0.1, 0.1)


def test_what_each_file_is_for_can_be_told(tmp_path):
    first = write_zip(tmp_path / "a.zip", folders("cats", "dogs", per_class=6, prefix="test/"))
    second = write_zip(tmp_path / "b.zip", folders("cats", "dogs", per_class=4, seed=5000))
    make_pack([first, second], tmp_path / "out.pack", file_splits=[Split.TRAIN, Split.VALIDATION])
    pack = Pack(tmp_path / "out.pack")
    assert {split: len(pack.of(split)) for split in Split} == {
        Split.TRAIN: 12,
        Split.VALIDATION: 8,
        Split.TEST: 0,
    }


def test_shares_that_leave_nothing_for_training_are_refused():
    with pytest.raises(ValueError, match="leave nothing for training"):
        DatasetOptions(validation_share=0.5, test_share=0.5)


def test_a_set_that_is_only_for_testing_is_refused_by_class(tmp_path):
    contents = folders("cats", "dogs", prefix="test/") | {
        "val/cats/1.png": png(5000),
        "val/dogs/1.png": png(5001),
    }
    with pytest.raises(DataRefused) as caught:
        make_pack([write_zip(tmp_path / "pets.zip", contents)], tmp_path / "out.pack")
    assert {(problem.file, problem.message) for problem in caught.value.problems} == {
        ("test/cats/0.png", "The class 'cats' has no image for training."),
        ("test/dogs/0.png", "The class 'dogs' has no image for training."),
    }
