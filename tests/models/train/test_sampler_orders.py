"""What comes in an epoch, by sampler."""

import numpy as np
import pytest

from models.catalogue import CATALOGUE, Kind

COUNTS = (400, 90, 10, 0, 25)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
SAMPLERS = CATALOGUE.find(kind=Kind.SAMPLER)


def order(method, seed=0, labels=LABELS, **parameters):
    row = CATALOGUE.get(Kind.SAMPLER, method)
    return row.build()(row.parameters.model_validate(parameters), labels, np.random.default_rng(seed))


def test_the_catalogue_has_five():
    assert [row.id for row in SAMPLERS] == [
        "shuffle",
        "sequential",
        "balanced",
        "square_root_balanced",
        "repeat_factor",
    ]


@pytest.mark.parametrize("row", SAMPLERS, ids=lambda row: row.id)
def test_an_epoch_has_as_many_indices_as_pictures_and_depends_on_the_seed_alone(row):
    one = order(row.id)
    assert one.dtype == np.int64
    assert one.shape == LABELS.shape
    assert 0 <= one.min() <= one.max() < len(LABELS)
    assert np.array_equal(one, order(row.id))
    assert np.array_equal(one, order(row.id, seed=1)) is (row.id == "sequential")


def test_shuffled_and_in_order_have_every_picture_once():
    assert np.array_equal(order("sequential"), np.arange(len(LABELS)))
    assert np.array_equal(np.sort(order("shuffle")), np.arange(len(LABELS)))


@pytest.mark.parametrize(("method", "power"), [("balanced", 0.0), ("square_root_balanced", 0.5)])
def test_labels_come_by_their_share(method, power):
    chosen = order(method)
    shares = np.array([count**power if count else 0.0 for count in COUNTS])
    wanted = shares / shares.sum() * len(LABELS)
    assert np.abs(np.bincount(LABELS[chosen], minlength=5) - wanted).max() < 1


@pytest.mark.parametrize("rare_share", [0.01, 0.1, 0.5])
def test_rare_labels_are_repeated_by_the_root_of_how_rare_they_are(rare_share):
    chosen = order("repeat_factor", rare_share=rare_share)
    repeats = [max(1.0, np.sqrt(rare_share * len(LABELS) / count)) if count else 0.0 for count in COUNTS]
    wanted = np.array(COUNTS) * repeats / np.dot(COUNTS, repeats) * len(LABELS)
    assert np.abs(np.bincount(LABELS[chosen], minlength=5) - wanted).max() < 1


def test_where_no_label_is_rare_every_picture_comes_once():
    assert np.array_equal(np.sort(order("repeat_factor", rare_share=0.001)), np.arange(len(LABELS)))


@pytest.mark.parametrize("method", ["balanced", "square_root_balanced", "repeat_factor"])
def test_no_picture_comes_again_before_all_of_its_label_have_come(method):
    times = np.bincount(order(method), minlength=len(LABELS))
    for label in (0, 1, 2, 4):
        own = times[label == LABELS]
        assert own.max() - own.min() <= 1


def test_common_labels_show_other_pictures_each_epoch():
    common = set(np.flatnonzero(LABELS == 0))
    one, other = (common & set(order("balanced", seed).tolist()) for seed in (0, 1))
    assert one != other
