"""What comes in an epoch, by sampler."""

import numpy as np
import pytest

from models.catalogue import CATALOGUE, Kind

COUNTS = (400, 90, 10, 0, 25)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
SAMPLERS = CATALOGUE.find(kind=Kind.SAMPLER)


def order(method, seed=0, labels=LABELS):
    row = CATALOGUE.get(Kind.SAMPLER, method)
    return row.build()(row.parameters(), labels, np.random.default_rng(seed))


def test_the_catalogue_has_four():
    assert [row.id for row in SAMPLERS] == ["shuffle", "sequential", "balanced", "square_root_balanced"]


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


@pytest.mark.parametrize("method", ["balanced", "square_root_balanced"])
def test_no_picture_comes_again_before_all_of_its_label_have_come(method):
    times = np.bincount(order(method), minlength=len(LABELS))
    for label in (0, 1, 2, 4):
        own = times[label == LABELS]
        assert own.max() - own.min() <= 1


def test_common_labels_show_other_pictures_each_epoch():
    common = set(np.flatnonzero(LABELS == 0))
    one, other = (common & set(order("balanced", seed).tolist()) for seed in (0, 1))
    assert one != other
