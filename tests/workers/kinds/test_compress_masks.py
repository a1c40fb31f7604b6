"""Segmenters in fewer bits: what counts is the label of each pixel, on pictures with masks."""

import numpy as np
import pytest

from app.access.principal import SYSTEM
from app.errors import InvalidSpec, NotServable, ParityFailed
from app.registry.verification import verify
from models.data.pack import PackWriter, Split
from models.export.decisions import mean_iou, overlap, same_share
from models.export.reference import read_reference
from models.manifest import REFERENCE_FILE
from tests.colour_models import COLOURS, RGB
from tests.compress_world import SIDE, CompressPlace, publish_convolutions
from tests.models.train.tiny_masks import add_labelled
from tests.packs import publish_pack


@pytest.fixture
def place(tmp_path, sqlite_url):
    place = CompressPlace(tmp_path, sqlite_url)
    for labels in (1, 3):
        publish_convolutions(
            place.registry, place.folder / f"to-{labels}", name=f"to-{labels}", labels=labels
        )
        pack = write_halves(place.folder / f"halves-{labels}.pack", labels)
        publish_pack(
            place.datasets, SYSTEM, place.folder, name=f"halves-{labels}", pack=pack, task="segmentation"
        )
    yield place
    place.database.close()


def write_halves(path, labels, *, pictures=6):
    """Pictures of two colours beside each other; masks say which, or with one label where it is red. One
    column of each mask is wrong."""
    chance = np.random.default_rng(4)
    with PackWriter(path, COLOURS[:labels]) as writer:
        for split in Split:
            for at in range(pictures):
                left, right = (at % 3, (at + 1) % 3)
                levels = np.full((SIDE, SIDE), left, np.uint8)
                levels[:, int(chance.integers(4, 12)) :] = right
                pixels = np.array([RGB[colour] for colour in COLOURS], np.uint8)[levels]
                mask = levels if labels > 1 else (levels == 0).astype(np.uint8)
                mask[:, 0] = (mask[:, 0] + 1) % max(2, labels)
                add_labelled(writer, pixels, mask, name=f"{split}/{at}.png", label=0, split=split)
        writer.finish()
    return path


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_its_certificate_says_which_share_of_the_pixels_keeps_its_label(place, labels, precision):
    model, asked = f"to-{labels}", {"precision": precision, "dataset": f"halves-{labels}"}
    assert str(place.publish(model=model, **asked)) == f"{model}:2"
    certificate = place.registry.get_version(SYSTEM, model, 2).certificate
    agreement, compared = certificate.agreement, certificate.compared_with
    assert agreement.samples == 6
    assert 0.99 <= agreement.same_label <= 1
    assert (compared.accuracy_before, compared.accuracy_after) == (None, None)
    assert 0.8 < compared.mean_iou_before < 1  # but for the wrong column
    assert compared.mean_iou_after == pytest.approx(compared.mean_iou_before, abs=0.02)
    assert agreement.mean_iou == pytest.approx(agreement.same_label, abs=0.02)
    assert agreement.least_iou == 0.95
    assert any("of the pixels of 6 held-out pictures" in message for message in place.messages)
    again = verify(place.settings, f"{model}:2")
    assert again.computed.agreement == agreement


def test_one_that_changes_pixels_is_refused_with_their_share(place):
    publish_convolutions(place.registry, place.folder / "odd", name="odd", labels=3, outlier_in=1)
    with pytest.raises(ParityFailed, match=r"the same label for [0-6]\d\.\d\d% of the pixels of 6 held-out"):
        place.run(model="odd", dataset="halves-3", keep="always")


def test_one_that_no_longer_sees_its_label_is_refused_though_most_pixels_never_had_it(place):
    publish_convolutions(place.registry, place.folder / "odd", name="odd", labels=1, outlier_in=1)
    asked = {"model": "odd", "dataset": "halves-1", "keep": "always", "least_agreement": 0.5}
    said = r"the same label for 7\d.*mean IoU of both 0.00%.*; a least_iou of 95.00% is asked"
    with pytest.raises(ParityFailed, match=said) as refused:
        place.run(**asked)
    assert "least_iou" in refused.value.hint
    agreement = place.run(**asked, least_iou=0).publish.certificate.agreement
    assert (agreement.mean_iou, agreement.least_iou) == (0, 0)


@pytest.mark.parametrize("labels", [1, 3])
def test_one_that_takes_windows_is_compared_on_windows_of_the_pictures(place, labels):
    publish_convolutions(place.registry, place.folder / "any", name="any", labels=labels, fit="tiles")
    assert str(place.publish(model="any", dataset=f"halves-{labels}")) == "any:2"
    version = place.registry.get_version(SYSTEM, "any", 2)
    agreement = version.certificate.agreement
    assert agreement.samples == 6  # a picture is one window
    assert (agreement.same_label > 0.99, agreement.mean_iou > 0.95) == (True, True)
    assert version.manifest.tiles is not None
    assert any("of the pixels of 6 held-out windows of pictures" in message for message in place.messages)
    assert verify(place.settings, "any:2").computed.agreement == agreement


def test_masks_that_are_not_of_its_labels_or_its_whole_picture_judge_nothing(place):
    publish_convolutions(place.registry, place.folder / "padded", name="padded", labels=3, fit="pad")
    for model, dataset in (("padded", "halves-3"), ("to-3", "halves-1")):
        outcome = place.run(model=model, dataset=dataset, precision="fp16", keep="always")
        compared = outcome.publish.certificate.compared_with
        assert (compared.mean_iou_before, compared.mean_iou_after) == (None, None)
        assert b"mean_iou_before" not in outcome.publish.certificate.to_json()
        assert outcome.publish.certificate.agreement.mean_iou is not None  # which needs no masks


@pytest.mark.parametrize(("worth", "least", "compared"), [(4, 2, 4), (1, 3, 3)])
def test_the_reference_holds_no_more_maps_than_are_worth_keeping(place, monkeypatch, worth, least, compared):
    map_bytes = 4 * 3 * SIDE * SIDE
    monkeypatch.setattr("workers.kinds.compress_subject._MOST_MAP_BYTES", worth * map_bytes)
    monkeypatch.setattr("workers.kinds.compress_subject._LEAST_MAPS", least)
    parcel = place.run(model="to-3", dataset="halves-3", precision="fp16", keep="always").publish
    assert read_reference(parcel.artifacts[REFERENCE_FILE]).logits.shape == (compared, 3, SIDE, SIDE)
    assert f"{compared} of 6 held-out pictures are compared." in place.messages


def test_an_original_that_gives_what_is_not_a_number_is_named(place):
    publish_convolutions(place.registry, place.folder / "huge", name="huge", labels=3, gain=3e38)
    for precision in ("int8", "fp16"):
        with pytest.raises(NotServable, match="huge:1 itself gives outputs that are not finite"):
            place.run(model="huge", dataset="halves-3", precision=precision, keep="always")


def test_a_pixel_of_several_labels_keeps_all_of_them_or_is_not_kept():
    expected = np.zeros((4, 2, 2), bool)
    got = expected.copy()
    got[[0, 3], 0, 0] = got[1, 1, 1] = True
    assert same_share(got, expected) == 0.5
    assert same_share(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 0]])) == 0.75


def test_mean_iou_is_over_the_labels_that_either_mask_has():
    one = np.array([[0, 0, 1, 1], [0, 0, 0, 1]])
    other = np.array([[0, 0, 1, 1], [0, 0, 0, 0]])
    assert mean_iou([overlap(one, other, 4)]) == pytest.approx((5 / 6 + 2 / 3) / 2)
    maps, others = (np.stack([levels == label for label in range(3)]) for levels in (one, other))
    assert mean_iou([overlap(maps, others, 3)]) == pytest.approx((5 / 6 + 2 / 3) / 2)
    assert mean_iou([overlap(maps[2:], others[2:], 1)]) == 1.0
    assert mean_iou([]) is None


def test_a_set_without_masks_is_refused(place):
    with pytest.raises(InvalidSpec) as refused:
        place.run(model="to-3", dataset="flags")
    assert refused.value.param == "dataset"
